//! Consumers: the identities of an account, or an entire organization.

use super::Problem;
use super::names::{AccountId, Organization};
use super::parse::is_path;
use super::validate::{ConsumerRole, Grant, RoleIdentity};
use crate::api::account::Partition;
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, ConsumerSpec};
use crate::policy::arn::Arn;
use crate::policy::principals::{PrincipalSet, like};
use std::collections::BTreeSet;
use std::fmt;

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

    /// Returns the consumer's principals, as a statement in the registry account names them.
    pub fn callers(&self, partition: Partition, registry: &AccountId) -> PrincipalSet {
        match self {
            Self::Account { id, who, lambda: _ } => {
                let root = Arn::root(partition.name(), id.as_str());
                match who {
                    Identities::WholeAccount => PrincipalSet::named([root]),
                    Identities::Roles(arns) => PrincipalSet::named_like(root, arns.iter().cloned()),
                }
            }
            Self::Organization(parts) => {
                // The spec names either an organization or units of it, never both.
                let whole = parts
                    .iter()
                    .all(|part| matches!(part, Organization::Whole(_)));
                let texts = parts.iter().map(ToString::to_string);
                let registry = registry.as_str();
                if whole {
                    PrincipalSet::in_organizations(texts, registry)
                } else {
                    PrincipalSet::in_units(texts, registry)
                }
            }
        }
    }

    /// Returns the Lambda service acting for the account's functions, if the grant asks for it.
    /// Lambda pulls images only from its own region.
    pub fn lambda(&self, partition: Partition, region: &str) -> Option<PrincipalSet> {
        match self {
            Self::Account {
                id,
                who: _,
                lambda: true,
            } => {
                let functions = Arn::function(partition.name(), region, id.as_str(), "*");
                Some(PrincipalSet::service_for(LAMBDA, [functions]))
            }
            Self::Account { .. } | Self::Organization(_) => None,
        }
    }
}

impl Grant {
    /// Returns the Lambda service and the ARN of one function for which it pulls images. The ARN
    /// contains the placeholder `{region}`.
    pub fn lambda_functions(&self) -> Option<(String, String)> {
        let Consumer::Account {
            id,
            who: _,
            lambda: true,
        } = &self.consumer
        else {
            return None;
        };
        let function = Arn::function(self.partition.name(), "{region}", id.as_str(), "any");
        self.direct.then(|| (LAMBDA.to_owned(), function))
    }
}

/// The service principal of Lambda, the same in every partition.
const LAMBDA: &str = "lambda.amazonaws.com";

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

impl Identities {
    /// Returns the identities that the spec names in an account. If it names neither the whole
    /// account nor roles, only the instance role gets access.
    pub fn of(
        spec: &ConsumerSpec,
        account: &AccountId,
        partition: Partition,
        instance: Option<&RoleIdentity>,
    ) -> Self {
        if spec.whole_account == Some(true) {
            return Self::WholeAccount;
        }
        Self::Roles(match &spec.roles {
            Some(roles) => roles
                .iter()
                .map(|role| Arn::role(partition.name(), account.as_str(), "/", role))
                .collect(),
            None => instance.map(RoleIdentity::arn).into_iter().collect(),
        })
    }
}

impl Grant {
    /// Names the instance role by the path under which it was created, if that role alone gets
    /// access. By now the account's settings may have another path or be gone, and that must not
    /// revoke access.
    pub(super) fn where_its_role_is(mut self, applied: Option<&Applied>) -> Self {
        let asked = &self.spec.consumer;
        let alone = asked.whole_account != Some(true) && asked.roles.is_none();
        let Consumer::Account { id, who, lambda: _ } = &mut self.consumer else {
            return self;
        };
        let name = asked.instance_role.as_ref().map(|role| role.name.as_str());
        let made = applied
            .into_iter()
            .flat_map(|applied| &applied.instance_roles);
        let made: BTreeSet<String> = made
            .filter(|made| alone && Some(made.role.as_str()) == name && is_path(&made.path))
            .map(|made| Arn::role(self.partition.name(), id.as_str(), &made.path, &made.role))
            .collect();
        if !made.is_empty() {
            *who = Identities::Roles(made);
        }
        self
    }

    /// Reports that the instance role is not among the roles that get access. Managing it would
    /// then have no purpose.
    pub(super) fn leaves_out_its_instance_role(&self) -> Option<Problem> {
        let ConsumerRole::Kept {
            role,
            instance_profile: _,
            extends: _,
        } = &self.instance_role
        else {
            return None;
        };
        let Consumer::Account {
            who: Identities::Roles(patterns),
            ..
        } = &self.consumer
        else {
            return None;
        };
        let arn = role.arn();
        (!patterns.iter().any(|pattern| like(pattern, &arn))).then(|| {
            Problem::new(
                Reason::Invalid,
                format!(
                    "spec.consumer.roles: the instance role would get no access; add {} to the list",
                    role.path_and_name()
                ),
            )
        })
    }
}
