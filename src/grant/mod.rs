//! Pure core: from a grant to its steps and its status. No AWS SDK, no Kubernetes client, no I/O.
//!
//! ```text
//! resource ─ validate ─→ Grant ─ desired ─→ Desired ─┐
//!                                                    ├─ diff ─→ steps ─(applied elsewhere)─→ Outcome ─ status ─→ status
//!                          what AWS has ─→ Observed ─┘
//! ```
//!
//! - [`names`]: checked names: account IDs, repository patterns, grants, organizations.
//! - [`partition`]: AWS partitions and their regions.
//! - [`model`]: a checked grant and its parts, as plain data.
//! - [`consumer`]: the principals that get access: of an account, or an organization.
//! - [`actions`]: the ECR actions of each access.
//! - [`parse`]: checks a spec field by field.
//! - [`admission`]: whether the accounts' rules admit what a grant asks.
//! - [`validate`](mod@validate): makes a [`Grant`] of a resource: parsed and admitted.
//! - [`decision`]: what should happen to a grant, and which spec is in force: the current one, the
//!   last applied one, or none.
//! - [`claims`]: where a grant may have written: recorded before the first write.
//! - [`ownership`]: the owner of a resource in AWS, and the tags that name it.
//! - [`desired`]: the roles and contributions that a grant should have in both accounts.
//! - [`observed`](mod@observed): what AWS was found to have.
//! - [`diff`]: the steps from observed to desired.
//! - [`change`]: one planned or finished change, for people.
//! - [`access`]: judges whether clients get access, and names the missing link.
//! - [`status`]: computes the resource's status from the outcome.
//! - [`sweep`]: which orphans may be removed.
//! - [`warnings`]: risky settings of an `AWSAccount`.
//! - [`operator_role`]: the IAM documents of the operator's own role.
//!
//! The core has no clock either: the caller passes the time.

pub mod access;
pub mod actions;
pub mod admission;
pub mod change;
pub mod claims;
pub mod consumer;
pub mod decision;
pub mod desired;
pub mod diff;
pub mod model;
pub mod names;
pub mod observed;
pub mod operator_role;
pub mod ownership;
pub mod parse;
pub mod partition;
pub mod status;
pub mod sweep;
pub mod validate;
pub mod warnings;

#[cfg(test)]
mod tests;

pub use decision::{Decision, GrantInput, RuleContext, grant_if_enforced, meant};
pub use model::Grant;
pub use names::{AccountId, Contributor, GrantName, RepositoryPattern};
pub use validate::{AccountLookup, validate};

use crate::api::conditions::Reason;

/// Reason why a grant, or a part of it, is not in place, for people, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The condition's reason.
    pub reason: Reason,
    /// The cause, the place and the next step.
    pub message: String,
}

impl Problem {
    /// Creates a problem with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Joins several problems into one, with the first one's reason and all messages.
    pub fn join(problems: &[Self]) -> Option<Self> {
        let first = problems.first()?;
        let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        Some(Self {
            reason: first.reason,
            message: messages.join("; "),
        })
    }
}
