//! Which grants are due to be looked at, and since when. The controller's own queue does not tell; this follows what goes into it and
//! what comes out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Namespace and name.
pub type Key = (String, String);

/// What is due. Clones share it.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    due: HashMap<Key, Instant>,
    moved: Instant,
}

/// How much is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many.
    pub depth: usize,
    /// For how long the first of them has been due.
    pub oldest: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { due: HashMap::new(), moved: Instant::now() })))
    }
}

impl Queue {
    /// It is to be looked at after a while, or earlier if that was said before.
    pub fn due(&self, key: Key, after: Duration) {
        let at = Instant::now() + after;
        let mut state = self.lock();
        let due = state.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    /// It is being looked at; says for how long it has waited beyond its time.
    pub fn begun(&self, key: &Key) -> Duration {
        let mut state = self.lock();
        state.moved = Instant::now();
        state.due.remove(key).map_or(Duration::ZERO, |due| due.elapsed())
    }

    /// Something was done: a grant was looked at, a call to AWS came to its end.
    pub fn moved(&self) {
        self.lock().moved = Instant::now();
    }

    /// What is due now.
    pub fn backlog(&self) -> Backlog {
        let now = Instant::now();
        let state = self.lock();
        let due = state.due.values().filter(|due| **due <= now);
        due.fold(Backlog::default(), |Backlog { depth, oldest }, due| Backlog {
            depth: depth + 1,
            oldest: oldest.max(now.duration_since(*due)),
        })
    }

    /// For how long something has been due while nothing at all was done.
    pub fn stuck_for(&self) -> Duration {
        let idle = self.lock().moved.elapsed();
        self.backlog().oldest.min(idle)
    }

    /// Forgets those that there are not any more: nobody will look at them.
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
    async fn what_is_due_waits_until_somebody_begins_with_it() {
        let queue = Queue::default();
        queue.due(key("now"), Duration::ZERO);
        queue.due(key("later"), 10 * MINUTE);
        tokio::time::advance(MINUTE).await;
        assert_eq!(queue.backlog(), Backlog { depth: 1, oldest: MINUTE });
        assert_eq!(queue.begun(&key("now")), MINUTE);
        assert_eq!(queue.backlog(), Backlog::default());
        tokio::time::advance(10 * MINUTE).await;
        assert_eq!(queue.backlog(), Backlog { depth: 1, oldest: MINUTE });
        queue.retain(|key| key.1 != "later");
        assert_eq!(queue.backlog(), Backlog::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_makes_due_at_once_what_was_to_be_looked_at_later() {
        let queue = Queue::default();
        queue.due(key("a"), 10 * MINUTE);
        queue.due(key("a"), Duration::ZERO);
        queue.due(key("a"), 10 * MINUTE);
        assert_eq!(queue.backlog().depth, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_queue_that_moves_is_not_stuck() {
        let queue = Queue::default();
        queue.due(key("a"), Duration::ZERO);
        tokio::time::advance(60 * MINUTE).await;
        queue.moved();
        tokio::time::advance(MINUTE).await;
        assert_eq!(queue.backlog().oldest, 61 * MINUTE);
        assert_eq!(queue.stuck_for(), MINUTE);
        queue.begun(&key("a"));
        tokio::time::advance(60 * MINUTE).await;
        assert_eq!(queue.stuck_for(), Duration::ZERO, "with nothing to do nothing need move");
    }
}
