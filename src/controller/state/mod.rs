//! What the reconciliations share: caches, locks and queues.

pub mod claims_cache;
pub mod coalesce;
pub mod keyed_locks;
pub mod lost;
pub mod pending;
pub mod policy_cache;
pub mod role_locks;
pub mod slots;
pub mod unknown;
pub mod watch_caches;
