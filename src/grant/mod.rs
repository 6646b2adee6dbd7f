//! What a grant means, and what follows from it. Pure: no AWS SDK, no Kubernetes client, no clock,
//! no I/O.
//!
//! ```text
//! resource ─ validate ─→ Grant ─ desired ─→ Desired ─┐
//!                                                    ├─ diff ─→ steps ─(applied elsewhere)─→ Outcome ─ status ─→ status
//!                          what AWS has ─→ Observed ─┘
//! ```

pub mod access;
pub mod actions;
pub mod admission;
pub mod change;
pub mod claims;
pub mod consumer;
pub mod desired;
pub mod diff;
pub mod names;
pub mod observed;
pub mod operator_role;
pub mod parse;
pub mod partition;
pub mod standing;
pub mod status;
pub mod sweep;
pub mod validate;
pub mod warnings;

#[cfg(test)]
mod tests;

pub use names::{AccountId, GrantName, RepositoryPattern};
pub use standing::{Standing, meant, observed, standing, to_retain};
pub use validate::{AccountLookup, Grant, validate};

use crate::api::conditions::Reason;

/// Something that keeps a grant, or a part of it, from being true: for people, with what to do
/// about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The condition's reason.
    pub reason: Reason,
    /// What happened, where, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Several problems as one: the first one's reason, everybody's message.
    pub fn join(problems: &[Self]) -> Option<Self> {
        let first = problems.first()?;
        let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        Some(Self {
            reason: first.reason,
            message: messages.join("; "),
        })
    }
}
