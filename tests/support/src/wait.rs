//! Waiting for slow work: for its effect, and never longer than a bound that catches only work that
//! hangs.

use anyhow::{Error, Result};
use std::time::{Duration, Instant};

/// The time after which any wait has failed: far more than any work needs, even on a machine with a
/// load of 20.
pub const BOUND: Duration = Duration::from_secs(300);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The error of a wait that exceeded its bound.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub what: String,
    pub bound: Duration,
    /// The last unmet requirement.
    pub missing: Error,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            bound,
            missing,
        } = self;
        write!(
            f,
            "{what}: not within {} s; at last: {missing:#}",
            bound.as_secs()
        )
    }
}

impl std::error::Error for Waiting {}

/// Calls `look` until it returns `Ok`. Its error names the missing state, and becomes the text of
/// this function's error if the bound is exceeded.
///
/// # Errors
/// When `look` does not return `Ok` within [`BOUND`].
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    eventually_of(1, what, look).await
}

/// Does the same for work on this many objects: more objects may take longer.
///
/// # Errors
/// When `look` does not return `Ok` within [`bound_of`] them.
pub async fn eventually_of<T>(
    count: usize,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let (start, bound) = (Instant::now(), bound_of(count));
    let mut pause = SHORTEST_PAUSE;
    loop {
        let looked = Instant::now();
        match look().await {
            Ok(found) => return Ok(found),
            Err(missing) if start.elapsed() > bound => {
                return Err(Waiting {
                    what: what.into(),
                    bound,
                    missing,
                }
                .into());
            }
            // Each call of `look` takes CPU time that the awaited work needs, too.
            Err(_) => tokio::time::sleep(pause.max(looked.elapsed())).await,
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Returns the [`BOUND`] for work on this many objects that are applied at once.
pub fn bound_of(count: usize) -> Duration {
    BOUND + Duration::from_secs(2) * u32::try_from(count).unwrap_or(u32::MAX)
}
