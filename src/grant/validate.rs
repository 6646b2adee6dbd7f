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
use std::collections::{BTreeMap, BTreeSet};
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
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Grant, Vec<Problem>> {
    let Judged {
        grant,
        invalid,
        refused,
    } = judge(name, spec, directory, installation)?;
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
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Judged, Vec<Problem>> {
    let Parsed {
        registry,
        consumer,
        repositories,
    } = parse(spec)?;
    let consumer_id = match &consumer {
        ParsedConsumer::Account(id) => Some(id.clone()),
        ParsedConsumer::Organization(_) => None,
    };
    let Some(registry_account) = directory.account(&registry) else {
        return Err(vec![no_account(&registry)]);
    };
    let consumer_account = consumer_id.as_ref().and_then(|id| directory.account(id));
    let partition = registry_account.spec.partition;
    let invalid = other_partition(spec, partition, consumer_account.as_deref());

    let identity = |account: &AccountId, name: String, settings: &RoleSettings| RoleIdentity {
        account: account.clone(),
        partition,
        name,
        settings: settings.clone(),
    };
    let role = spec.paths.contains(&AccessPath::AssumeRole).then(|| {
        let asked = spec.registry.role.clone().unwrap_or_default();
        let RegistryRoleSpec {
            name: role,
            managed_policies,
            name_in_repository_policy,
            max_session_seconds,
            external_id,
            adopt,
            path,
        } = asked;
        let role = role.unwrap_or_else(|| name.in_aws(installation, 64));
        let settings = under(path.as_ref(), &registry_account.spec.roles);
        RegistryRole {
            identity: identity(&registry, role, &settings),
            managed_policies: managed_policies.into_iter().collect(),
            name_in_repository_policy,
            max_session_seconds,
            external_id,
            adopts: adopt,
        }
    });
    let labels = directory.namespace_labels(&name.namespace);
    let home = GrantNamespace {
        name,
        labels: labels.as_ref(),
    };
    // In an unmanaged account the path is not known, so the default is used.
    let settings = consumer_account
        .as_ref()
        .map_or_else(RoleSettings::default, |account| account.spec.roles.clone());
    let instance = spec.consumer.instance_role.as_ref();
    let instance_identity = instance.zip(consumer_id.as_ref()).map(|(asked, id)| {
        // A foreign role is under the path that its creator chose.
        let elsewhere = match asked.management {
            Management::Create => None,
            Management::Extend => Some(asked.path.clone().unwrap_or_else(|| "/".into())),
        };
        identity(
            id,
            asked.name.clone(),
            &under(elsewhere.as_ref(), &settings),
        )
    });
    let consumer = match consumer {
        ParsedConsumer::Account(id) => {
            let who = Identities::of(&spec.consumer, &id, partition, instance_identity.as_ref());
            Consumer::Account {
                id,
                who,
                lambda: spec.consumer.lambda == Some(true),
            }
        }
        ParsedConsumer::Organization(parts) => Consumer::Organization(parts),
    };
    let replaces: BTreeSet<String> = spec.registry.replace_sids.iter().cloned().collect();
    let retains = spec.deletion_policy == DeletionPolicy::Retain;
    let asked = AdmissionRequest {
        home,
        access: spec.access,
        repositories: &repositories,
        consumer: &consumer,
        role: role.as_ref(),
        replaces: &replaces,
        retains,
    };
    let rules = registry_account
        .spec
        .registry
        .iter()
        .flat_map(|side| &side.rules);
    let mut refused: Vec<Problem> = asked.refused_by(&registry, rules).into_iter().collect();
    if let (Some(role), Some(account)) = (&instance_identity, &consumer_account) {
        let rules = account.spec.consumer.iter().flat_map(|side| &side.rules);
        let management = instance.map(|asked| asked.management).unwrap_or_default();
        refused.extend(instance_role_refused(
            role, management, home, retains, rules,
        ));
    }
    let instance_role = match (instance_identity, instance, &consumer_account) {
        (Some(role), Some(asked), Some(_)) => {
            let extends = asked.management == Management::Extend;
            let instance_profile = asked
                .instance_profile
                .clone()
                .unwrap_or_else(|| asked.name.clone());
            ConsumerRole::Kept {
                role,
                instance_profile: (!extends).then_some(instance_profile),
                extends,
            }
        }
        (Some(_), _, _) => ConsumerRole::NotManaged,
        (None, _, _) => ConsumerRole::NotRequested,
    };
    let grant = Grant {
        name: name.clone(),
        spec: spec.clone(),
        access: spec.access,
        direct: spec.paths.contains(&AccessPath::Direct),
        partition,
        registry,
        regions: spec.registry.regions.iter().cloned().collect(),
        repositories,
        role,
        replaces,
        consumer,
        instance_role,
    };
    Ok(Judged {
        grant,
        invalid,
        refused,
    })
}

/// Returns the account's settings, with another path if one is given.
fn under(path: Option<&String>, settings: &RoleSettings) -> RoleSettings {
    RoleSettings {
        path: path.unwrap_or(&settings.path).clone(),
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

fn other_partition(
    spec: &Spec,
    partition: Partition,
    consumer: Option<&AWSAccount>,
) -> Vec<Problem> {
    let invalid = |text: String| Problem::new(Reason::Invalid, text);
    let across = consumer.map(|account| account.spec.partition).filter(|other| *other != partition).map(|other| {
        invalid(format!(
            "spec.consumer.accountID: account {} is in partition {}, account {} in {}; AWS has no access across partitions",
            spec.consumer.account_id.as_deref().unwrap_or_default(),
            other.name(),
            spec.registry.account_id,
            partition.name()
        ))
    });
    let regions = spec
        .registry
        .regions
        .iter()
        .filter(|region| !partition.has_region(region))
        .map(|region| {
            invalid(format!(
                "spec.registry.regions: {region} is not a region of partition {}",
                partition.name()
            ))
        });
    across.into_iter().chain(regions).collect()
}
