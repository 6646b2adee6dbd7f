//! Syncs the repository policies, which many grants share.
//!
//! - `contributions`: the contributions of all grants to one policy.
//! - `sync`: reads, merges and writes one policy.
//! - `resync`: syncs policies again that were written lately.
//! - `membership`: which grants are in the policy after a sync, which are not, and why.
//! - `preview`: what a sync would change, without a write.
//! - `read_back`: reads a policy back to prove that access is revoked.
//! - `evidence`: which principals exist, to find the one that ECR refuses.

pub mod contributions;
pub mod evidence;
pub mod membership;
pub mod preview;
pub mod read_back;
pub mod resync;
pub mod sync;
