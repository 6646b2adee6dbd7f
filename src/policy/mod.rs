//! IAM policy documents, as values: read, compare by meaning, merge, print. Pure: no AWS SDK, no
//! Kubernetes client, no clock.
//!
//! - [`arn`]: Amazon Resource Names.
//! - [`document`]: a document as a list of statements. Unknown keys are kept; a document that could
//!   not be written again without loss is rejected.
//! - `parse_error`: the reason why a text is not a policy document.
//! - `parse`: reads a document's JSON strictly, so that it can be written again without loss.
//! - [`canonical`]: a document's meaning, for comparing a document that AWS returns with the one
//!   that was sent.
//! - [`diff`]: differences in meaning between two documents, statement by statement.
//! - [`principals`]: the principals of a statement, and which of them can share one.
//! - [`installation`]: the Sids by which an installation recognises its own statements in a shared
//!   document.
//! - [`repository`]: merges the contributions of many grants and the foreign statements into one
//!   repository policy, and checks what is written.
//! - [`dead_ids`]: unique IDs of deleted principals, because of which AWS refuses a document.
//! - [`evaluate`]: decides whether policies allow a request, and reports what is missing if they do
//!   not.

pub mod arn;
pub mod canonical;
pub mod dead_ids;
pub mod diff;
pub mod document;
pub mod evaluate;
pub mod installation;
mod parse;
mod parse_error;
pub mod principals;
pub mod repository;

#[cfg(test)]
pub(crate) mod tests;

pub use document::{Document, Statement};
pub use installation::Installation;
pub use parse_error::ParseError;
