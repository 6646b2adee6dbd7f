//! IAM policy documents, as values: read, compare by meaning, merge, print. Pure: no AWS SDK, no Kubernetes client, no clock.
//!
//! - [`document`]: a document as its statements, with everything unknown kept.
//! - [`canonical`]: what a document means, for comparing what was sent with what came back.
//! - [`callers`]: whom a statement lets in, and who can share one.
//! - [`cover`]: whether our statements allow at least as much as somebody else's.
//! - [`pack`]: many grants' access in few statements, as far as it fits.
//! - [`sid`]: the mark by which an installation knows its own statements in a shared document.
//! - [`repository`]: many grants' statements in one repository policy, beside other people's.

pub mod callers;
pub mod canonical;
pub mod cover;
pub mod document;
pub mod pack;
pub mod repository;
pub mod sid;

pub use document::{Document, Statement, Unreadable};
pub use sid::Installation;
