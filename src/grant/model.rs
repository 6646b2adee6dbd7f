//! A checked grant and its parts, as plain data. [`validate`](mod@super::validate) makes them of a
//! resource.

use super::names::{AccountId, GrantName, Organization, RepositoryPattern};
use crate::api::account::{Partition, RoleSettings};
use crate::api::grant::{Access, CrossAccountRegistryGrantSpec as Spec, ManagedPolicy};
use std::collections::BTreeSet;
use std::fmt;

/// Grant that was checked, and that the accounts' rules admit.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The resource's namespace and name.
    pub name: GrantName,
    /// The spec that it was made from.
    pub spec: Spec,
    /// The access level.
    pub access: Access,
    /// Whether repository policies allow the consumer.
    pub direct: bool,
    /// The partition of both accounts.
    pub partition: Partition,
    /// The registry account.
    pub registry: AccountId,
    /// The regions of the repositories.
    pub regions: BTreeSet<String>,
    /// The repositories in each of the regions.
    pub repositories: BTreeSet<RepositoryPattern>,
    /// The role in the registry account, if path `AssumeRole` is requested.
    pub role: Option<RegistryRole>,
    /// The Sids of foreign statements that this grant replaces.
    pub replaces: BTreeSet<String>,
    /// The consumer.
    pub consumer: Consumer,
    /// The role that is managed in the consumer account.
    pub instance_role: ConsumerRole,
}

/// Role in the registry account.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryRole {
    /// Name and location.
    pub identity: RoleIdentity,
    /// The AWS managed policies that it has instead of an inline policy.
    pub managed_policies: BTreeSet<ManagedPolicy>,
    /// Whether repository policies name the role.
    pub name_in_repository_policy: bool,
    /// The maximum session duration, in seconds.
    pub max_session_seconds: i32,
    /// The external ID that the consumer must present.
    pub external_id: Option<String>,
    /// Whether an existing role of that name is adopted if its owner consents.
    pub adopts: bool,
}

/// Name of a role, with the settings for roles in its account.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleIdentity {
    /// The account.
    pub account: AccountId,
    /// The account's partition.
    pub partition: Partition,
    /// The role's name.
    pub name: String,
    /// Path, boundary and limits in that account.
    pub settings: RoleSettings,
}

impl RoleIdentity {
    /// Returns the role's ARN.
    pub fn arn(&self) -> String {
        let Self {
            account,
            partition,
            name,
            settings,
        } = self;
        format!(
            "arn:{}:iam::{account}:role{}{name}",
            partition.name(),
            settings.path
        )
    }

    /// Returns the part of the ARN after `role/`.
    pub fn path_and_name(&self) -> String {
        format!(
            "{}{}",
            self.settings.path.trim_start_matches('/'),
            self.name
        )
    }
}

/// Role in the consumer account.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerRole {
    /// No role was requested.
    NotRequested,
    /// A role was requested, but the consumer account has no `AWSAccount`.
    NotManaged,
    /// The operator manages the role.
    Kept {
        /// The role.
        role: RoleIdentity,
        /// The name of its instance profile, if the operator manages the profile, too.
        instance_profile: Option<String>,
        /// Whether the role is foreign.
        extends: bool,
    },
}

/// Account or organization that gets access.
#[derive(Clone, Debug, PartialEq)]
pub enum Consumer {
    /// One account.
    Account {
        /// Its ID.
        id: AccountId,
        /// The identities of the account that get access.
        who: Identities,
        /// Whether the Lambda service may pull images for the account's functions.
        lambda: bool,
    },
    /// Every account in any of these organizations or units.
    Organization(BTreeSet<Organization>),
}

/// Identities of an account.
#[derive(Clone, Debug, PartialEq)]
pub enum Identities {
    /// All identities that the account itself allows.
    WholeAccount,
    /// These roles, as ARN patterns.
    Roles(BTreeSet<String>),
}

impl Consumer {
    /// Returns the account, if the consumer is one.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Account { id, .. } => Some(id),
            Self::Organization(_) => None,
        }
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { id, .. } => write!(f, "account {id}"),
            // Paths are long, and their number is enough to identify the consumer.
            Self::Organization(parts) => match parts.iter().collect::<Vec<_>>()[..] {
                [Organization::Unit(path)] => write!(f, "organizational unit {path}"),
                [Organization::Unit(path), ..] => {
                    let id = path.split('/').next().unwrap_or_default();
                    write!(
                        f,
                        "{} organizational units of organization {id}",
                        parts.len()
                    )
                }
                [Organization::Whole(id), ..] => write!(f, "organization {id}"),
                [] => write!(f, "no organization"),
            },
        }
    }
}
