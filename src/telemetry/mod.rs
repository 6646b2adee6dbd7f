//! What the operator tells about itself: logs, metrics, traces, and whether it is alive and ready.
//! It knows nothing of the rest of the crate, so that every part may tell something.

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
