//! Requests for work: reconciles of grants, updates of accounts' statuses, and sweeps.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::state::pending::Pending;
use crate::grant::{AccountId, GrantName};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::workqueue_metrics::Key;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

type Sweeps = BTreeMap<String, BTreeSet<String>>;

/// Requests for work.
pub struct Requests {
    grants: UnboundedSender<ObjectRef<CrossAccountRegistryGrant>>,
    accounts: UnboundedSender<String>,
    sweeps: Mutex<Sweeps>,
    /// The grants that wait for their first work slot, or for their evaluation.
    pub pending: Pending,
    metrics: Metrics,
}

/// Receivers of the requests.
pub struct Requested {
    pub grants: UnboundedReceiver<ObjectRef<CrossAccountRegistryGrant>>,
    /// The names of the accounts.
    pub accounts: UnboundedReceiver<String>,
}

impl Requests {
    pub fn new(metrics: Metrics) -> (Self, Requested) {
        let (grants, requested_grants) = unbounded();
        let (accounts, requested_accounts) = unbounded();
        let requests = Self {
            grants,
            accounts,
            sweeps: Mutex::default(),
            pending: Pending::default(),
            metrics,
        };
        let requested = Requested {
            grants: requested_grants,
            accounts: requested_accounts,
        };
        (requests, requested)
    }

    /// Creates requests that nothing serves, for a dry run.
    pub fn unserved(metrics: Metrics) -> Self {
        Self::new(metrics).0
    }

    /// Requests a reconcile of a grant.
    pub fn reconcile(&self, grant: &GrantName) {
        let grant = ObjectRef::new(&grant.name).within(&grant.namespace);
        self.due(std::slice::from_ref(&grant));
        // The receiver is gone only when the work has ended.
        drop(self.grants.unbounded_send(grant));
    }

    /// Notes that these grants are due now.
    pub fn due(&self, grants: &[ObjectRef<CrossAccountRegistryGrant>]) {
        for grant in grants {
            let key = key(grant);
            self.pending.changed(&key);
            self.metrics.queue.due(key, Duration::ZERO);
        }
    }

    /// Requests an update of an account's status.
    pub fn update_account(&self, account: &AccountId) {
        self.update_account_named(account.to_string());
    }

    /// Requests an update of the status of the account with this name.
    pub fn update_account_named(&self, name: String) {
        drop(self.accounts.unbounded_send(name));
    }

    /// Requests a sweep of an account before its time, in these regions.
    pub fn sweep(&self, account: &str, regions: BTreeSet<String>) {
        self.sweeps
            .lock()
            .expect("no panic while held")
            .entry(account.to_owned())
            .or_default()
            .extend(regions);
    }

    /// Takes the requested sweeps: the accounts, with the regions whose repositories are read.
    pub fn take_sweeps(&self) -> Sweeps {
        std::mem::take(&mut self.sweeps.lock().expect("no panic while held"))
    }
}

/// Returns the key of a grant in the metrics and in [`Pending`].
pub fn key(grant: &ObjectRef<CrossAccountRegistryGrant>) -> Key {
    (
        grant.namespace.clone().unwrap_or_default(),
        grant.name.clone(),
    )
}
