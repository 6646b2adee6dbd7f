//! Includes only the sources of the policy library, the names, the texts and the checks of AWS's
//! answers. They are pure, so this builds in a minute, without the AWS and Kubernetes clients of
//! the main crate.

#[path = "../../src/aws/answer/mod.rs"]
pub mod answer;
#[path = "../../src/grant/names.rs"]
pub mod names;
#[path = "../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../src/text.rs"]
pub mod text;
