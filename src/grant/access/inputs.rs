//! Readings of both sides, from which access is judged.

use crate::grant::observed::Role;
use crate::policy::arn::Arn;
use crate::policy::evaluate::Named;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;

/// State that was read in AWS.
#[derive(Clone, Debug, PartialEq)]
pub struct Readings {
    /// The principals that get access through the grant.
    pub callers: Vec<Caller>,
    /// The registry role.
    pub registry_role: HolderReading,
    /// The repositories that the grant applies to.
    pub repositories: Vec<RepositoryReading>,
    /// For each region of the grant, the registry's own policy, which applies to every request to
    /// ECR; `None` if there is none.
    pub registry_policies: BTreeMap<String, Option<Named>>,
    /// The time of the readings.
    pub now: Timestamp,
}

/// Repository with its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct RepositoryReading {
    /// The region.
    pub region: String,
    /// The name.
    pub name: String,
    /// The policy; `None` if there is none.
    pub policy: Option<Named>,
}

/// Principal that gets access.
#[derive(Clone, Debug, PartialEq)]
pub enum Caller {
    /// One role.
    Role {
        /// Its ARN.
        arn: String,
        /// The role with its policies.
        holder: HolderReading,
    },
    /// Many principals that are not known individually.
    Many {
        /// A pattern of ARNs, an account's root, or an organization.
        name: String,
        /// The circumstances on which their access depends.
        why: String,
    },
    /// The Lambda service on behalf of an account's functions.
    Lambda {
        /// The service's name.
        service: String,
        /// The ARN of one of the functions, with `{region}` for the region.
        functions: String,
    },
}

/// What was read of a role and its policies.
#[derive(Clone, Debug, PartialEq)]
pub enum HolderReading {
    /// The role exists.
    Found(Box<Holder>),
    /// The role does not exist.
    Absent,
    /// It is not known whether it exists, for this reason, which says what to check there.
    Unknown(String),
}

/// Role with everything that its access depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// Its ARN.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// Its unique ID.
    pub id: Option<String>,
    /// Its tags, which its sessions have as well.
    pub tags: BTreeMap<String, String>,
    /// Its trust policy.
    pub trust: Named,
    /// Its inline and managed policies.
    pub identity: Vec<Named>,
    /// Its permissions boundary.
    pub boundary: Option<Named>,
}

impl Holder {
    /// Combines a role that was read with its managed policies, by their ARNs.
    pub fn of(role: &Role, managed: &BTreeMap<String, Named>) -> Self {
        let Role {
            arn,
            id,
            path: _,
            trust,
            max_session_seconds: _,
            boundary,
            tags,
            inline,
            attached,
        } = role;
        let inline = inline.iter().map(|(name, document)| {
            Named::parsed(format!("policy {name} of role {arn}"), document.clone())
        });
        let attached = attached.iter().map(|arn| managed_policy(arn, managed));
        Self {
            arn: arn.clone(),
            account: Arn::account_of(arn).unwrap_or_default().to_owned(),
            id: Some(id.clone()).filter(|id| !id.is_empty()),
            tags: tags.clone(),
            trust: Named::parsed(format!("the trust policy of role {arn}"), trust.clone()),
            identity: inline.chain(attached).collect(),
            boundary: boundary.as_ref().map(|arn| managed_policy(arn, managed)),
        }
    }

    /// Returns the managed policies that must be read for the role.
    pub fn managed_policies(role: &Role) -> impl Iterator<Item = &String> {
        role.attached.iter().chain(&role.boundary)
    }

    /// Returns a name for people.
    pub fn name(&self) -> String {
        format!("role {}", self.arn)
    }
}

fn managed_policy(arn: &str, managed: &BTreeMap<String, Named>) -> Named {
    managed
        .get(arn)
        .cloned()
        .unwrap_or_else(|| Named::unreadable(arn, "it was not read"))
}
