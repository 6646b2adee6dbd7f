//! `/healthz`: the process serves. `/readyz`: it stands by for the leader, or leads and its watch caches are filled, so that what it
//! decides rests on all there is. `/metrics`: what is counted.

use super::Telemetry;
use super::metrics::CONTENT_TYPE;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the operator is ready: it stands by, or its watch caches are filled.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// What `/readyz` says from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn status(&self) -> (StatusCode, &'static str) {
        if self.0.load(Ordering::Acquire) {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the watch caches are not filled yet\n")
        }
    }
}

/// Serves until dropped.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, telemetry: Telemetry) -> std::io::Result<()> {
    let Telemetry { readiness, metrics } = telemetry;
    let routes = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { readiness.status() }))
        .route("/metrics", get(move || async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.text()) }));
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving health checks and metrics");
    axum::serve(listener, routes).await
}
