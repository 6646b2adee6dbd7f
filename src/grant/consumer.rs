//! Who gets access: a consumer account's identities, or a whole organization.

use super::Problem;
use super::names::{AccountId, Organization};
use super::parse::is_path;
use super::validate::{ConsumerRole, Grant, RoleIdentity};
use crate::api::account::Partition;
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, ConsumerSpec};
use crate::policy::principals::{PrincipalSet, like};
use std::collections::BTreeSet;
use std::fmt;

/// Who gets access.
#[derive(Clone, Debug, PartialEq)]
pub enum Consumer {
    /// One account.
    Account {
        /// Its number.
        id: AccountId,
        /// Which of its identities.
        who: Identities,
        /// Whether the Lambda service gets the images for its functions.
        lambda: bool,
    },
    /// Every account in any of these.
    Organization(BTreeSet<Organization>),
}

/// Which identities of an account.
#[derive(Clone, Debug, PartialEq)]
pub enum Identities {
    /// All that the account itself allows.
    WholeAccount,
    /// These roles, as ARN patterns.
    Roles(BTreeSet<String>),
}

impl Consumer {
    /// The account, where it is one.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Account { id, .. } => Some(id),
            Self::Organization(_) => None,
        }
    }

    /// Its identities, as a statement of the registry's account tells them.
    pub fn callers(&self, partition: Partition, registry: &AccountId) -> PrincipalSet {
        match self {
            Self::Account { id, who, lambda: _ } => {
                let root = format!("arn:{}:iam::{id}:root", partition.name());
                match who {
                    Identities::WholeAccount => PrincipalSet::named([root]),
                    Identities::Roles(arns) => PrincipalSet::named_like(root, arns.iter().cloned()),
                }
            }
            Self::Organization(parts) => {
                // The spec names an organization, or units of it: never both.
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

    /// The Lambda service on behalf of the account's functions, where asked for. Lambda takes
    /// images of its own region alone.
    pub fn lambda(&self, partition: Partition, region: &str) -> Option<PrincipalSet> {
        match self {
            Self::Account {
                id,
                who: _,
                lambda: true,
            } => {
                let functions = format!("arn:{}:lambda:{region}:{id}:function:*", partition.name());
                Some(PrincipalSet::service_for(LAMBDA, [functions]))
            }
            Self::Account { .. } | Self::Organization(_) => None,
        }
    }
}

impl Grant {
    /// The Lambda service, and the ARN of one of the functions for which it fetches images, with
    /// `{region}` for the region.
    pub fn lambda_functions(&self) -> Option<(String, String)> {
        let Consumer::Account {
            id,
            who: _,
            lambda: true,
        } = &self.consumer
        else {
            return None;
        };
        let function = format!(
            "arn:{}:lambda:{{region}}:{id}:function:any",
            self.partition.name()
        );
        self.direct.then(|| (LAMBDA.to_owned(), function))
    }
}

/// The service principal of Lambda, the same in every partition.
const LAMBDA: &str = "lambda.amazonaws.com";

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { id, .. } => write!(f, "account {id}"),
            // Paths are long; how many there are is enough to know what is meant.
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
    /// What the spec says of an account's identities. Where it says neither the whole account nor
    /// roles, it is the instance role alone.
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
                .map(|role| format!("arn:{}:iam::{account}:role/{role}", partition.name()))
                .collect(),
            None => instance.map(RoleIdentity::arn).into_iter().collect(),
        })
    }
}

impl Grant {
    /// Where the instance role alone gets access, it is named where it was made: the account's
    /// settings may say another path by now, or be gone, and access must not go with them.
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
            .map(|made| {
                format!(
                    "arn:{}:iam::{id}:role{}{}",
                    self.partition.name(),
                    made.path,
                    made.role
                )
            })
            .collect();
        if !made.is_empty() {
            *who = Identities::Roles(made);
        }
        self
    }

    /// That the instance role is not among the roles which get access: it would be kept for
    /// nothing.
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
