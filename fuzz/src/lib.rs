//! The policy library, the names, texts and the check of AWS's answers by their sources alone. They
//! are pure, so this builds in a minute, without the AWS and Kubernetes clients that the whole crate
//! would bring along.

#[path = "../../src/aws/answer/mod.rs"]
pub mod answer;
#[path = "../../src/grant/names.rs"]
pub mod names;
#[path = "../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../src/text.rs"]
pub mod text;
