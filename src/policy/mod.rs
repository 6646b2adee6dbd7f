//! IAM policy documents, as values: read, compare by meaning, merge, print. Pure: no AWS SDK, no
//! Kubernetes client, no clock.
//!
//! - [`document`]: a document as its statements, with everything unknown kept; what could not be
//!   kept is not read.
//! - [`canonical`]: what a document means, for comparing what was sent with what came back.
//! - [`callers`]: whom a statement lets in, and who can share one.
//! - [`carried`]: what our statements in a document allow already.
//! - [`cover`]: whether our statements allow at least as much as somebody else's.
//! - [`held`]: what a document allows already, one action and one caller at a time.
//! - [`keep`]: the rule that every write passes: it takes nothing away that grants ask for.
//! - [`pack`]: many grants' access in few statements, as far as it fits.
//! - [`dead_ids`]: principals that were deleted, which keep AWS from writing a document.
//! - [`diff`]: where two documents differ in meaning, statement by statement.
//! - [`evaluate`]: whether policies allow a request, and what is missing where they do not.
//! - [`scope`]: which part of what is asked goes into the next document.
//! - [`suspects`]: other people's statements for which AWS may refuse a document.
//! - [`search`]: which document to write next where AWS refuses one.
//! - [`sid`]: the mark by which an installation knows its own statements in a shared document.
//! - [`repository`]: many grants' statements in one repository policy, beside other people's.

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
