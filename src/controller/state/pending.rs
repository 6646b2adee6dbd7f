//! Which grants wait to be worked on, and which of them have changed meanwhile: the controller runs
//! no grant twice at a time, so the one that waits has to take note of a change itself.

use crate::telemetry::workqueue_metrics::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The grants that wait. Clones share them.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<HashMap<Key, Arc<Notify>>>>);

/// A grant waits, until this is dropped.
#[must_use]
pub struct Waiting {
    pending: Pending,
    key: Key,
    changed: Arc<Notify>,
}

impl Pending {
    /// Begins to wait.
    pub fn wait(&self, key: Key) -> Waiting {
        let changed = Arc::<Notify>::default();
        self.0
            .lock()
            .expect("no panic while held")
            .insert(key.clone(), changed.clone());
        Waiting {
            pending: self.clone(),
            key,
            changed,
        }
    }

    /// The grant has changed, or something that decides what is done for it.
    pub fn changed(&self, key: &Key) {
        if let Some(changed) = self.0.lock().expect("no panic while held").get(key) {
            changed.notify_one();
        }
    }
}

impl Waiting {
    /// Resolves once after one or more changes.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending
            .0
            .lock()
            .expect("no panic while held")
            .remove(&self.key);
    }
}
