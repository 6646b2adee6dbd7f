//! Waiting for what takes time: by its effect, and never longer than a bound.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as failed: far more than it needs, also on a loaded machine.
pub const BOUND: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` gives `Ok`. What it gives otherwise says what is still missing, and is the error's text when the bound is
/// over.
///
/// # Errors
/// When `look` has not given `Ok` within [`BOUND`].
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    eventually_of(1, what, look).await
}

/// The same for something that is about this many objects: it may take longer, the more there are.
///
/// # Errors
/// When `look` has not given `Ok` within [`bound_of`] them.
pub async fn eventually_of<T>(count: usize, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let (start, bound) = (Instant::now(), bound_of(count));
    loop {
        let looked = Instant::now();
        match look().await {
            Ok(found) => return Ok(found),
            Err(missing) if start.elapsed() > bound => {
                bail!("{what}: not within {} s; at last: {missing:#}", bound.as_secs())
            }
            // A look at hundreds of objects is work for the machine, which has to do what is waited for as well.
            Err(_) => tokio::time::sleep(PAUSE.max(looked.elapsed())).await,
        }
    }
}

/// [`BOUND`] for what is about this many objects, applied at once.
pub fn bound_of(count: usize) -> Duration {
    BOUND + Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX)
}
