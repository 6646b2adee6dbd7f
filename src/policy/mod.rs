//! IAM policy documents, as values: read, compare by meaning, merge, print. Pure: no AWS SDK, no
//! Kubernetes client, no clock.
//!
//! - [`document`]: a document as its statements, with everything unknown kept; what could not be
//!   kept is not read.
//! - `parse`: reads a document's JSON strictly, so that it can be written again without loss.
//! - [`canonical`]: what a document means, for comparing what was sent with what came back.
//! - [`diff`]: where two documents differ in meaning, statement by statement.
//! - [`principals`]: the principals of a statement, and which of them can share one.
//! - [`installation`]: the mark by which an installation knows its own statements in a shared
//!   document.
//! - [`repository`]: merges many grants' contributions into one repository policy, beside foreign
//!   statements.
//! - [`pack`]: packs contributions into few statements, as far as they fit.
//! - [`held`]: what a document allows already, one action and one principal at a time.
//! - [`carried`]: what our statements in a document allow already.
//! - [`keep`]: the rule that every write passes: it takes nothing away that grants ask for.
//! - [`retain`]: moves access into statements that no operator owns, for `deletionPolicy: Retain`.
//! - [`subsumes`]: whether our statements allow at least as much as a foreign one.
//! - [`scope`]: which part of the contributions goes into the next document.
//! - [`search`]: which document to write next where AWS refuses one.
//! - [`suspects`]: foreign statements for which AWS may refuse a document.
//! - [`dead_ids`]: principals that were deleted, which keep AWS from writing a document.
//! - [`evaluate`]: whether policies allow a request, and what is missing where they
//!   do not.

pub mod canonical;
pub mod carried;
pub mod dead_ids;
pub mod diff;
pub mod document;
pub mod evaluate;
pub mod held;
pub mod installation;
pub mod keep;
pub mod pack;
mod parse;
pub mod principals;
pub mod repository;
pub mod retain;
pub mod scope;
pub mod search;
pub mod subsumes;
pub mod suspects;

#[cfg(test)]
pub(crate) mod tests;

pub use document::{Document, ParseError, Statement};
pub use installation::Installation;
