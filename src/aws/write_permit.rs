//! Permits for writes. Everything that writes to AWS, or to our resources in the cluster, takes
//! one. A replica gets permits only while it leads: see `controller::leadership`.

use super::rate_limit;
use crate::api::conditions::Reason;
use crate::grant::Problem;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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
pub struct WritePermit {
    state: Arc<watch::Sender<State>>,
    deadline: Instant,
}

impl WritePermit {
    /// Carries out the write. None of its calls is sent after the permit's deadline.
    pub async fn carry<F: Future>(self, write: F) -> F::Output {
        let output = rate_limit::not_after(self.deadline, write).await;
        drop(self);
        output
    }

    /// Returns the time by which the write must have ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for WritePermit {
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
    pub fn write_permit(&self) -> Result<WritePermit, Problem> {
        let deadline = Instant::now() + self.write_bound;
        let permitted = self.state.send_if_modified(|state| {
            let permitted = !state.over && state.until.is_some_and(|until| until > deadline);
            state.writes += usize::from(permitted);
            permitted
        });
        if permitted {
            return Ok(WritePermit {
                state: self.state.clone(),
                deadline,
            });
        }
        Err(Problem::new(
            Reason::Unavailable,
            "this replica is stopping, or its Lease is about to expire: it starts no further write, and the next leader will continue",
        ))
    }

    /// Returns the time limit of a write.
    pub fn write_bound(&self) -> Duration {
        self.write_bound
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

    /// Extends the term.
    pub(crate) fn extend(&self, until: Instant) {
        self.state.send_modify(|state| state.until = Some(until));
    }

    /// Returns whether the term has ended without being extended.
    pub(crate) fn has_run_out(&self) -> bool {
        self.state
            .borrow()
            .until
            .is_none_or(|until| until <= Instant::now())
    }
}
