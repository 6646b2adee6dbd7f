//! Reasons why a reconcile ends without reporting its outcome.

use crate::controller::supervise::Panicked;

/// Reason why a reconcile ended without reporting its outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Cluster(#[from] kube::Error),
    /// This replica's Lease is about to run out: a write could overtake one of the next leader.
    #[error("{0}")]
    NotLeading(String),
    /// A bug, which concerns this grant alone.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}
