//! The edge to AWS: sessions per account, the IAM, ECR and STS calls that are used and no others,
//! and what their errors mean. What touches AWS decides nothing: what to do is planned in
//! [`crate::grant`].

pub mod answer;
pub mod ca_bundle;
mod causes;
mod clock;
mod denial;
pub mod ecr;
pub mod error;
pub mod iam;
mod interceptor;
mod managed_policies;
pub mod rate_limit;
pub mod session;
mod session_tags;
mod unresolved;

pub use error::AwsError;
pub use session::{Account, Aws};

#[cfg(test)]
mod tests;
