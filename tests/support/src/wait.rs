//! Waiting for what takes time: by its effect, and never longer than a bound.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as failed: far more than it needs, also on a loaded machine.
pub const BOUND: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` gives `Ok`. What it gives otherwise says what is still missing, and is the error's text when the bound is
/// over.
///
/// # Errors
/// When `look` has not given `Ok` within [`BOUND`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(missing) if start.elapsed() > BOUND => {
                bail!("{what}: not within {} s; at last: {missing:#}", BOUND.as_secs())
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
