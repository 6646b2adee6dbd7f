//! The claims as last recorded in each grant's status, for the watch cache lags behind our own writes.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::Applied;
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::Mutex;

/// Claims by the grant's UID.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Option<Applied>>>);

impl Ledger {
    /// What the grant has on record.
    pub fn claims(&self, grant: &CrossAccountRegistryGrant) -> Option<Applied> {
        let recorded = grant.uid().and_then(|uid| self.0.lock().expect("no panic while held").get(&uid).cloned());
        recorded.unwrap_or_else(|| grant.status.as_ref().and_then(|status| status.applied.clone()))
    }

    /// Notes what was just recorded.
    pub fn record(&self, grant: &CrossAccountRegistryGrant, applied: Option<Applied>) {
        if let Some(uid) = grant.uid() {
            self.0.lock().expect("no panic while held").insert(uid, applied);
        }
    }

    /// Forgets a grant that is gone.
    pub fn forget(&self, grant: &CrossAccountRegistryGrant) {
        if let Some(uid) = grant.uid() {
            self.0.lock().expect("no panic while held").remove(&uid);
        }
    }
}
