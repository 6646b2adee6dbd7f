//! Computes the desired state of both accounts from a [`Grant`].

use super::actions;
use super::model::{ConsumerRole, Grant, RegistryRole, RoleIdentity};
use super::names::{AccountId, RepositoryPattern};
use super::ownership::Owner;
use crate::policy::arn::Arn;
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::Contribution;
use crate::policy::{Document, Statement};
use std::collections::{BTreeMap, BTreeSet};

/// AWS limit on the characters of all inline policies of a role together.
pub const MAX_INLINE_CHARACTERS: usize = 10_240;
/// Maximum number of characters in a grant's own inline policy. The rest is reserved for the policy
/// that ends sessions.
pub const MAX_OWN_INLINE_CHARACTERS: usize = MAX_INLINE_CHARACTERS - 256;

/// Desired state for one grant. Repository policies are shared with other grants; only this grant's
/// contribution is computed here.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Desired {
    /// The role in the registry account.
    pub registry_role: Option<DesiredRole>,
    /// The role in the consumer account.
    pub instance: Option<DesiredInstance>,
}

/// Role as it should be.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct DesiredRole {
    /// The account.
    pub account: AccountId,
    /// The role's name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its purpose, as people see it in the console.
    pub description: String,
    /// The statement that allows principals, or EC2 for an instance role, to assume it.
    pub trust: Statement,
    /// The principals that the statement of a registry role allows, regardless of what they must
    /// present.
    pub lets_in: Vec<Contribution>,
    /// Whether an existing foreign role of that name is adopted if its owner consents.
    pub adopts: bool,
    /// The account's limit on the characters of a trust policy.
    pub max_trust_characters: usize,
    /// The maximum session duration, in seconds; `None` leaves it unchanged.
    pub max_session_seconds: Option<i32>,
    /// The ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// Our inline policy: name and document.
    pub inline: Option<(String, Document)>,
    /// The ARNs of the managed policies.
    pub attached: BTreeSet<String>,
    /// The tags that name the owner.
    pub tags: BTreeMap<String, String>,
}

/// Instance role and its profile as they should be.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct DesiredInstance {
    /// The role.
    pub role: DesiredRole,
    /// The profile's name. The profile has the role's path and tags. `None` if the role is foreign.
    pub profile: Option<String>,
    /// Whether the role is foreign, so that only this grant's part of it is managed.
    pub extends: bool,
}

impl Grant {
    /// Returns the desired state of the accounts for this grant.
    pub fn desired(&self, owner: &Owner) -> Desired {
        let instance = match &self.instance_role {
            ConsumerRole::Kept {
                role,
                instance_profile,
                extends,
            } => {
                let mut role = self.instance_role(role, owner);
                if *extends {
                    // A foreign role gets neither our tags nor our boundary.
                    role.tags.clear();
                    role.boundary = None;
                }
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

    /// Returns whether the grant contributes to repository policies at all.
    pub fn touches_repository_policies(&self) -> bool {
        self.direct || self.named_role().is_some()
    }

    /// Returns the ARN of the registry's own role, if repository policies should name it.
    pub fn named_role(&self) -> Option<String> {
        self.role
            .as_ref()
            .filter(|role| role.name_in_repository_policy)
            .map(|role| role.identity.arn())
    }

    /// Returns this grant's contributions to the policy of each of its repositories in a region.
    /// The registry role is named only if it is known to exist and to belong to this grant. If a
    /// role does not exist, ECR refuses the entire document, other grants' statements included. If
    /// a role is foreign, naming it must not give it access.
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

    /// Returns whether the grant is for this repository.
    pub fn reaches(&self, region: &str, repository: &str) -> bool {
        self.regions.contains(region)
            && self
                .repositories
                .iter()
                .any(|pattern| pattern.matches(repository))
    }

    /// Returns whether the grant names exactly this repository, so that it can be missing.
    pub fn names(&self, repository: &str) -> bool {
        self.repositories
            .contains(&RepositoryPattern::Name(repository.to_owned()))
    }

    /// Returns the repositories that the grant names individually.
    pub fn named_repositories(&self) -> impl Iterator<Item = &String> {
        self.repositories
            .iter()
            .filter_map(|pattern| match pattern {
                RepositoryPattern::Name(name) => Some(name),
                RepositoryPattern::Prefix(_) => None,
            })
    }

    /// Returns the ARNs of the repositories. Prefixes are used unchanged, because `*` has the same
    /// meaning in IAM.
    fn repository_arns(&self) -> Vec<String> {
        let Self {
            partition,
            registry,
            ..
        } = self;
        let mut arns = Vec::new();
        for region in &self.regions {
            for repository in &self.repositories {
                let name = repository.to_string();
                arns.push(Arn::repository(
                    partition.name(),
                    region,
                    registry.as_str(),
                    &name,
                ));
            }
        }
        arns
    }

    fn ecr_statements(&self) -> Vec<Statement> {
        vec![
            Statement::allow([actions::GET_TOKEN]).on(["*"]),
            Statement::allow(actions::of(self.access)).on(self.repository_arns()),
        ]
    }

    /// Returns the policy that a role of the consumer needs: cross-account access must be allowed
    /// on both sides.
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
            attached: managed_policies
                .iter()
                .map(|policy| policy.arn(self.partition))
                .collect(),
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
