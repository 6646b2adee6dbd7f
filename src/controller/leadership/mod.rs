//! Leader election: of several replicas one works, and the others stand by. A Lease determines
//! which.
//!
//! - `election`: takes, renews and returns the Lease.
//!
//! A replica leads for a term: from winning the Lease until it loses or returns it. Each term has
//! its own [`Leadership`], and no write begins without its [`Permit`]. A permit is given only while
//! the Lease outlives the time limit of a write. A term that has ended never gives another one:
//! work that began under it cannot write in a later term. The time limit is the same for calls to
//! AWS and for writes in the cluster.
//!
//! A replica that loses the Lease stands by again in the same process. A replica that receives a
//! stop signal finishes the writes that have begun, drops the rest of the work and returns the
//! Lease.

mod election;
#[cfg(test)]
mod tests;

pub use election::{Election, Leases};

use crate::api::conditions::Reason;
use crate::controller::Stop;
use crate::grant::Problem;
use crate::telemetry::Telemetry;
use crate::telemetry::health::Stage;
use futures::FutureExt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long returning the Lease may take; afterwards it runs out by itself.
pub const RELEASE: Duration = Duration::from_secs(3);

/// One term of leading: the time until which it lasts, as far as this replica knows, and the writes
/// that are in progress under it.
#[derive(Debug)]
pub struct Leadership {
    state: Arc<watch::Sender<State>>,
    write_bound: Duration,
}

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    /// Whether the term has ended, so that nothing may begin any more.
    over: bool,
    /// The number of writes that have begun and not ended.
    writes: usize,
}

/// Permission for one write under one term. The write counts as in progress until this is dropped.
#[derive(Debug)]
#[must_use = "the write is only counted while its permit is held"]
pub struct Permit {
    state: Arc<watch::Sender<State>>,
    deadline: Instant,
}

impl Permit {
    /// Carries out the write. None of its calls is sent after the permit's deadline.
    pub async fn carry<F: Future>(self, write: F) -> F::Output {
        let carried = crate::aws::rate_limit::not_after(self.deadline, write).await;
        drop(self);
        carried
    }

    /// Returns the time by which the write must have ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.state
            .send_modify(|state| state.writes = state.writes.saturating_sub(1));
    }
}

impl Leadership {
    /// Creates a term that has not begun. No write takes longer than `write_bound`.
    pub fn none(write_bound: Duration) -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
            write_bound,
        }
    }

    /// Creates a term for operation without an election. It lasts until it is ended, because no
    /// process runs for a century.
    pub fn always(write_bound: Duration) -> Self {
        let leadership = Self::none(write_bound);
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        leadership.extend(Instant::now() + century);
        leadership
    }

    /// Permits one write, if the Lease outlives its time limit.
    ///
    /// # Errors
    /// When the Lease does not, or the term has ended.
    pub fn may_write(&self) -> Result<Permit, Problem> {
        let deadline = Instant::now() + self.write_bound;
        let permitted = self.state.send_if_modified(|state| {
            let permitted = !state.over && state.until.is_some_and(|until| until > deadline);
            state.writes += usize::from(permitted);
            permitted
        });
        if permitted {
            return Ok(Permit {
                state: self.state.clone(),
                deadline,
            });
        }
        Err(Problem::new(
            Reason::Unavailable,
            "this replica is stopping, or its Lease is about to run out: no further write begins here, and the next leader goes on",
        ))
    }

    /// Ends the term: no further write begins.
    pub fn end(&self) {
        self.state.send_modify(|state| state.over = true);
    }

    /// Waits until no write is in progress.
    pub async fn idle(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.writes == 0)
            .await;
    }

    fn extend(&self, until: Instant) {
        self.state.send_modify(|state| state.until = Some(until));
    }

    fn has_run_out(&self) -> bool {
        self.state
            .borrow()
            .until
            .is_none_or(|until| until <= Instant::now())
    }
}

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
        // A task of its own, so that the Lease is renewed however busy the work is.
        let mut holding = tokio::spawn(async move {
            let lost = tokio::select! {
                lost = election.hold(&held, &readiness) => Some(lost),
                _ = end => None,
            };
            if lost.is_none() {
                election.release().await;
            }
            (election, lost)
        });
        let ended = until_over(&leadership, work(leadership.clone()), &stop, &mut holding).await;
        telemetry.metrics.leader.set(0);
        telemetry.metrics.stand_by();
        let (back, lost) = match ended {
            Some(ended) => ended?,
            None => {
                drop(finished);
                holding.await?
            }
        };
        let Some(lost) = lost else { return Ok(()) };
        tracing::warn!("this replica no longer leads, and stands by: {lost}");
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
    if timeout(leadership.write_bound, finished).await.is_err() {
        tracing::warn!("a write has not ended within its bound");
    }
    ended
}
