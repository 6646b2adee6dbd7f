//! The edge to AWS: sessions, the IAM, ECR and STS calls, and the classification of their errors.
//!
//! - [`session`]: one session per account, verified to be for that account.
//! - `session_tags`: the tags of the operator's own sessions.
//! - [`iam`]: reads roles and instance profiles, and executes steps.
//! - `managed_policies`: reads managed policies.
//! - [`ecr`]: reads and writes repository policies, reads registry policies and lists repositories.
//! - `interceptor`: wraps every call with the rate limit, metrics, a span and the check of its
//!   answer.
//! - [`write_permit`]: what every write needs, for as long as this replica leads.
//! - [`rate_limit`]: a token bucket for each service of each account.
//! - `retry`: which calls the SDK retries at once.
//! - [`answer`]: checks that a successful answer is complete.
//! - [`error`]: classifies errors by their code.
//! - `denial`: names the kind of policy that denied a call, for messages.
//! - `unresolved`: recognises host names that do not resolve.
//! - `causes`: the chain of an error's causes.
//! - `server_clock`: AWS's time, from the `Date` header of its answers.
//!
//! The operator makes no other AWS calls. This module decides nothing: [`crate::grant`] plans every
//! change.

pub mod answer;
mod causes;
mod denial;
pub mod ecr;
pub mod error;
pub mod iam;
mod interceptor;
pub mod managed_policies;
pub mod rate_limit;
mod retry;
mod server_clock;
pub mod session;
mod session_tags;
mod unresolved;
pub mod write_permit;

pub use error::AwsError;
pub use session::{Account, Aws};

#[cfg(test)]
pub mod tests;
