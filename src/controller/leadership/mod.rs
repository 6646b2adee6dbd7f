//! Leader election: of several replicas one works, and the others stand by. A Lease determines
//! which.
//!
//! - `election`: takes, renews and returns the Lease.
//!
//! A replica leads for a term: from winning the Lease until it loses or returns it. Each term has
//! its own [`Leadership`], and no write begins without its [`WritePermit`]. A permit is given only
//! while the Lease outlives the time limit of a write. A term that has ended never gives another
//! one: work that began under it cannot write in a later term. The time limit is the same for calls
//! to AWS and for writes in the cluster.
//!
//! A replica that loses the Lease stands by again in the same process. A replica that receives a
//! stop signal finishes the writes that have begun, drops the rest of the work and returns the
//! Lease.

mod election;
#[cfg(test)]
mod tests;

pub use crate::aws::write_permit::{Leadership, WritePermit};
pub use election::{Election, Leases};

use crate::controller::supervise::Stop;
use crate::telemetry::Telemetry;
use crate::telemetry::health::Stage;
use futures::FutureExt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Works while this replica leads, and stands by otherwise, until a stop signal. Each term has a
/// new future of `work`, and the last one is dropped before the Lease is returned or requested
/// again.
pub async fn take_part<L: Leases, W: Future<Output = ()>>(
    mut election: Election<L>,
    write_bound: Duration,
    telemetry: &Telemetry,
    stop: Stop,
    work: impl Fn(Arc<Leadership>) -> W,
) -> Result<(), tokio::task::JoinError> {
    loop {
        let leadership = Arc::new(Leadership::none(write_bound));
        telemetry.readiness.set(Stage::StandsBy);
        tokio::select! {
            () = election.win(&leadership, &telemetry.readiness) => {}
            () = stop.clone() => {
                // The stop signal may arrive in the very moment in which this replica takes the
                // Lease.
                election.release().await;
                return Ok(());
            }
        }
        telemetry.readiness.set(Stage::Fills("grants"));
        telemetry.metrics.leader.set(1);
        let (finished, end) = tokio::sync::oneshot::channel::<()>();
        let (held, readiness) = (leadership.clone(), telemetry.readiness.clone());
        // A task of its own, so that the Lease is renewed however busy the work is. It ends with
        // the set.
        let mut holding = JoinSet::new();
        holding.spawn(async move {
            let lost = tokio::select! {
                lost = election.hold(&held, &readiness) => Some(lost),
                _ = end => None,
            };
            if lost.is_none() {
                election.release().await;
            }
            (election, lost)
        });
        let lost = async {
            holding
                .join_next()
                .await
                .expect("the task was just started")
        };
        let ended = until_over(&leadership, work(leadership.clone()), &stop, lost).await;
        telemetry.metrics.leader.set(0);
        telemetry.metrics.stand_by();
        let (back, lost) = match ended {
            Some(ended) => ended?,
            None => {
                drop(finished);
                holding
                    .join_next()
                    .await
                    .expect("the task has not been joined")?
            }
        };
        let Some(lost) = lost else { return Ok(()) };
        tracing::warn!("this replica no longer leads and is standing by: {lost}");
        election = back;
    }
}

/// Works until a stop signal, or until `lost` resolves. Then finishes the writes that have begun,
/// and drops the rest.
pub async fn until_over<T>(
    leadership: &Leadership,
    work: impl Future<Output = ()>,
    stop: &Stop,
    lost: impl Future<Output = T>,
) -> Option<T> {
    // The work may end by itself at a stop signal.
    let mut work = pin!(work.fuse());
    let ended = tokio::select! {
        () = &mut work => None,
        lost = lost => Some(lost),
        () = stop.clone() => None,
    };
    leadership.end();
    let finished = async {
        tokio::select! {
            () = &mut work => {}
            () = leadership.idle() => {}
        }
    };
    // No write takes longer than this.
    if timeout(leadership.write_bound(), finished).await.is_err() {
        tracing::warn!("a write did not end within its time limit");
    }
    ended
}
