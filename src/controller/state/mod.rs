//! State that reconciles share: caches, locks and queues. A restart loses it.
//!
//! - `watch_caches`: accounts and namespaces from the watches, and whether the caches are filled.
//! - `claims_cache`: each grant's claims as last written, ahead of the watch cache.
//! - `policy_cache`: managed policies and registry policies, which the operator only reads.
//! - `coalesce`: one writer per repository; concurrent callers share a sync.
//! - `slots`: work slots per account, and the order in which they are assigned.
//! - `pending`: grants that wait for their first slot, and which of them have changed.
//! - `requests`: requests for reconciles, updates of accounts, and sweeps.
//! - `keyed_locks`: a lock per key.
//! - `role_locks`: a lock per instance role, and which trust policies IAM refused.
//! - `lost`: grants that disappeared without a revocation.
//! - `unknown`: grants that this version cannot read.

pub mod claims_cache;
pub mod coalesce;
pub mod keyed_locks;
pub mod lost;
pub mod pending;
pub mod policy_cache;
pub mod requests;
pub mod role_locks;
pub mod slots;
pub mod unknown;
pub mod watch_caches;
