//! Limits the evaluation of access. It takes processor time, and tenants decide how much by the
//! policies that they write. So it waits for a slot and has a time limit.

use crate::aws::rate_limit::{self, Priority, Tenant, Work};
use crate::controller::compute_pool::ComputePool;
use crate::controller::state::keyed_locks::KeyedLocks;
use crate::controller::state::pending::Waiting;
use crate::controller::state::slots::Slots;
use crate::controller::supervise::Panicked;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Number of grants that are evaluated at a time, so that tenants do not use all processors.
const AT_A_TIME: u16 = 2;

/// The key of the slots. All evaluations share them.
const EVALUATIONS: &str = "evaluations";

/// The time limit for the evaluation of one grant.
const PATIENCE: Duration = Duration::from_secs(5);

/// Slots for evaluations. They are assigned to the namespaces in rotation, and each namespace has
/// one at a time, so that the others always find one.
pub struct Judging {
    turns: Slots,
    namespaces: KeyedLocks<Tenant>,
    patience: Duration,
    pool: ComputePool,
}

/// Reason why a grant was not evaluated.
#[derive(Debug, thiserror::Error)]
pub enum NotJudged {
    /// The grant has changed, so that the next reconcile evaluates it.
    #[error("the grant has changed in the meantime")]
    Outdated,
    /// A bug.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl Judging {
    /// Creates slots for evaluations that run in this pool.
    pub fn new(pool: ComputePool) -> Self {
        Self {
            turns: Slots::new(AT_A_TIME),
            namespaces: KeyedLocks::default(),
            patience: PATIENCE,
            pool,
        }
    }

    /// Evaluates a grant once a slot is free. `judge` gets a function that returns whether to stop.
    /// Each change of the grant makes this call check `is_outdated`, because the grant's next
    /// reconcile, which may revoke access, begins only after this one.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        waiting: &Waiting,
        is_outdated: impl Fn() -> bool,
        judge: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, NotJudged> {
        let stop = Arc::new(AtomicBool::new(false));
        let _stops = StopOnDrop(stop.clone());
        let judged = async {
            let tenant = Work::current().tenant;
            let alone = self.namespaces.of(tenant.clone()).lock_owned().await;
            // All evaluations have the same priority: a tenant that changes its grants all the
            // time must not delay the resyncs of others.
            let work = Work {
                urgency: Priority::Change,
                tenant,
            };
            let turn = rate_limit::with(work, self.turns.enter(EVALUATIONS, false)).await;
            let patience = self.patience;
            // Thousands of repositories take a while: the Lease is renewed meanwhile.
            let judging = self.pool.compute(move || {
                // Held until the processor is free again, even when no caller waits for the result.
                let _turn = (alone, turn);
                let begun = Instant::now();
                judge(&|| stop.load(Ordering::Relaxed) || begun.elapsed() > patience)
            });
            Ok(judging.await?)
        };
        let outdated = async {
            while !is_outdated() {
                waiting.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = outdated => Err(NotJudged::Outdated),
            judged = judged => judged,
        }
    }
}

/// Guard that stops the evaluation when no caller waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state::pending::Pending;

    fn of(tenant: &str, urgency: Priority) -> Work {
        Work {
            urgency,
            tenant: tenant.into(),
        }
    }

    /// Returns an evaluation that never ends by itself, and adds its name to `begun` when it
    /// starts.
    fn endless(
        begun: &Arc<std::sync::Mutex<Vec<String>>>,
        name: &str,
    ) -> impl FnOnce(&dyn Fn() -> bool) + Send + 'static {
        let (begun, name) = (begun.clone(), name.to_owned());
        move |must_stop| {
            begun.lock().unwrap().push(name);
            while !must_stop() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[tokio::test]
    async fn evaluation_of_a_changed_grant_stops() {
        let judging = Judging::new(ComputePool::Threads);
        let pending = Pending::default();
        let key = ("team".to_owned(), "a".to_owned());
        let waiting = pending.wait(key.clone());
        let changed = AtomicBool::new(false);
        let begun = Arc::default();
        let judged = judging.in_turn(
            &waiting,
            || changed.load(Ordering::Relaxed),
            endless(&begun, "a"),
        );
        let change = async {
            while begun.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            changed.store(true, Ordering::Relaxed);
            pending.changed(&key);
        };
        let (judged, ()) = tokio::join!(judged, change);
        assert!(matches!(judged, Err(NotJudged::Outdated)), "{judged:?}");
    }

    #[tokio::test]
    async fn slow_grants_of_a_namespace_do_not_delay_other_namespaces() {
        let judging = Judging {
            patience: Duration::from_secs(3600),
            ..Judging::new(ComputePool::Threads)
        };
        let pending = Pending::default();
        let begun: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let slow = (0..20).map(|number| {
            let (judging, pending, begun, stopped) = (&judging, &pending, &begun, &stopped);
            async move {
                let waiting = pending.wait(("slow".into(), number.to_string()));
                let judge = endless(begun, "slow");
                let judged = judging.in_turn(&waiting, || stopped.load(Ordering::Relaxed), judge);
                rate_limit::with(of("slow", Priority::Change), judged)
                    .await
                    .ok();
            }
        });
        let other = async {
            // After all the others.
            tokio::task::yield_now().await;
            let waiting = pending.wait(("other".into(), "a".into()));
            let slow = begun.clone();
            let judge = move |_: &dyn Fn() -> bool| slow.lock().unwrap().len();
            let judged = judging.in_turn(&waiting, || false, judge);
            let judged = rate_limit::with(of("other", Priority::Resync), judged)
                .await
                .unwrap();
            stopped.store(true, Ordering::Relaxed);
            for number in 0..20 {
                pending.changed(&("slow".into(), number.to_string()));
            }
            judged
        };
        let (_, judged_after) = tokio::join!(futures::future::join_all(slow), other);
        assert!(
            judged_after <= 1,
            "{judged_after} slow ones were judged before"
        );
    }
}
