//! What the parts of the controller share.

use super::directory::Filled;
use super::leadership::Leadership;
use super::{
    Stop, directory, events, facts, ledger, observed, pending, recent, requeue, restored, revoked, sharing, slots,
    writers,
};
use crate::api::CrossAccountRegistryGrant;
use crate::aws::Aws;
use crate::grant::{AccountId, GrantName};
use crate::policy::Installation;
use crate::telemetry::metrics::Metrics;
use futures::channel::mpsc;
use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// How many grants record their claims in the cluster at a time.
pub const RECORDING: usize = 16;

/// What is known of grants and accounts, and the way into AWS: all that it takes to say what is to be done there, and to do it.
pub struct World {
    pub aws: Aws,
    pub installation: Installation,
    pub leadership: Arc<Leadership>,
    pub grants: Store<CrossAccountRegistryGrant>,
    pub directory: directory::Caches,
    pub ledger: ledger::Ledger,
    pub writers: writers::Writers,
    pub roles: sharing::Roles,
    pub facts: facts::Facts,
    pub read_backs: revoked::ReadBacks,
    pub recent: recent::Recent,
    pub restored: restored::Restored,
    pub slots: slots::Slots,
    /// The grants that wait for their first slot.
    pub pending: pending::Pending,
    /// How many grants record their claims in the cluster at a time.
    pub recording: Semaphore,
    pub resync_interval: Duration,
    /// Whether there may be grants of this installation that are not among these: then what they have is left as it is.
    pub others_unknown: bool,
    pub metrics: Metrics,
    pub nudges: mpsc::UnboundedSender<ObjectRef<CrossAccountRegistryGrant>>,
    /// The accounts that are to be swept before their time, with the regions whose repositories are to be read.
    pub to_sweep: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// What every reconciliation needs.
pub struct Context {
    pub world: World,
    pub client: Client,
    pub filled: Arc<Filled>,
    pub backoff: requeue::Backoff,
    pub asked: requeue::Asked,
    pub events: events::Events,
    pub stop: Stop,
}

impl World {
    /// Has a grant looked at soon.
    pub fn nudge(&self, grant: &GrantName) {
        let grants =
            observed::due(&self.metrics, &self.pending, vec![ObjectRef::new(&grant.name).within(&grant.namespace)]);
        // Nobody listens any more only when the work has ended.
        grants.into_iter().for_each(|grant| drop(self.nudges.unbounded_send(grant)));
    }

    /// Has an account swept soon.
    pub fn sweep_soon(&self, account: &str, regions: BTreeSet<String>) {
        self.to_sweep.lock().expect("no panic while held").entry(account.to_owned()).or_default().extend(regions);
    }

    /// Waits for a work slot in an account. Work holds it only while it calls that account, and never while it waits for another grant's work.
    pub async fn turn(&self, account: &str) -> slots::Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, false).await
    }

    /// The same for a document that grants share: a revocation that waits for one of the account's makes it as urgent.
    pub async fn turn_for_all(&self, account: &str) -> slots::Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, true).await
    }

    /// Waits until nobody else is at work on an instance role, and then for a work slot in its account.
    pub async fn alone_on(&self, account: &AccountId, role: &str) -> (OwnedMutexGuard<()>, slots::Slot) {
        let _waits = self.metrics.queue.waits();
        self.roles.alone_in_turn(&self.slots, account, role).await
    }
}
