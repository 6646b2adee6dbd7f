//! Waiting for what takes time: by its effect, and never longer than a bound that only catches what
//! hangs.

use anyhow::{Error, Result};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as failed: far more than it needs, also on a machine
/// with a load of 20.
pub const BOUND: Duration = Duration::from_secs(300);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Something has not come within its bound.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub what: String,
    pub bound: Duration,
    /// What it lacked at last.
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

/// Looks until `look` gives `Ok`. What it gives otherwise says what is still missing, and is the
/// error's text when the bound is over.
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
            // A look is work for the machine, which has to do what is waited for as well.
            Err(_) => tokio::time::sleep(pause.max(looked.elapsed())).await,
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// [`BOUND`] for what is about this many objects, applied at once.
pub fn bound_of(count: usize) -> Duration {
    BOUND + Duration::from_secs(2) * u32::try_from(count).unwrap_or(u32::MAX)
}
