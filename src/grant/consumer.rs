//! Consumers: the principals that get access, and the instance role among them.

use super::Problem;
use super::model::{Consumer, ConsumerRole, Grant, Identities, RoleIdentity};
use super::names::{AccountId, Organization};
use super::parse::is_path;
use crate::api::account::Partition;
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, ConsumerSpec};
use crate::policy::arn::Arn;
use crate::policy::principals::{PrincipalSet, like};
use std::collections::BTreeSet;

/// The service principal of Lambda, the same in every partition.
const LAMBDA: &str = "lambda.amazonaws.com";

impl Consumer {
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
        let function = format!(
            "arn:{}:lambda:{{region}}:{id}:function:any",
            self.partition.name()
        );
        self.direct.then(|| (LAMBDA.to_owned(), function))
    }

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
        let made: BTreeSet<String> = applied
            .into_iter()
            .flat_map(|applied| &applied.instance_roles)
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
