//! The operator's reports about itself: logs, metrics, traces and health.
//!
//! - [`logs`]: structured logs to standard output.
//! - [`metrics`]: the metrics that `/metrics` serves.
//! - [`workqueue_metrics`]: the grants that are due, and the pending waits for a work slot.
//! - [`traces`]: spans over OTLP.
//! - [`health`]: whether the operator is ready and alive.
//! - [`server`]: serves `/healthz`, `/readyz` and `/metrics`.
//!
//! It imports nothing from the rest of the crate, so that every part may use it.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod server;
pub mod traces;
pub mod workqueue_metrics;

/// The operator's health and metrics. Clones share them.
#[derive(Clone, Default)]
pub struct Telemetry {
    /// Whether the operator is ready.
    pub readiness: health::Readiness,
    /// Whether the operator is alive.
    pub liveness: health::Liveness,
    /// The metrics.
    pub metrics: metrics::Metrics,
}
