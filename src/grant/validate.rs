//! Converts a resource to a [`Grant`] that is checked once and admitted by the accounts' rules. The
//! API server's admission rules are a convenience; this module decides.

use super::Problem;
use super::admission::{AdmissionRequest, GrantNamespace, instance_role_refused};
use super::model::{Consumer, ConsumerRole, Grant, Identities, RegistryRole, RoleIdentity};
use super::names::{AccountId, GrantName};
use super::parse::{Parsed, ParsedConsumer, parse};
use crate::api::account::{AWSAccount, Partition, RoleSettings};
use crate::api::conditions::Reason;
use crate::api::grant::{
    AccessPath, CrossAccountRegistryGrantSpec as Spec, DeletionPolicy, Management, RegistryRoleSpec,
};
use crate::policy::Installation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Lookup of cluster state other than the grant.
pub trait AccountLookup: Sync {
    /// Returns the `AWSAccount` of this ID.
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>>;
    /// Returns the namespace's labels; `None` if the namespace is not known (yet).
    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>>;
}

/// Checks a new spec by itself and against the accounts' rules.
///
/// # Errors
/// Every violation at once. The first one's reason is [`Reason::Invalid`] if the spec itself is
/// wrong.
pub fn validate(
    name: &GrantName,
    spec: &Spec,
    lookup: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Grant, Vec<Problem>> {
    let Judged {
        grant,
        invalid,
        refused,
    } = judge(name, spec, lookup, installation)?;
    let left_out = grant.leaves_out_its_instance_role();
    let problems: Vec<Problem> = invalid.into_iter().chain(refused).chain(left_out).collect();
    if problems.is_empty() {
        Ok(grant)
    } else {
        Err(problems)
    }
}

/// Grant that a spec describes, with the objections to it.
pub(super) struct Judged {
    pub grant: Grant,
    /// The violations of the spec in these accounts.
    pub invalid: Vec<Problem>,
    /// The requests that no rule admits.
    pub refused: Vec<Problem>,
}

/// Judges a spec, new or applied before.
///
/// # Errors
/// If the spec cannot even be understood, or the registry account is not known.
pub(super) fn judge(
    name: &GrantName,
    spec: &Spec,
    lookup: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Judged, Vec<Problem>> {
    let Parsed {
        registry,
        consumer,
        repositories,
    } = parse(spec)?;
    let accounts = Accounts::of(registry, &consumer, lookup)?;
    let partition = accounts.partition();
    let instance = accounts.instance_identity(spec);
    let consumer = match consumer {
        ParsedConsumer::Account(id) => Consumer::Account {
            who: Identities::of(&spec.consumer, &id, partition, instance.as_ref()),
            id,
            lambda: spec.consumer.lambda == Some(true),
        },
        ParsedConsumer::Organization(parts) => Consumer::Organization(parts),
    };
    let grant = Grant {
        name: name.clone(),
        spec: spec.clone(),
        access: spec.access,
        direct: spec.paths.contains(&AccessPath::Direct),
        partition,
        registry: accounts.registry_id.clone(),
        regions: spec.registry.regions.iter().cloned().collect(),
        repositories,
        role: accounts.registry_role(name, spec, installation),
        replaces: spec.registry.replace_sids.iter().cloned().collect(),
        consumer,
        instance_role: accounts.instance_role(spec, instance),
    };
    let labels = lookup.namespace_labels(&name.namespace);
    let home = GrantNamespace {
        name,
        labels: labels.as_ref(),
    };
    Ok(Judged {
        invalid: accounts.partition_problems(spec),
        refused: accounts.refused(&grant, home),
        grant,
    })
}

/// Accounts that a spec names.
struct Accounts {
    registry_id: AccountId,
    registry: Arc<AWSAccount>,
    /// `None` if the consumer is an organization.
    consumer_id: Option<AccountId>,
    /// `None` if the consumer is an organization, or an account that is not managed.
    consumer: Option<Arc<AWSAccount>>,
}

impl Accounts {
    /// Looks the accounts up.
    ///
    /// # Errors
    /// If the registry account is not known.
    fn of(
        registry_id: AccountId,
        consumer: &ParsedConsumer,
        lookup: &dyn AccountLookup,
    ) -> Result<Self, Vec<Problem>> {
        let Some(registry) = lookup.account(&registry_id) else {
            return Err(vec![no_account(&registry_id)]);
        };
        let consumer_id = match consumer {
            ParsedConsumer::Account(id) => Some(id.clone()),
            ParsedConsumer::Organization(_) => None,
        };
        Ok(Self {
            registry_id,
            registry,
            consumer: consumer_id.as_ref().and_then(|id| lookup.account(id)),
            consumer_id,
        })
    }

    fn partition(&self) -> Partition {
        self.registry.spec.partition
    }

    /// Returns the registry role, if the spec requests path `AssumeRole`.
    fn registry_role(
        &self,
        grant: &GrantName,
        spec: &Spec,
        installation: &Installation,
    ) -> Option<RegistryRole> {
        if !spec.paths.contains(&AccessPath::AssumeRole) {
            return None;
        }
        let RegistryRoleSpec {
            name,
            managed_policies,
            name_in_repository_policy,
            max_session_seconds,
            external_id,
            adopt,
            path,
        } = spec.registry.role.clone().unwrap_or_default();
        Some(RegistryRole {
            identity: RoleIdentity {
                account: self.registry_id.clone(),
                partition: self.partition(),
                name: name.unwrap_or_else(|| grant.in_aws(installation, 64)),
                settings: under(path.as_deref(), &self.registry.spec.roles),
            },
            managed_policies: managed_policies.into_iter().collect(),
            name_in_repository_policy,
            max_session_seconds,
            external_id,
            adopts: adopt,
        })
    }

    /// Returns the identity of the instance role, if the spec requests one.
    fn instance_identity(&self, spec: &Spec) -> Option<RoleIdentity> {
        let asked = spec.consumer.instance_role.as_ref()?;
        let account = self.consumer_id.as_ref()?;
        // A foreign role is under the path that its creator chose.
        let path = match asked.management {
            Management::Create => None,
            Management::Extend => Some(asked.path.as_deref().unwrap_or("/")),
        };
        // In an unmanaged account the path is not known, so the default is used.
        let settings = match &self.consumer {
            Some(account) => under(path, &account.spec.roles),
            None => under(path, &RoleSettings::default()),
        };
        Some(RoleIdentity {
            account: account.clone(),
            partition: self.partition(),
            name: asked.name.clone(),
            settings,
        })
    }

    /// Returns the management of the instance role. `identity`: the role that the spec requests.
    fn instance_role(&self, spec: &Spec, identity: Option<RoleIdentity>) -> ConsumerRole {
        let Some(role) = identity else {
            return ConsumerRole::NotRequested;
        };
        let Some(asked) = spec
            .consumer
            .instance_role
            .as_ref()
            .filter(|_| self.consumer.is_some())
        else {
            return ConsumerRole::NotManaged;
        };
        let profile = asked.instance_profile.as_ref().unwrap_or(&asked.name);
        match asked.management {
            Management::Create => ConsumerRole::Kept {
                role,
                instance_profile: Some(profile.clone()),
                extends: false,
            },
            Management::Extend => ConsumerRole::Kept {
                role,
                instance_profile: None,
                extends: true,
            },
        }
    }

    /// Returns the requests of the grant that no rule admits.
    fn refused(&self, grant: &Grant, home: GrantNamespace<'_>) -> Vec<Problem> {
        let retains = grant.spec.deletion_policy == DeletionPolicy::Retain;
        let request = AdmissionRequest {
            home,
            access: grant.access,
            repositories: &grant.repositories,
            consumer: &grant.consumer,
            role: grant.role.as_ref(),
            replaces: &grant.replaces,
            retains,
        };
        let rules = self
            .registry
            .spec
            .registry
            .iter()
            .flat_map(|side| &side.rules);
        let mut refused = Vec::new();
        refused.extend(request.refused_by(&grant.registry, rules));
        if let ConsumerRole::Kept { role, extends, .. } = &grant.instance_role {
            let management = if *extends {
                Management::Extend
            } else {
                Management::Create
            };
            let rules = self
                .consumer
                .iter()
                .flat_map(|account| &account.spec.consumer)
                .flat_map(|side| &side.rules);
            refused.extend(instance_role_refused(
                role, management, home, retains, rules,
            ));
        }
        refused
    }

    /// Returns the contradictions between the spec and the accounts' partitions.
    fn partition_problems(&self, spec: &Spec) -> Vec<Problem> {
        let partition = self.partition();
        let mut problems = Vec::new();
        if let Some(consumer) = &self.consumer
            && consumer.spec.partition != partition
        {
            problems.push(Problem::new(
                Reason::Invalid,
                format!(
                    "spec.consumer.accountID: account {} is in partition {}, account {} in {}; AWS has no access across partitions",
                    spec.consumer.account_id.as_deref().unwrap_or_default(),
                    consumer.spec.partition.name(),
                    spec.registry.account_id,
                    partition.name()
                ),
            ));
        }
        for region in &spec.registry.regions {
            if !partition.has_region(region) {
                problems.push(Problem::new(
                    Reason::Invalid,
                    format!(
                        "spec.registry.regions: {region} is not a region of partition {}",
                        partition.name()
                    ),
                ));
            }
        }
        problems
    }
}

/// Returns the account's settings, with another path if one is given.
fn under(path: Option<&str>, settings: &RoleSettings) -> RoleSettings {
    RoleSettings {
        path: path.unwrap_or(&settings.path).to_owned(),
        ..settings.clone()
    }
}

/// Reports that the registry account has no `AWSAccount`.
pub fn no_account(id: &AccountId) -> Problem {
    Problem::new(
        Reason::AccountNotFound,
        format!(
            "there is no AWSAccount {id}: a cluster admin must create one, with a rule under spec.registry.rules that admits this grant"
        ),
    )
}
