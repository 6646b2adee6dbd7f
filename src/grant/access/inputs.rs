//! What was read on both sides, for judging access by it.

use crate::grant::observed::Role;
use crate::policy::evaluate::Named;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Readings {
    /// Whoever gets access by the grant.
    pub callers: Vec<Caller>,
    /// The registry's role, if there is one; or why that is not known.
    pub registry_role: Result<Option<Holder>, String>,
    /// The repositories that the grant reaches.
    pub repositories: Vec<RepositoryReading>,
    /// For each region of the grant the registry's own policy, which applies to every request to
    /// ECR; `None` where there is none.
    pub registry_policies: BTreeMap<String, Option<Named>>,
    /// When it was read.
    pub now: Timestamp,
}

/// A repository, with its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct RepositoryReading {
    /// The region.
    pub region: String,
    /// The name.
    pub name: String,
    /// The policy; `None` where there is none.
    pub policy: Option<Named>,
}

/// Who gets access.
#[derive(Clone, Debug, PartialEq)]
pub enum Caller {
    /// One role.
    Role {
        /// Its ARN.
        arn: String,
        /// What is on it; `None`: it does not exist. Or why that is not known, and what to check
        /// there.
        holder: Result<Option<Box<Holder>>, String>,
    },
    /// Many that are not known one by one.
    Many {
        /// A pattern of ARNs, an account's root, or an organization.
        name: String,
        /// What it depends on.
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

/// A role with all that its access hangs on.
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
    /// A role as it was read, with the managed policies by their ARNs.
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
        let found = |arn: &String| {
            managed
                .get(arn)
                .cloned()
                .unwrap_or_else(|| Named::unreadable(arn, "it was not read"))
        };
        let inline = inline.iter().map(|(name, document)| {
            Named::parsed(format!("policy {name} of role {arn}"), document.clone())
        });
        Self {
            arn: arn.clone(),
            account: arn.split(':').nth(4).unwrap_or_default().to_owned(),
            id: Some(id.clone()).filter(|id| !id.is_empty()),
            tags: tags.clone(),
            trust: Named::parsed(format!("the trust policy of role {arn}"), trust.clone()),
            identity: inline.chain(attached.iter().map(found)).collect(),
            boundary: boundary.as_ref().map(found),
        }
    }

    /// The managed policies that have to be read for it.
    pub fn managed_policies(role: &Role) -> impl Iterator<Item = &String> {
        role.attached.iter().chain(&role.boundary)
    }

    /// For people.
    pub fn name(&self) -> String {
        format!("role {}", self.arn)
    }
}
