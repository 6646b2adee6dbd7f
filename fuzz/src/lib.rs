//! The policy library by its sources alone. It is pure, so this builds in a minute, without the AWS and Kubernetes clients that the
//! whole crate would bring along.

#[path = "../../src/policy/mod.rs"]
pub mod policy;
