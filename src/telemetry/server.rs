//! Serves the health endpoints and the metrics.

use super::Telemetry;
use super::health::{Stage, unavailable};
use super::metrics::{CONTENT_TYPE, Metrics};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use std::time::Duration;
use tokio::net::TcpListener;

/// The time that grants must have been due without any progress before the operator counts as
/// stuck. It is ten times the timeout of a call to AWS if that is longer.
const STUCK: Duration = Duration::from_secs(900);

impl Telemetry {
    /// Checks that the operator is alive: no task has ended or missed its heartbeat, and a leader
    /// whose grants are due has begun a reconcile or ended a call to AWS within 15 minutes or ten
    /// times `call_timeout`, whichever is longer.
    ///
    /// # Errors
    /// When it is not alive; the error names the problem.
    pub fn alive(&self, call_timeout: Duration) -> Result<(), String> {
        self.liveness.check()?;
        // A replica that stands by reconciles nothing. A leader waits for its caches to be filled
        // by the API server, and a restart does not help.
        if self.readiness.stage() != Stage::Leads {
            return Ok(());
        }
        let limit = STUCK.max(call_timeout * 10);
        if is_stuck(&self.metrics, limit) {
            self.metrics.forget_grants_that_are_gone();
            if is_stuck(&self.metrics, limit) {
                let depth = self.metrics.queue.backlog().depth;
                return Err(format!(
                    "{depth} grants are due, and none has made progress for {} s",
                    limit.as_secs()
                ));
            }
        }
        Ok(())
    }
}

fn is_stuck(metrics: &Metrics, limit: Duration) -> bool {
    metrics.queue.stuck_for() > limit
}

/// Serves the endpoints until the future is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    telemetry: Telemetry,
    call_timeout: Duration,
) -> std::io::Result<()> {
    let Telemetry {
        readiness, metrics, ..
    } = telemetry.clone();
    let routes = Router::new()
        .route(
            "/healthz",
            get(move || async move { health(&telemetry, call_timeout) }),
        )
        .route("/readyz", get(move || async move { readiness.status() }))
        .route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.text()) }),
        );
    tracing::info!(address = %listener.local_addr()?, "serving health checks and metrics");
    axum::serve(listener, routes).await
}

/// Returns the answer of `/healthz`.
fn health(telemetry: &Telemetry, call_timeout: Duration) -> (StatusCode, String) {
    match telemetry.alive(call_timeout) {
        Ok(()) => (StatusCode::OK, telemetry.liveness.report()),
        Err(why) => {
            tracing::error!(reason = why, "liveness check failed");
            unavailable(format!("{why}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn due(telemetry: &Telemetry) {
        telemetry
            .metrics
            .queue
            .due(("team-b".into(), "g".into()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_stops_repeating_fails_liveness() {
        let telemetry = Telemetry::default();
        let pulse = telemetry
            .liveness
            .pulse("the election", Duration::from_secs(90));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(80)).await;
            pulse.beat();
            assert_eq!(telemetry.alive(TIMEOUT), Ok(()));
        }
        tokio::time::advance(Duration::from_secs(91)).await;
        assert!(
            telemetry
                .alive(TIMEOUT)
                .unwrap_err()
                .starts_with("the election")
        );
        pulse.beat();
        assert_eq!(telemetry.alive(TIMEOUT), Ok(()));
        telemetry.liveness.ended("the grant controller");
        assert_eq!(
            telemetry.alive(TIMEOUT),
            Err("the grant controller has ended".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn leader_without_progress_on_due_grants_fails_liveness() {
        let telemetry = Telemetry::default();
        telemetry.readiness.set(Stage::Leads);
        due(&telemetry);
        tokio::time::advance(STUCK + TIMEOUT).await;
        assert!(
            telemetry
                .alive(TIMEOUT)
                .unwrap_err()
                .contains("1 grants are due")
        );
        telemetry.metrics.queue.moved();
        assert_eq!(telemetry.alive(TIMEOUT), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_operator_or_one_without_caches_is_alive() {
        let telemetry = Telemetry::default();
        telemetry.readiness.set(Stage::Leads);
        tokio::time::advance(STUCK * 100).await;
        assert_eq!(telemetry.alive(TIMEOUT), Ok(()));
        telemetry.readiness.set(Stage::Fills("accounts"));
        due(&telemetry);
        tokio::time::advance(STUCK * 100).await;
        assert_eq!(telemetry.alive(TIMEOUT), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_aws_does_not_fail_liveness() {
        let telemetry = Telemetry::default();
        telemetry.readiness.set(Stage::Leads);
        due(&telemetry);
        let slow = STUCK / 5;
        tokio::time::advance(slow * 9).await;
        assert_eq!(telemetry.alive(slow), Ok(()));
    }
}
