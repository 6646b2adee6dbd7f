//! State that the parts of the controller share.

use crate::api::CrossAccountRegistryGrant;
use crate::aws::Aws;
use crate::controller::Stop;
use crate::controller::events;
use crate::controller::instrument;
use crate::controller::judging;
use crate::controller::leadership::Leadership;
use crate::controller::recent;
use crate::controller::repository_policy::contested;
use crate::controller::repository_policy::read_back;
use crate::controller::requeue;
use crate::controller::restored;
use crate::controller::second_writer;
use crate::controller::state::claims_cache;
use crate::controller::state::coalesce;
use crate::controller::state::lost;
use crate::controller::state::pending;
use crate::controller::state::policy_cache;
use crate::controller::state::role_locks;
use crate::controller::state::slots;
use crate::controller::state::unknown;
use crate::controller::state::watch_caches;
use crate::controller::state::watch_caches::CacheSync;
use crate::grant::{AccountId, Decision, GrantInput, GrantName, RuleContext};
use crate::policy::Installation;
use crate::telemetry::metrics::Metrics;
use futures::channel::mpsc;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// The number of grants that record their claims in the cluster at a time.
pub const RECORDING: usize = 16;

/// Known grants and accounts, and the access to AWS: everything that is needed to decide on changes
/// in AWS and to make them.
pub struct World {
    pub aws: Aws,
    pub installation: Installation,
    pub leadership: Arc<Leadership>,
    pub grants: Store<CrossAccountRegistryGrant>,
    pub watch_caches: watch_caches::WatchCaches,
    pub claims_cache: claims_cache::ClaimsCache,
    pub coalescer: coalesce::Coalescer,
    pub role_locks: role_locks::RoleLocks,
    pub policy_cache: policy_cache::PolicyCache,
    pub read_backs: read_back::ReadBacks,
    pub recent: recent::Recent,
    pub restored: restored::Restored,
    pub slots: slots::Slots,
    /// The grants that wait for their first work slot, or for their evaluation.
    pub pending: pending::Pending,
    pub judging: judging::Judging,
    /// Limit of the number of grants that record their claims in the cluster at a time.
    pub recording: Semaphore,
    pub resync_interval: Duration,
    /// Grants of this installation that `grants` lacks: their access is left as it is.
    pub unknown: unknown::UnknownGrants,
    /// Grants that disappeared from `grants`, and whose access stays until the sweep decides on it.
    pub lost: lost::LostGrants,
    pub second_writers: second_writer::SecondWriters,
    pub contested: contested::ContestedPolicies,
    pub metrics: Metrics,
    pub nudges: mpsc::UnboundedSender<ObjectRef<CrossAccountRegistryGrant>>,
    /// The accounts whose status has to be updated.
    pub account_nudges: mpsc::UnboundedSender<String>,
    /// The accounts that are swept before their time, with the regions whose repositories are read.
    pub to_sweep: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// Everything that a reconcile needs.
pub struct Context {
    pub world: World,
    pub client: Client,
    pub filled: Arc<CacheSync>,
    pub backoff: requeue::Backoff,
    pub asked: requeue::ReconcileLimiter,
    pub events: events::Events,
    pub stop: Stop,
}

impl Context {
    /// Forgets a grant that is gone.
    pub fn forget(&self, grant: &CrossAccountRegistryGrant) {
        let uid = grant.uid().unwrap_or_default();
        self.world.claims_cache.forget(grant);
        self.world.second_writers.forget_tags(&uid);
        self.backoff.reset(&uid);
    }
}

impl World {
    /// Triggers a reconcile of a grant.
    pub fn nudge(&self, grant: &GrantName) {
        let grants = instrument::due(
            &self.metrics,
            &self.pending,
            vec![ObjectRef::new(&grant.name).within(&grant.namespace)],
        );
        // The receiver is gone only when the work has ended.
        grants
            .into_iter()
            .for_each(|grant| drop(self.nudges.unbounded_send(grant)));
    }

    /// Decides what should happen to a grant, by the current content of the caches.
    pub fn decide(&self, resource: &CrossAccountRegistryGrant) -> Decision {
        let claims = self.claims_cache.claims(resource);
        let input = GrantInput {
            name: &GrantName::of(resource),
            spec: &resource.spec,
            is_deleting: resource.meta().deletion_timestamp.is_some(),
            applied: claims.as_ref(),
        };
        Decision::of(&input, &self.rules())
    }

    /// Returns the input of decisions besides the grants.
    pub fn rules(&self) -> RuleContext<'_> {
        RuleContext {
            accounts: &self.watch_caches,
            installation: &self.installation,
        }
    }

    /// Triggers an update of an account's status.
    pub fn look_at_account(&self, account: &AccountId) {
        drop(self.account_nudges.unbounded_send(account.to_string()));
    }

    /// Requests a sweep of an account before its time.
    pub fn sweep_soon(&self, account: &str, regions: BTreeSet<String>) {
        self.to_sweep
            .lock()
            .expect("no panic while held")
            .entry(account.to_owned())
            .or_default()
            .extend(regions);
    }

    /// Waits for a work slot in an account. Work holds the slot only while it calls that account,
    /// and never while it waits for another grant's work.
    pub async fn turn(&self, account: &str) -> slots::Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, false).await
    }

    /// Waits for a work slot to work on a document that grants share. While a revocation waits for
    /// such a document of the account, this work is as urgent as the revocation.
    pub async fn turn_for_all(&self, account: &str) -> slots::Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, true).await
    }

    /// Waits until no other work on an instance role is in progress, and then for a work slot in
    /// its account.
    pub async fn alone_on(
        &self,
        account: &AccountId,
        role: &str,
    ) -> (OwnedMutexGuard<()>, slots::Slot) {
        let _waits = self.metrics.queue.waits();
        self.role_locks
            .alone_in_turn(&self.slots, account, role)
            .await
    }
}

#[cfg(test)]
impl Context {
    /// Returns a context with empty caches for this API server, and the writer of its grants.
    pub async fn before(
        client: Client,
    ) -> (
        Self,
        kube::runtime::reflector::store::Writer<CrossAccountRegistryGrant>,
    ) {
        use futures::FutureExt;
        use kube::runtime::reflector::store;
        const TIMEOUT: Duration = Duration::from_secs(10);
        let installation: Installation = "0123456789ab".parse().expect("12 hex digits");
        let (grants, writer) = store();
        let events = events::Events::new(client.clone());
        let world = World {
            aws: Aws::new(
                crate::aws::environment::load(TIMEOUT).await,
                &installation,
                TIMEOUT,
                Metrics::default(),
                crate::clock::WallClock::system(),
            ),
            installation,
            leadership: Arc::new(Leadership::always(TIMEOUT)),
            grants,
            watch_caches: watch_caches::WatchCaches {
                accounts: store().0,
                namespaces: store().0,
            },
            claims_cache: claims_cache::ClaimsCache::default(),
            coalescer: coalesce::Coalescer::default(),
            role_locks: role_locks::RoleLocks::default(),
            policy_cache: policy_cache::PolicyCache::default(),
            read_backs: read_back::ReadBacks::default(),
            recent: recent::Recent::default(),
            restored: restored::Restored::default(),
            slots: slots::Slots::new(1),
            recording: Semaphore::new(RECORDING),
            resync_interval: TIMEOUT * 60,
            unknown: unknown::UnknownGrants::default(),
            lost: lost::LostGrants::default(),
            second_writers: second_writer::SecondWriters::default(),
            contested: contested::ContestedPolicies::default(),
            metrics: Metrics::default(),
            pending: pending::Pending::default(),
            judging: judging::Judging::default(),
            nudges: mpsc::unbounded().0,
            account_nudges: mpsc::unbounded().0,
            to_sweep: Mutex::default(),
        };
        let stop = futures::future::pending().boxed().shared();
        let (backoff, asked) = (
            requeue::Backoff::default(),
            requeue::ReconcileLimiter::default(),
        );
        (
            Self {
                world,
                client,
                filled: Arc::default(),
                backoff,
                asked,
                events,
                stop,
            },
            writer,
        )
    }
}
