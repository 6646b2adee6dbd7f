//! From a [`Grant`] to what should be true in both accounts.

use super::actions;
use super::names::{AccountId, GrantName, RepositoryPattern};
use super::validate::{ConsumerRole, Grant, RegistryRole, RoleIdentity};
use crate::api::grant::ManagedPolicy;
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::Contribution;
use crate::policy::{Document, Installation, Statement};
use std::collections::{BTreeMap, BTreeSet};

/// What AWS counts for a role's inline policies together, in characters.
pub const MAX_INLINE_CHARACTERS: usize = 10_240;
/// The most characters of a grant's own inline policy: some are left for the one that ends
/// sessions.
pub const MAX_OWN_INLINE_CHARACTERS: usize = MAX_INLINE_CHARACTERS - 256;

/// What should exist for one grant. Repository policies are shared with other grants; here is only
/// this one's contribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The role in the registry account.
    pub registry_role: Option<DesiredRole>,
    /// The role in the consumer account.
    pub instance: Option<DesiredInstance>,
}

/// A role as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRole {
    /// The account.
    pub account: AccountId,
    /// The role's name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// What it is for, as people see it in the console.
    pub description: String,
    /// The statement that lets others assume it, and for an instance role EC2.
    pub trust: Statement,
    /// Whom a registry's role lets in by it, whatever they must present.
    pub lets_in: Vec<Contribution>,
    /// Whether a role of that name that others made is taken over, where they consent.
    pub adopts: bool,
    /// The most characters that the account takes in a trust policy.
    pub max_trust_characters: usize,
    /// The longest session, in seconds; unset: whatever it is.
    pub max_session_seconds: Option<i32>,
    /// The ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// Our inline policy: name and document.
    pub inline: Option<(String, Document)>,
    /// The ARNs of the managed policies.
    pub attached: BTreeSet<String>,
    /// The tags that say whose it is.
    pub tags: BTreeMap<String, String>,
}

/// An instance role and its profile as they should be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredInstance {
    /// The role.
    pub role: DesiredRole,
    /// The profile's name. It has the role's path and tags. None where the role is others'.
    pub profile: Option<String>,
    /// Whether the role is others', and only what is this grant's on it is kept.
    pub extends: bool,
}

/// By which tags what is made in AWS is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The installation.
    pub installation: Installation,
    /// The grant.
    pub grant: GrantName,
    /// The resource's UID: it differs after deletion and recreation under the same name.
    pub uid: String,
}

/// The tag that names the installation.
pub const TAG_INSTALLATION: &str = "registrygrants.dev/installation";
/// The tag of the operator's own sessions that names the namespace for whose grants it works.
pub const TAG_NAMESPACE: &str = "registrygrants.dev/namespace";
/// The tag that names the grant.
pub const TAG_GRANT: &str = "registrygrants.dev/grant";
/// The tag that names the resource's UID.
pub const TAG_GRANT_UID: &str = "registrygrants.dev/grant-uid";

/// All of them.
pub const OUR_TAGS: [&str; 3] = [TAG_INSTALLATION, TAG_GRANT, TAG_GRANT_UID];
/// The tag by which a role's owner lets this operator put its policy on it: `true`, or an
/// installation's ID.
pub const TAG_ALLOW_EXTEND: &str = "registrygrants.dev/allow-extend";
/// The tag by which a role's owner lets one grant take the role over: the installation's ID and the
/// grant's namespace and name, with `/` between.
pub const TAG_ALLOW_ADOPT: &str = "registrygrants.dev/allow-adopt";

impl Owner {
    /// The tags of what this grant owns.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::from([
            (TAG_INSTALLATION.into(), self.installation.to_string()),
            (TAG_GRANT.into(), self.grant.to_string()),
        ]);
        // A grant that is in no cluster yet has none.
        if !self.uid.is_empty() {
            tags.insert(TAG_GRANT_UID.into(), self.uid.clone());
        }
        tags
    }

    /// Whether something with these tags is this grant's. The UID does not count: of one
    /// installation and one name there is only one grant at a time, and after a restore from backup
    /// it has another UID.
    pub fn owns(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(TAG_INSTALLATION)
            .is_some_and(|tag| tag == self.installation.as_str())
            && tags
                .get(TAG_GRANT)
                .is_some_and(|tag| *tag == self.grant.to_string())
    }

    /// The name of this grant's inline policies.
    pub fn policy_name(&self) -> String {
        format!(
            "registry-grants-{}",
            self.grant.in_aws(&self.installation, 112)
        )
    }

    /// The Sid of this installation's statement in an instance role's trust policy.
    pub fn trust_sid(&self) -> String {
        self.installation.sid("instance trust")
    }
}

impl Grant {
    /// What should exist in the accounts for this grant.
    pub fn desired(&self, owner: &Owner) -> Desired {
        let instance = match &self.instance_role {
            ConsumerRole::Kept {
                role,
                instance_profile,
                extends,
            } => {
                let role = self.instance_role(role, owner);
                // A role of others' gets neither our tags nor our boundary.
                let role = match extends {
                    true => DesiredRole {
                        tags: BTreeMap::new(),
                        boundary: None,
                        ..role
                    },
                    false => role,
                };
                Some(DesiredInstance {
                    role,
                    profile: instance_profile.clone(),
                    extends: *extends,
                })
            }
            ConsumerRole::NotRequested | ConsumerRole::NotManaged => None,
        };
        Desired {
            registry_role: self
                .role
                .as_ref()
                .map(|role| self.registry_role(role, owner)),
            instance,
        }
    }

    /// Whether repository policies carry this grant at all.
    pub fn touches_repository_policies(&self) -> bool {
        self.direct || self.named_role().is_some()
    }

    /// The ARN of the registry's own role, where repository policies are to name it.
    pub fn named_role(&self) -> Option<String> {
        self.role
            .as_ref()
            .filter(|role| role.name_in_repository_policy)
            .map(|role| role.identity.arn())
    }

    /// What this grant asks of the policy of each of its repositories in a region. Its role is
    /// named only where it is known to exist and to be this grant's: a role that does not exist
    /// makes ECR refuse the whole document, other grants' statements included, and a role of
    /// somebody else's must get no access by our naming it.
    pub fn contributions(&self, region: &str, role_is_ours: bool) -> Vec<Contribution> {
        let consumer = self
            .direct
            .then(|| self.consumer.callers(self.partition, &self.registry));
        let named_role = self
            .named_role()
            .filter(|_| role_is_ours)
            .map(|arn| PrincipalSet::named([arn]));
        let lambda = self
            .consumer
            .lambda(self.partition, region)
            .filter(|_| self.direct);
        let actions = actions::of(self.access);
        let of_grant = consumer.into_iter().chain(named_role);
        of_grant
            .map(|callers| Contribution {
                actions: actions.clone(),
                callers,
            })
            .chain(lambda.map(|callers| Contribution {
                actions: actions::of_lambda(),
                callers,
            }))
            .collect()
    }

    /// Whether the grant is for this repository.
    pub fn reaches(&self, region: &str, repository: &str) -> bool {
        self.regions.contains(region)
            && self
                .repositories
                .iter()
                .any(|pattern| pattern.matches(repository))
    }

    /// Whether the grant names just this repository, so that it can be missing.
    pub fn names(&self, repository: &str) -> bool {
        self.repositories
            .contains(&RepositoryPattern::Name(repository.to_owned()))
    }

    /// The repositories that the grant names one by one.
    pub fn named_repositories(&self) -> impl Iterator<Item = &String> {
        self.repositories
            .iter()
            .filter_map(|pattern| match pattern {
                RepositoryPattern::Name(name) => Some(name),
                RepositoryPattern::Prefix(_) => None,
            })
    }

    /// The ARNs of the repositories, prefixes as they are: IAM reads `*` as we do.
    fn repository_arns(&self) -> Vec<String> {
        let Self {
            partition,
            registry,
            ..
        } = self;
        let arn = |region: &String, repository| {
            format!(
                "arn:{}:ecr:{region}:{registry}:repository/{repository}",
                partition.name()
            )
        };
        self.regions
            .iter()
            .flat_map(|region| self.repositories.iter().map(move |r| arn(region, r)))
            .collect()
    }

    fn ecr_statements(&self) -> Vec<Statement> {
        vec![
            Statement::allow([actions::GET_TOKEN]).on(["*"]),
            Statement::allow(actions::of(self.access)).on(self.repository_arns()),
        ]
    }

    /// What a role of the consumer needs in its own policies: cross-account access takes both
    /// sides.
    pub fn consumer_permissions(&self) -> Document {
        let mut statements = if self.direct {
            self.ecr_statements()
        } else {
            Vec::new()
        };
        if let Some(role) = &self.role {
            statements.push(Statement::allow(["sts:AssumeRole"]).on([role.identity.arn()]));
        }
        Document::of(statements)
    }

    fn registry_role(&self, role: &RegistryRole, owner: &Owner) -> DesiredRole {
        let RegistryRole {
            identity,
            managed_policies,
            name_in_repository_policy: _,
            max_session_seconds,
            external_id,
            adopts,
        } = role;
        let callers = self.consumer.callers(self.partition, &self.registry);
        let mut trust = Statement::allow(["sts:AssumeRole"]).to(&callers);
        if let Some(external_id) = external_id {
            trust = trust.only_if("StringEquals", "sts:ExternalId", [external_id]);
        }
        let inline = managed_policies
            .is_empty()
            .then(|| (owner.policy_name(), Document::of(self.ecr_statements())));
        let managed_arn = |policy: &ManagedPolicy| policy.arn(self.partition);
        DesiredRole {
            description: format!(
                "{} reaches ECR repositories by this role",
                capitalized(&self.consumer.to_string())
            ),
            trust,
            lets_in: vec![Contribution {
                actions: ["sts:AssumeRole".to_owned()].into(),
                callers,
            }],
            adopts: *adopts,
            max_session_seconds: Some(*max_session_seconds),
            inline,
            attached: managed_policies.iter().map(managed_arn).collect(),
            ..Self::role(identity, owner)
        }
    }

    fn instance_role(&self, identity: &RoleIdentity, owner: &Owner) -> DesiredRole {
        DesiredRole {
            description: format!(
                "EC2 instances reach ECR repositories of account {} by this role",
                self.registry
            ),
            trust: Statement::allow(["sts:AssumeRole"])
                .sid(owner.trust_sid())
                .to_service(self.partition.ec2_service()),
            inline: Some((owner.policy_name(), self.consumer_permissions())),
            ..Self::role(identity, owner)
        }
    }

    fn role(identity: &RoleIdentity, owner: &Owner) -> DesiredRole {
        let RoleIdentity {
            account,
            partition: _,
            name,
            settings,
        } = identity;
        DesiredRole {
            account: account.clone(),
            name: name.clone(),
            path: settings.path.clone(),
            description: String::new(),
            trust: Statement::allow(["sts:AssumeRole"]),
            lets_in: Vec::new(),
            adopts: false,
            max_trust_characters: usize::try_from(settings.max_trust_policy_characters)
                .unwrap_or(2048),
            max_session_seconds: None,
            boundary: settings.permissions_boundary.clone(),
            inline: None,
            attached: BTreeSet::new(),
            tags: owner.tags(),
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}
