//! Grants that are due to be reconciled, with their due times, and pending waits for a work slot.
//! The controller's own queue does not expose this, so this module tracks its input and output.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The namespace and name of a grant.
pub type Key = (String, String);

/// The due grants and the pending waits for a work slot. Clones share them.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    due: HashMap<Key, Instant>,
    /// Start of each pending wait for a work slot, by wait ID.
    waiting: BTreeMap<u64, Instant>,
    next: u64,
    moved: Instant,
}

/// A pending wait for a work slot, which ends when this is dropped.
#[derive(Debug)]
pub struct Waits {
    queue: Queue,
    number: u64,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.queue.lock().waiting.remove(&self.number);
    }
}

/// The size and the age of the backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The number of due grants and pending waits.
    pub depth: usize,
    /// How long the oldest of them has been due.
    pub oldest: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            due: HashMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
            moved: Instant::now(),
        })))
    }
}

impl Queue {
    /// Schedules a grant for reconciliation after a delay, or earlier if it was scheduled earlier
    /// before.
    pub fn due(&self, key: Key, after: Duration) {
        let at = Instant::now() + after;
        let mut state = self.lock();
        let due = state.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    /// Records that a grant's reconcile has begun; returns how long the grant was overdue.
    pub fn begun(&self, key: &Key) -> Duration {
        let mut state = self.lock();
        state.moved = Instant::now();
        state
            .due
            .remove(key)
            .map_or(Duration::ZERO, |due| due.elapsed())
    }

    /// Records the start of a wait for a work slot.
    pub fn waits(&self) -> Waits {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, Instant::now());
        Waits {
            queue: self.clone(),
            number,
        }
    }

    /// Records progress: a grant was reconciled, or a call to AWS ended.
    pub fn moved(&self) {
        self.lock().moved = Instant::now();
    }

    /// Returns the grants that are due now and the pending waits for a work slot.
    pub fn backlog(&self) -> Backlog {
        let now = Instant::now();
        let state = self.lock();
        let due_grants = state.due.values().filter(|due| **due <= now);
        let mut backlog = Backlog::default();
        for since in due_grants.chain(state.waiting.values()) {
            backlog.depth += 1;
            backlog.oldest = backlog.oldest.max(now.duration_since(*since));
        }
        backlog
    }

    /// Returns how long grants have been due without any progress.
    pub fn stuck_for(&self) -> Duration {
        let idle = self.lock().moved.elapsed();
        self.backlog().oldest.min(idle)
    }

    /// Removes grants that do not exist any more, because they will not be reconciled.
    pub fn retain(&self, keep: impl Fn(&Key) -> bool) {
        self.lock().due.retain(|key, _| keep(key));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Key {
        ("team-b".into(), name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn due_grant_is_queued_until_its_reconcile_begins() {
        let queue = Queue::default();
        queue.due(key("now"), Duration::ZERO);
        queue.due(key("later"), 10 * MINUTE);
        tokio::time::advance(MINUTE).await;
        assert_eq!(
            queue.backlog(),
            Backlog {
                depth: 1,
                oldest: MINUTE
            }
        );
        assert_eq!(queue.begun(&key("now")), MINUTE);
        assert_eq!(queue.backlog(), Backlog::default());
        tokio::time::advance(10 * MINUTE).await;
        assert_eq!(
            queue.backlog(),
            Backlog {
                depth: 1,
                oldest: MINUTE
            }
        );
        queue.retain(|key| key.1 != "later");
        assert_eq!(queue.backlog(), Backlog::default());
    }

    #[tokio::test(start_paused = true)]
    async fn change_makes_a_scheduled_grant_due_at_once() {
        let queue = Queue::default();
        queue.due(key("a"), 10 * MINUTE);
        queue.due(key("a"), Duration::ZERO);
        queue.due(key("a"), 10 * MINUTE);
        assert_eq!(queue.backlog().depth, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn pending_wait_is_queued_until_it_ends() {
        let queue = Queue::default();
        let (first, second) = (queue.waits(), queue.waits());
        tokio::time::advance(MINUTE).await;
        assert_eq!(
            queue.backlog(),
            Backlog {
                depth: 2,
                oldest: MINUTE
            }
        );
        drop(first);
        assert_eq!(queue.backlog().depth, 1);
        drop(second);
        assert_eq!(queue.backlog(), Backlog::default());
    }

    #[tokio::test(start_paused = true)]
    async fn long_queue_with_progress_is_not_stuck() {
        let queue = Queue::default();
        queue.due(key("a"), Duration::ZERO);
        tokio::time::advance(60 * MINUTE).await;
        queue.moved();
        tokio::time::advance(MINUTE).await;
        assert_eq!(queue.backlog().oldest, 61 * MINUTE);
        assert_eq!(queue.stuck_for(), MINUTE);
        queue.begun(&key("a"));
        tokio::time::advance(60 * MINUTE).await;
        assert_eq!(
            queue.stuck_for(),
            Duration::ZERO,
            "with nothing to do nothing need move"
        );
    }
}
