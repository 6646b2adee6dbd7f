//! Checks whether the rules of the `AWSAccount`s admit a grant's requests. An unset field admits
//! nothing, and one rule must admit the entire grant.

use super::Problem;
use super::model::{Consumer, RegistryRole, RoleIdentity};
use super::names::{AccountId, GrantName, Organization, RepositoryPattern};
use crate::api::AWSAccountSpec;
use crate::api::account::{ConsumerRule, Namespaces, RegistryRule};
use crate::api::conditions::Reason;
use crate::api::grant::{Access, Management};
use std::collections::{BTreeMap, BTreeSet};

/// Namespace of a grant.
#[derive(Clone, Copy, Debug)]
pub struct GrantNamespace<'a> {
    /// The grant.
    pub name: &'a GrantName,
    /// Its namespace's labels; `None` if they are not known (yet). No selector matches then.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Requests of a grant to the registry account.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'a> {
    /// The grant's namespace.
    pub home: GrantNamespace<'a>,
    /// The access level.
    pub access: Access,
    /// The repositories.
    pub repositories: &'a BTreeSet<RepositoryPattern>,
    /// The consumer.
    pub consumer: &'a Consumer,
    /// The registry role, if one is requested.
    pub role: Option<&'a RegistryRole>,
    /// The Sids of foreign statements that the grant replaces.
    pub replaces: &'a BTreeSet<String>,
    /// Whether its access should stay when it is deleted.
    pub retains: bool,
}

impl AdmissionRequest<'_> {
    /// Explains why no rule admits the grant, in terms of the tenant's request. It does not
    /// disclose what else the account's rules admit.
    pub fn refused_by<'r>(
        &self,
        account: &AccountId,
        rules: impl Iterator<Item = &'r RegistryRule>,
    ) -> Option<Problem> {
        let namespace = &self.home.name.namespace;
        let refusals: Vec<Vec<String>> = rules
            .filter(|rule| self.home.is_in(&rule.namespaces))
            .map(|rule| self.not_admitted(rule))
            .collect();
        let why = match refusals.iter().min_by_key(|refusal| refusal.len()) {
            Some(fits) if fits.is_empty() => return None,
            Some(closest) => format!("no rule admits {}", closest.join(", ")),
            None => "no rule is for this namespace".into(),
        };
        Some(Problem::new(
            Reason::NotAdmitted,
            format!(
                "AWSAccount {account} does not admit this grant in namespace {namespace}: {why}. A cluster admin can add a rule under spec.registry.rules; one rule must admit the entire grant"
            ),
        ))
    }

    fn not_admitted(&self, rule: &RegistryRule) -> Vec<String> {
        let RegistryRule {
            namespaces: _,
            repositories,
            max_access,
            consumers,
            organizations,
            allow_replace,
            allow_retain,
            managed_policies,
        } = rule;
        let patterns: Vec<RepositoryPattern> = repositories
            .iter()
            .filter_map(|text| RepositoryPattern::recorded(text))
            .collect();
        let mut refused: Vec<String> = self
            .repositories
            .iter()
            .filter(|asked| !patterns.iter().any(|pattern| pattern.covers(asked)))
            .map(|asked| format!("repository {asked}"))
            .collect();
        if self.access > *max_access {
            refused.push(format!("access {:?}", self.access));
        }
        match self.consumer {
            Consumer::Account { id, .. }
                if consumers.iter().any(|admitted| admitted == id.as_str()) => {}
            Consumer::Account { id, .. } => refused.push(format!("consumer {id}")),
            Consumer::Organization(parts) => {
                let admitted: Vec<Organization> = organizations
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect();
                let outside = parts
                    .iter()
                    .filter(|part| !admitted.iter().any(|rule| rule.covers(part)));
                refused.extend(outside.map(|part| format!("organization {part}")));
            }
        }
        if !self.replaces.is_empty() && !allow_replace {
            refused.push("replaceSids".into());
        }
        if self.retains && !allow_retain {
            refused.push("deletionPolicy Retain".into());
        }
        let policies = self.role.iter().flat_map(|role| &role.managed_policies);
        refused.extend(
            policies
                .filter(|p| !managed_policies.contains(p))
                .map(|p| format!("managed policy {p:?}")),
        );
        refused
    }
}

/// Explains why no rule admits an instance role.
pub fn instance_role_refused<'r>(
    role: &RoleIdentity,
    management: Management,
    home: GrantNamespace,
    retains: bool,
    mut rules: impl Iterator<Item = &'r ConsumerRule>,
) -> Option<Problem> {
    let path_and_name = role.path_and_name();
    let is_admitted = rules.any(|rule| {
        let ConsumerRule {
            namespaces,
            roles,
            management: admitted,
            allow_retain,
        } = rule;
        home.is_in(namespaces)
            && roles
                .iter()
                .any(|pattern| role_matches(&path_and_name, pattern))
            && admitted.contains(&management)
            && (*allow_retain || !retains)
    });
    if is_admitted {
        return None;
    }
    let retained = match (management, retains) {
        (Management::Create, false) => "",
        (Management::Create, true) => " with deletionPolicy Retain",
        (Management::Extend, false) => " with management Extend",
        (Management::Extend, true) => " with management Extend and deletionPolicy Retain",
    };
    Some(Problem::new(
        Reason::NotAdmitted,
        format!(
            "AWSAccount {} does not admit instance role {path_and_name}{retained} for namespace {}: a cluster admin can add a rule under spec.consumer.rules",
            role.account, home.name.namespace
        ),
    ))
}

/// Returns whether a role, as path and name, matches a rule's pattern.
fn role_matches(path_and_name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path_and_name.starts_with(prefix),
        None => pattern == path_and_name,
    }
}

/// Returns whether an account is open, as a consumer, to the grants of this namespace at all. The
/// operator discloses nothing about any other account to them.
pub fn is_open_to(
    name: &GrantName,
    labels: Option<&BTreeMap<String, String>>,
    account: &AWSAccountSpec,
) -> bool {
    let home = GrantNamespace { name, labels };
    account
        .consumer
        .iter()
        .flat_map(|side| &side.rules)
        .any(|rule| home.is_in(&rule.namespaces))
}

impl GrantNamespace<'_> {
    fn is_in(self, namespaces: &Namespaces) -> bool {
        let Namespaces { names, selector } = namespaces;
        let selected = self
            .labels
            .zip(selector.clone())
            .is_some_and(|(labels, selector)| {
                let empty = selector
                    .match_labels
                    .as_ref()
                    .is_none_or(BTreeMap::is_empty)
                    && selector
                        .match_expressions
                        .as_ref()
                        .is_none_or(Vec::is_empty);
                let parsed = kube::core::Selector::try_from(selector);
                !empty
                    && parsed
                        .is_ok_and(|selector| kube::core::SelectorExt::matches(&selector, labels))
            });
        selected || names.contains(&self.name.namespace)
    }
}
