//! The signals that end the operator.

use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};

/// Starts to handle SIGTERM and SIGINT. The future resolves when one of them arrives.
///
/// # Errors
/// When the signals cannot be handled.
pub fn signals() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}
