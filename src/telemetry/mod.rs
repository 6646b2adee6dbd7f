//! What the operator reports about itself: logs, metrics, traces and health.
//!
//! - [`logs`]: structured logs to standard output.
//! - [`metrics`]: what `/metrics` serves.
//! - [`workqueue_metrics`]: which grants are due, and which wait for a slot.
//! - [`traces`]: spans over OTLP.
//! - [`health`]: `/healthz` and `/readyz`.
//!
//! It knows nothing of the rest of the crate, so that every part may use it.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod traces;
pub mod workqueue_metrics;

/// What is told of the operator while it runs. Clones tell the same.
#[derive(Clone, Default)]
pub struct Telemetry {
    /// Whether it is ready.
    pub readiness: health::Readiness,
    /// Whether it is alive.
    pub liveness: health::Liveness,
    /// What is counted.
    pub metrics: metrics::Metrics,
}
