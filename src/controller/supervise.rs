//! Isolates work that fails unexpectedly, so that it ends nothing else. Such a failure is a bug: it
//! is logged, counted and shown by `/healthz`, and the work is started again.

use crate::telemetry::health::Liveness;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::OfTask;
use futures::FutureExt;
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::Instant;

/// Future that resolves when the operator receives a stop signal.
pub type Stop = futures::future::Shared<futures::future::BoxFuture<'static, ()>>;

/// The pause after the first failure of a background task. It doubles with each that follows.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause. A task that has run for longer starts over with the shortest.
const LONGEST: Duration = Duration::from_secs(300);

/// Error of work that panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected failure, which is a bug: {0}")]
pub struct Panicked(String);

impl Panicked {
    /// Returns the error of a panic.
    pub fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self::because(
            text.or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "the panic has no message".into()),
        )
    }

    /// Returns the error for this reason.
    pub fn because(reason: String) -> Self {
        Self(reason)
    }
}

/// Runs the work, and converts a panic in it into an error, which is counted for this task.
///
/// # Errors
/// When the work panicked.
pub async fn isolated<T>(
    task: &'static str,
    metrics: &Metrics,
    work: impl Future<Output = T>,
) -> Result<T, Panicked> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|panic| {
            metrics.task_failures.get_or_create(&OfTask { task }).inc();
            let panicked = Panicked::of(&*panic);
            tracing::error!(task, "{panicked}");
            panicked
        })
}

/// Supervisor of background tasks, which reports their failures and restarts them.
pub struct Supervisor<'a> {
    pub metrics: &'a Metrics,
    pub liveness: &'a Liveness,
    pub stop: &'a Stop,
}

impl Supervisor<'_> {
    /// Runs a background task until it ends by itself. It is started again each time it panics.
    pub async fn run<F>(&self, task: &'static str, start: impl Fn() -> F)
    where
        F: Future<Output = ()>,
    {
        let Self {
            metrics,
            liveness,
            stop,
        } = *self;
        let mut pause = SHORTEST;
        loop {
            let begun = Instant::now();
            if isolated(task, metrics, start()).await.is_ok() {
                return;
            }
            liveness.restarted(task);
            if begun.elapsed() > LONGEST {
                pause = SHORTEST;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.clone() => return,
            }
            pause = (pause * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn never() -> Stop {
        futures::future::pending().boxed().shared()
    }

    #[tokio::test(start_paused = true)]
    async fn background_task_that_panics_is_counted_and_restarted() {
        let (metrics, liveness, runs) =
            (Metrics::default(), Liveness::default(), AtomicUsize::new(0));
        let begun = Instant::now();
        let task = || async {
            assert!(
                runs.fetch_add(1, Ordering::SeqCst) >= 3,
                "it fails three times"
            );
        };
        Supervisor {
            metrics: &metrics,
            liveness: &liveness,
            stop: &never(),
        }
        .run("the sweep", task)
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
        assert_eq!(
            begun.elapsed(),
            SHORTEST * (1 + 2 + 4),
            "each pause is twice as long"
        );
        let counted = "registry_grants_task_failures_total{task=\"the sweep\"} 3";
        assert!(
            metrics.text().lines().any(|line| line == counted),
            "{}",
            metrics.text()
        );
        assert_eq!(
            liveness.report(),
            "alive\nthe sweep has failed 3 times and was started again\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failing_task_ends_with_the_operator() {
        let (metrics, liveness) = (Metrics::default(), Liveness::default());
        let stop = tokio::time::sleep(Duration::from_secs(3600))
            .boxed()
            .shared();
        Supervisor {
            metrics: &metrics,
            liveness: &liveness,
            stop: &stop,
        }
        .run("the sweep", || async { panic!("always") })
        .await;
        let failures = metrics
            .task_failures
            .get_or_create(&OfTask { task: "the sweep" })
            .get();
        assert!((10..30).contains(&failures), "{failures}");
    }

    #[tokio::test]
    async fn panic_is_an_error_of_its_own_work_only() {
        let metrics = Metrics::default();
        let failed = isolated("reconcile", &metrics, async {
            panic!("of {}", "this kind")
        })
        .await;
        let failed: Result<(), _> = failed;
        assert_eq!(
            failed.unwrap_err().to_string(),
            "unexpected failure, which is a bug: of this kind"
        );
        assert_eq!(isolated("reconcile", &metrics, async { 1 }).await, Ok(1));
    }
}
