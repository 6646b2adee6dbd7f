//! Grants that wait to be reconciled, and which of them have changed meanwhile. The controller
//! never reconciles a grant twice at a time, so a waiting reconcile has to notice a change itself.

use crate::telemetry::workqueue_metrics::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Waiting grants. Clones share them.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<HashMap<Key, Arc<Notify>>>>);

/// Guard of a waiting grant: its wait ends when this is dropped.
#[must_use]
pub struct Waiting {
    pending: Pending,
    key: Key,
    changed: Arc<Notify>,
}

impl Pending {
    /// Registers a grant that begins to wait.
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

    /// Notes that the grant has changed, or something that its decision depends on.
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
