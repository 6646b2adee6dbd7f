//! Where computations run that take too long for the task that waits for them.

use crate::controller::supervise::Panicked;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where long computations run.
#[derive(Clone, Copy, Debug)]
pub enum ComputePool {
    /// On the runtime's own threads for blocking work, so that other tasks go on.
    Threads,
    /// In the task that waits for the result, so that a simulation has one order of events.
    InPlace,
}

impl ComputePool {
    /// Computes a result. A computation on a thread goes on when this future is dropped: it must
    /// find out by itself that its result is no longer needed.
    pub async fn compute<T: Send + 'static>(
        self,
        computation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(computation)
                .await
                .map_err(|error| match error.try_into_panic() {
                    Ok(panic) => Panicked::of(&*panic),
                    // The runtime shuts down and no longer starts computations.
                    Err(error) => Panicked::because(error.to_string()),
                }),
            Self::InPlace => {
                catch_unwind(AssertUnwindSafe(computation)).map_err(|panic| Panicked::of(&*panic))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_is_contained_wherever_it_happens() {
        for pool in [ComputePool::Threads, ComputePool::InPlace] {
            let panicked = pool
                .compute(|| panic!("no {}", "luck"))
                .await
                .map(|(): ()| ());
            let message = panicked.unwrap_err().to_string();
            assert_eq!(
                message, "unexpected failure, which is a bug: no luck",
                "{pool:?}"
            );
            assert_eq!(pool.compute(|| 1).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn computation_in_place_runs_on_the_callers_thread() {
        let caller = std::thread::current().id();
        let in_place = ComputePool::InPlace
            .compute(|| std::thread::current().id())
            .await;
        assert_eq!(in_place.unwrap(), caller);
        let elsewhere = ComputePool::Threads
            .compute(|| std::thread::current().id())
            .await;
        assert_ne!(elsewhere.unwrap(), caller);
    }
}
