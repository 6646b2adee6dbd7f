//! State that reconciles share: memory, caches, locks and queues. A restart loses it. Nothing here
//! knows `Context`.
//!
//! - `watch_caches`: accounts and namespaces from the watches, and whether the caches are filled.
//! - `claims_cache`: each grant's claims as last written, ahead of the watch cache.
//! - `policy_cache`: managed policies and registry policies, which the operator only reads.
//! - `repository`: identity of a repository, and the outcome of a sync of its policy.
//! - `policy_memory`: what is remembered of a repository policy from sync to sync.
//! - `contention`: notices another tool that keeps undoing our statements.
//! - `contested_status`: the policies under contention, for the account's status.
//! - `second_writers`: sightings of another writer, and which access is this process' own.
//! - `coalesce`: one writer per repository; concurrent callers share a sync.
//! - `read_backs`: shares the reads that prove revocations.
//! - `recent`: places where access was revoked lately.
//! - `restored`: which repositories were searched for lost records.
//! - `slots`: work slots per account, and the order in which they are assigned.
//! - `pending`: grants that wait for their first slot, and which of them have changed.
//! - `requests`: requests for reconciles, updates of accounts, and sweeps.
//! - `keyed_locks`: a lock per key.
//! - `role_locks`: a lock per instance role, and which trust policies IAM refused.
//! - `lost`: grants that disappeared without a revocation.
//! - `unknown`: grants that this version cannot read.

pub mod claims_cache;
pub mod coalesce;
pub mod contention;
pub mod contested_status;
pub mod keyed_locks;
pub mod lost;
pub mod pending;
pub mod policy_cache;
pub mod policy_memory;
pub mod read_backs;
pub mod recent;
pub mod repository;
pub mod requests;
pub mod restored;
pub mod role_locks;
pub mod second_writers;
pub mod slots;
pub mod unknown;
pub mod watch_caches;
