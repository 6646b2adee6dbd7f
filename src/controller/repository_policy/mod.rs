//! Keeps the repository policies, which many grants share.

pub mod contention;
pub mod contested;
pub mod contributions;
pub mod evidence;
pub mod membership;
pub mod preview;
pub mod read_back;
pub mod sync;
