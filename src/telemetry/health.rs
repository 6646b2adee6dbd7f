//! The health endpoints.
//!
//! - `/healthz` fails if a restart would help: a task that must run for as long as the operator has
//!   ended, a task that must repeat has not done so in time, or grants are due and the leader has
//!   made no progress.
//! - `/readyz` succeeds if the replica stands by, or leads and has filled its watch caches, so that
//!   it decides by complete data. It fails for a while after a failure to reach the API server.
//! - `/metrics` serves the metrics.
//!
//! `/healthz` must never end a healthy operator, so it ignores failures of AWS and of the API
//! server, which a restart does not repair. Calls that fail are progress, too. Background tasks
//! that failed and were started again are listed in its answer, and do not make it fail.

use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The stage of the operator's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The replica does not know yet whether it leads.
    #[default]
    Starting,
    /// Another replica leads.
    StandsBy,
    /// This replica leads, and this watch cache is not filled yet.
    Fills(&'static str),
    /// This replica leads, and all watch caches are filled.
    Leads,
}

/// How long a failure of a connection counts if no success is recorded. A connection that is down
/// fails again within this time. A watch that works again may have no event to record.
const FAILED_FOR: Duration = Duration::from_secs(20);

/// The operator's readiness: it stands by or its watch caches are filled, and its connections to
/// the API server work.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stage: Stage,
    /// The last failure of each connection to the API server that has not worked since.
    failed: BTreeMap<&'static str, Failure>,
}

struct Failure {
    at: Instant,
    error: String,
}

impl Readiness {
    /// Sets the stage.
    pub fn set(&self, stage: Stage) {
        self.state().stage = stage;
    }

    /// Records that this connection to the API server has just failed. This counts for 20 seconds,
    /// or until the connection works.
    pub fn fails(&self, connection: &'static str, error: &str) {
        let failure = Failure {
            at: Instant::now(),
            error: error.to_owned(),
        };
        self.state().failed.insert(connection, failure);
    }

    /// Records that this connection to the API server has just worked.
    pub fn works(&self, connection: &'static str) {
        self.state().failed.remove(connection);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }

    pub(super) fn stage(&self) -> Stage {
        self.state().stage
    }

    /// Returns the answer of `/readyz`.
    pub fn status(&self) -> (StatusCode, String) {
        let state = self.state();
        let failed = state
            .failed
            .iter()
            .find(|(_, failure)| failure.at.elapsed() < FAILED_FOR);
        if let Some((connection, Failure { error, .. })) = failed {
            let stage = state.stage;
            return unavailable(format!(
                "{stage}; {connection}: the API server cannot be reached: {error}\n"
            ));
        }
        match state.stage {
            Stage::Starting => unavailable("starting\n".into()),
            Stage::Fills(cache) => {
                unavailable(format!("the watch cache of {cache} is not filled yet\n"))
            }
            Stage::StandsBy => (
                StatusCode::OK,
                "ready: standing by, another replica leads\n".into(),
            ),
            Stage::Leads => (
                StatusCode::OK,
                "ready: leading, the watch caches are filled\n".into(),
            ),
        }
    }
}

pub(super) fn unavailable(text: String) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => write!(f, "starting"),
            Self::StandsBy => write!(f, "standing by"),
            Self::Fills(_) => write!(f, "leading, the watch caches are not filled yet"),
            Self::Leads => write!(f, "leading"),
        }
    }
}

/// The operator's liveness.
#[derive(Clone, Default)]
pub struct Liveness(Arc<Mutex<Signs>>);

#[derive(Default)]
struct Signs {
    pulses: Vec<Pulse>,
    ended: Option<&'static str>,
    restarts: BTreeMap<&'static str, usize>,
}

/// Heartbeat of a task that must repeat for as long as the operator runs. Clones share it.
#[derive(Clone)]
pub struct Pulse {
    what: &'static str,
    limit: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    /// Records a repetition.
    pub fn beat(&self) {
        *self.last.lock().expect("no panic while held") = Instant::now();
    }

    fn is_silent(&self) -> bool {
        let last = *self.last.lock().expect("no panic while held");
        last.elapsed() > self.limit
    }
}

impl Liveness {
    /// Registers a task that must repeat at least once within `limit` from now on.
    pub fn pulse(&self, what: &'static str, limit: Duration) -> Pulse {
        let pulse = Pulse {
            what,
            limit,
            last: Arc::new(Mutex::new(Instant::now())),
        };
        self.0
            .lock()
            .expect("no panic while held")
            .pulses
            .push(pulse.clone());
        pulse
    }

    /// Records the end of a task that must run for as long as the operator does.
    pub fn ended(&self, what: &'static str) {
        self.0.lock().expect("no panic while held").ended = Some(what);
    }

    /// Records that a background task has failed and is started again. Liveness ignores this,
    /// because a restart of the process would not help the task.
    pub fn restarted(&self, task: &'static str) {
        *self
            .0
            .lock()
            .expect("no panic while held")
            .restarts
            .entry(task)
            .or_default() += 1;
    }

    /// Returns the answer of `/healthz` for an operator that is alive.
    pub fn report(&self) -> String {
        let mut report = String::from("alive\n");
        for (task, times) in &self.0.lock().expect("no panic while held").restarts {
            report += &format!("{task} has failed {times} times and was started again\n");
        }
        report
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let signs = self.0.lock().expect("no panic while held");
        if let Some(what) = signs.ended {
            return Err(format!("{what} has ended"));
        }
        match signs.pulses.iter().find(|pulse| pulse.is_silent()) {
            Some(Pulse { what, limit, .. }) => Err(format!(
                "{what} has made no progress for {} s",
                limit.as_secs()
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_stage() {
        let readiness = Readiness::default();
        for (stage, status, text) in [
            (Stage::Starting, 503, "starting"),
            (Stage::StandsBy, 200, "standing by"),
            (Stage::Fills("accounts"), 503, "accounts"),
            (Stage::Leads, 200, "leading"),
        ] {
            readiness.set(stage);
            let (code, answer) = readiness.status();
            assert!(
                code.as_u16() == status && answer.contains(text),
                "{stage:?}: {code} {answer}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_fails_until_the_api_server_is_reachable() {
        let readiness = Readiness::default();
        for stage in [Stage::StandsBy, Stage::Leads] {
            readiness.set(stage);
            readiness.fails("the watch of grants", "connection refused");
            let (code, answer) = readiness.status();
            assert!(
                code.as_u16() == 503
                    && answer.contains("watch of grants")
                    && answer.contains("refused"),
                "{answer}"
            );
            readiness.works("the watch of grants");
            assert_eq!(readiness.status().0.as_u16(), 200);
        }
        // A watch that is connected again may have no event to report.
        readiness.fails("the watch of grants", "connection refused");
        tokio::time::advance(FAILED_FOR).await;
        assert_eq!(readiness.status().0.as_u16(), 200);
    }
}
