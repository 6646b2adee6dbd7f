//! Changes in AWS as data: planned before they are made, and reported afterwards. `plan`, mode
//! `Observe` and the reconciler share them.

use super::diff::{ChangeEffect, Step};
use super::names::AccountId;
use super::observed::Role;
use crate::policy::diff::{DiffPart, Difference, Term};
use crate::policy::{Document, repository};
use crate::text::list_some;
use std::fmt;

/// One call that changes something in AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub account: AccountId,
    /// The region, if the changed resource is regional.
    pub region: Option<String>,
    /// Whether something is created, changed or removed.
    pub effect: ChangeEffect,
    /// The action, for people: `set the trust policy of role miq-devops`.
    pub what: String,
    /// The previous state, for people, if it has a short description.
    pub found: Option<String>,
    /// The policy before and after, if a policy changes.
    pub policy: Option<PolicyChange>,
}

/// A policy before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// The document before the change; `None` if there was none, or none that can be read.
    pub before: Option<Document>,
    /// The document after the change; `None` if there is none any more.
    pub after: Option<Document>,
}

impl PolicyChange {
    /// Returns the policy that a step sets or deletes. `role` is the role before the step.
    fn of_step(step: &Step, role: Option<&Role>) -> Option<Self> {
        let (before, after) = match step {
            Step::CreateRole { trust, .. } => (None, Some(trust)),
            Step::UpdateTrust { trust, .. } => (role.map(|role| &role.trust), Some(trust)),
            Step::PutInlinePolicy {
                policy, document, ..
            } => (
                role.and_then(|role| role.inline.get(policy)),
                Some(document),
            ),
            Step::DeleteInlinePolicy { policy, .. } => {
                (role.and_then(|role| role.inline.get(policy)), None)
            }
            _ => return None,
        };
        Some(Self {
            before: before.and_then(|document| document.as_ref().ok()).cloned(),
            after: after.cloned(),
        })
    }

    /// Compares both documents, statement by statement.
    pub fn difference(&self) -> Difference {
        let none = Document::of([]);
        Difference::between(
            self.before.as_ref().unwrap_or(&none),
            self.after.as_ref().unwrap_or(&none),
        )
    }

    /// Describes the parts that the policy loses, at the length that people read in an Event.
    fn only_before(&self) -> String {
        const LISTED: usize = 4;
        let Difference {
            document,
            changed,
            only_left,
            only_right: _,
            same: _,
        } = self.difference();
        let of_statements = changed.into_iter().flat_map(|changed| changed.parts);
        let parts = document
            .into_iter()
            .chain(of_statements)
            .chain(only_left.into_iter().flat_map(|alone| alone.parts));
        let removed: Vec<String> = parts
            .filter(|part| !part.removed.is_empty())
            .map(removed_terms)
            .collect();
        if removed.is_empty() {
            return "only a part of this".into();
        }
        list_some(removed, LISTED, "; ", |more| format!("; and {more} more"))
    }
}

impl Change {
    /// Describes the effect of a step on a role. `role` is the role before the step, if it existed.
    pub fn of_step(account: &AccountId, step: &Step, role: Option<&Role>) -> Self {
        let policy = PolicyChange::of_step(step, role);
        let found = role.and_then(|role| found_before(step, role, policy.as_ref()));
        Self {
            account: account.clone(),
            region: None,
            effect: step.effect(role),
            what: step.to_string(),
            found,
            policy,
        }
    }

    /// Describes the change for an Event: the action, the place and the previous state.
    pub fn with_what_was_found(&self) -> String {
        self.found.as_ref().map_or_else(
            || self.to_string(),
            |found| format!("{self} (found: {found})"),
        )
    }

    /// Describes the change of a repository policy; `None` if the policy stays the same.
    pub fn of_repository(
        account: &AccountId,
        region: &str,
        repository: &str,
        found: Option<&Document>,
        change: &repository::PolicyUpdate,
    ) -> Option<Self> {
        let (effect, what, after) = match change {
            repository::PolicyUpdate::None => return None,
            repository::PolicyUpdate::Set(document) if found.is_none() => {
                (ChangeEffect::Create, "set", Some(document.clone()))
            }
            repository::PolicyUpdate::Set(document) => {
                (ChangeEffect::Change, "change", Some(document.clone()))
            }
            repository::PolicyUpdate::Delete => (ChangeEffect::Remove, "delete", None),
        };
        Some(Self {
            account: account.clone(),
            region: Some(region.to_owned()),
            effect,
            what: format!("{what} the policy of repository {repository}"),
            // Foreign statements are not disclosed to tenants.
            found: None,
            policy: Some(PolicyChange {
                before: found.cloned(),
                after,
            }),
        })
    }
}

fn removed_terms(part: DiffPart) -> String {
    let DiffPart {
        place,
        removed,
        added: _,
    } = part;
    let terms: Vec<String> = removed
        .into_iter()
        .map(|term| match term {
            Term::Text(text) | Term::Json(text) => text,
        })
        .collect();
    format!("{} {}", place.join(" "), terms.join(", "))
}

fn found_before(step: &Step, role: &Role, policy: Option<&PolicyChange>) -> Option<String> {
    match step {
        Step::UpdateTrust { .. } | Step::PutInlinePolicy { .. } => match policy {
            Some(PolicyChange { before: None, .. }) => {
                Some("no policy, or an unreadable one".into())
            }
            Some(change) => Some(change.only_before()),
            None => None,
        },
        Step::UpdateMaxSession { .. } => Some(format!("{} s", role.max_session_seconds)),
        Step::PutBoundary { .. } => Some(role.boundary.clone().unwrap_or_else(|| "none".into())),
        Step::TagRole { tags, .. } => {
            let other = tags
                .iter()
                .filter(|(key, value)| role.tags.get(*key) != Some(value))
                .map(|(key, _)| key);
            // Only the keys: the values on a role that was shared name other tenants' grants.
            let differences = other.map(|key| {
                if role.tags.contains_key(key) {
                    format!("another {key}")
                } else {
                    format!("no {key}")
                }
            });
            Some(differences.collect::<Vec<_>>().join(", "))
        }
        _ => None,
    }
}

/// Describes the action and its place for people.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            region,
            effect: _,
            what,
            found: _,
            policy: _,
        } = self;
        write!(f, "{what} in account {account}")?;
        region.iter().try_for_each(|region| write!(f, ", {region}"))
    }
}
