//! The paths of access, which spec and status name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A path by which the consumer reaches the repositories.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum AccessPath {
    /// Through the repository policy.
    Direct,
    /// Through a role in the registry account.
    AssumeRole,
}
