//! What is changed in AWS, as data: planned before it is done, and told after. `plan`, mode `Observe` and the reconciler have the same.

use super::diff::Step;
use super::names::AccountId;
use super::observed::Role;
use crate::policy::diff::Difference;
use crate::policy::{Document, repository};
use std::fmt;

/// One call that changes something in AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub account: AccountId,
    /// The region, for what is in one.
    pub region: Option<String>,
    /// Whether something comes, changes or goes.
    pub effect: Effect,
    /// What is done, for people: `set the trust policy of role miq-devops`.
    pub what: String,
    /// Where a policy changes: how it was, and how it is then.
    pub policy: Option<PolicyChange>,
}

/// A policy before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// As it was; `None` where there was none, or none that can be read.
    pub before: Option<Document>,
    /// As it is then; `None` where there is none any more.
    pub after: Option<Document>,
}

/// What a change does to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Something is there that was not.
    Create,
    /// Something is otherwise than it was.
    Change,
    /// Something is there no more.
    Remove,
}

impl PolicyChange {
    /// Where the two differ, statement by statement.
    pub fn difference(&self) -> Difference {
        let none = Document::of([]);
        Difference::between(self.before.as_ref().unwrap_or(&none), self.after.as_ref().unwrap_or(&none))
    }
}

impl Change {
    /// What a step does to a role as it was before it, where there is one.
    pub fn of_step(account: &AccountId, step: &Step, role: Option<&Role>) -> Self {
        let inline =
            |policy: &String| role.and_then(|role| role.inline.get(policy)).and_then(|found| found.clone().ok());
        let (effect, policy) = match step {
            Step::CreateRole { trust, .. } => {
                (Effect::Create, Some(PolicyChange { before: None, after: Some(trust.clone()) }))
            }
            Step::UpdateTrust { trust, .. } => {
                let before = role.and_then(|role| role.trust.clone().ok());
                (Effect::Change, Some(PolicyChange { before, after: Some(trust.clone()) }))
            }
            Step::PutInlinePolicy { policy, document, .. } => {
                let there = role.is_some_and(|role| role.inline.contains_key(policy));
                let effect = if there { Effect::Change } else { Effect::Create };
                (effect, Some(PolicyChange { before: inline(policy), after: Some(document.clone()) }))
            }
            Step::DeleteInlinePolicy { policy, .. } => {
                (Effect::Remove, Some(PolicyChange { before: inline(policy), after: None }))
            }
            Step::CreateProfile { .. } | Step::AddRoleToProfile { .. } | Step::AttachPolicy { .. } => {
                (Effect::Create, None)
            }
            Step::UpdateMaxSession { .. }
            | Step::PutBoundary { .. }
            | Step::TagRole { .. }
            | Step::UntagRole { .. }
            | Step::TagProfile { .. }
            | Step::UntagProfile { .. } => (Effect::Change, None),
            Step::DetachPolicy { .. }
            | Step::DeleteRole { .. }
            | Step::RemoveRoleFromProfile { .. }
            | Step::DeleteProfile { .. } => (Effect::Remove, None),
        };
        Self { account: account.clone(), region: None, effect, what: step.to_string(), policy }
    }

    /// What becomes of a repository's policy; nothing where it stays.
    pub fn of_repository(
        account: &AccountId,
        region: &str,
        repository: &str,
        found: Option<&Document>,
        change: &repository::Change,
    ) -> Option<Self> {
        let (effect, what, after) = match change {
            repository::Change::None => return None,
            repository::Change::Set(document) if found.is_none() => (Effect::Create, "set", Some(document.clone())),
            repository::Change::Set(document) => (Effect::Change, "change", Some(document.clone())),
            repository::Change::Delete => (Effect::Remove, "delete", None),
        };
        Some(Self {
            account: account.clone(),
            region: Some(region.to_owned()),
            effect,
            what: format!("{what} the policy of repository {repository}"),
            policy: Some(PolicyChange { before: found.cloned(), after }),
        })
    }
}

/// For people: what is done, and where.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, region, effect: _, what, policy: _ } = self;
        write!(f, "{what} in account {account}")?;
        region.iter().try_for_each(|region| write!(f, ", {region}"))
    }
}
