//! What the operator tells about itself: logs, metrics, and whether it is alive and ready.

pub mod health;
pub mod logs;
pub mod metrics;

/// What is told of the operator while it runs. Clones tell the same.
#[derive(Clone, Default)]
pub struct Telemetry {
    /// Whether it is ready.
    pub readiness: health::Readiness,
    /// What is counted.
    pub metrics: metrics::Metrics,
}
