//! What the parts of the controller share: the cluster as the watches show it, the access to AWS,
//! and this replica's run. A dry run has the first two.

use crate::api::CrossAccountRegistryGrant;
use crate::aws::Aws;
use crate::clock::WallClock;
use crate::controller::compute_pool::ComputePool;
use crate::controller::events::Events;
use crate::controller::judging::Judging;
use crate::controller::leadership::Leadership;
use crate::controller::requeue::{Backoff, Pauses, ReconcileLimiter};
use crate::controller::state::claims_cache::ClaimsCache;
use crate::controller::state::coalesce::Coalescer;
use crate::controller::state::contested_status::ContestedPolicies;
use crate::controller::state::lost::LostGrants;
use crate::controller::state::policy_cache::PolicyCache;
use crate::controller::state::read_backs::ReadBacks;
use crate::controller::state::recent::Recent;
use crate::controller::state::requests::Requests;
use crate::controller::state::restored::Restored;
use crate::controller::state::role_locks::RoleLocks;
use crate::controller::state::second_writers::SecondWriters;
use crate::controller::state::slots::{Slot, Slots};
use crate::controller::state::unknown::UnknownGrants;
use crate::controller::state::watch_caches::{CacheSync, WatchCaches};
use crate::controller::supervise::Stop;
use crate::grant::{AccountId, Decision, GrantInput, GrantName, RuleContext};
use crate::policy::Installation;
use crate::telemetry::metrics::Metrics;
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// The number of grants that record their claims in the cluster at a time.
const RECORDING: usize = 16;

/// Everything that a reconcile needs.
pub struct Context {
    pub cluster: Cluster,
    pub cloud: Cloud,
    pub runtime: Runtime,
}

/// The installation, its grants and accounts, and what is known of them beyond the watch caches.
pub struct Cluster {
    pub installation: Installation,
    pub clock: WallClock,
    pub grants: Store<CrossAccountRegistryGrant>,
    pub watch_caches: WatchCaches,
    pub claims_cache: ClaimsCache,
    /// Grants of this installation that `grants` lacks: their access is left as it is.
    pub unknown: UnknownGrants,
    /// Grants that disappeared from `grants`, and whose access stays until the sweep decides on it.
    pub lost: LostGrants,
    /// Places where access was revoked lately.
    pub recent: Recent,
    pub second_writers: SecondWriters,
    /// Requests for reconciles and sweeps.
    pub requests: Requests,
}

/// The access to AWS: sessions, caches, and the limits and locks of the work there.
pub struct Cloud {
    pub aws: Aws,
    pub policy_cache: PolicyCache,
    pub coalescer: Coalescer,
    pub read_backs: ReadBacks,
    pub contested: ContestedPolicies,
    pub role_locks: RoleLocks,
    pub slots: Slots,
    pub judging: Judging,
    pub metrics: Metrics,
}

/// This replica's run during one term: the permission to write, and the connection to the cluster.
pub struct Runtime {
    pub leadership: Arc<Leadership>,
    pub client: Client,
    pub events: Events,
    pub filled: Arc<CacheSync>,
    pub restored: Restored,
    /// Limit of the number of grants that record their claims in the cluster at a time.
    pub recording: Semaphore,
    pub backoff: Backoff,
    pub asked: ReconcileLimiter,
    pub pauses: Pauses,
    pub stop: Stop,
}

impl Context {
    /// Forgets a grant that is gone.
    pub fn forget(&self, grant: &CrossAccountRegistryGrant) {
        let uid = grant.uid().unwrap_or_default();
        self.cluster.claims_cache.forget(grant);
        self.cluster.second_writers.forget_tags(&uid);
        self.runtime.backoff.reset(&uid);
    }
}

impl Cluster {
    /// Creates the state of a start, of which nothing but the watch caches is known.
    pub fn new(
        installation: Installation,
        clock: WallClock,
        grants: Store<CrossAccountRegistryGrant>,
        watch_caches: WatchCaches,
        requests: Requests,
    ) -> Self {
        Self {
            installation,
            clock,
            grants,
            watch_caches,
            claims_cache: ClaimsCache::default(),
            unknown: UnknownGrants::default(),
            lost: LostGrants::default(),
            recent: Recent::default(),
            second_writers: SecondWriters::default(),
            requests,
        }
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
}

impl Cloud {
    /// Creates the state of a start, which has read nothing yet. `concurrency` is the number of
    /// grants that are reconciled at a time in each account.
    pub fn new(aws: Aws, concurrency: u16, pool: ComputePool, metrics: Metrics) -> Self {
        Self {
            aws,
            policy_cache: PolicyCache::default(),
            coalescer: Coalescer::default(),
            read_backs: ReadBacks::default(),
            contested: ContestedPolicies::default(),
            role_locks: RoleLocks::default(),
            slots: Slots::new(concurrency),
            judging: Judging::new(pool),
            metrics,
        }
    }

    /// Waits for a work slot in an account. Work holds the slot only while it calls that account,
    /// and never while it waits for another grant's work.
    pub async fn turn(&self, account: &str) -> Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, false).await
    }

    /// Waits for a work slot to work on a document that grants share. While a revocation waits for
    /// such a document of the account, this work is as urgent as the revocation.
    pub async fn turn_for_all(&self, account: &str) -> Slot {
        let _waits = self.metrics.queue.waits();
        self.slots.enter(account, true).await
    }

    /// Waits until no other work on an instance role is in progress, and then for a work slot in
    /// its account.
    pub async fn alone_on(&self, account: &AccountId, role: &str) -> (OwnedMutexGuard<()>, Slot) {
        let _waits = self.metrics.queue.waits();
        self.role_locks
            .alone_in_turn(&self.slots, account, role)
            .await
    }
}

impl Runtime {
    /// Creates the state of a term that has done nothing yet.
    pub fn new(
        leadership: Arc<Leadership>,
        client: Client,
        events: Events,
        pauses: Pauses,
        stop: Stop,
    ) -> Self {
        Self {
            leadership,
            client,
            events,
            filled: Arc::default(),
            restored: Restored::default(),
            recording: Semaphore::new(RECORDING),
            backoff: Backoff::default(),
            asked: ReconcileLimiter::default(),
            pauses,
            stop,
        }
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
        use crate::clock::Random;
        use futures::FutureExt;
        use kube::runtime::reflector::store;
        use std::time::Duration;
        const TIMEOUT: Duration = Duration::from_secs(10);
        let installation: Installation = "0123456789ab".parse().expect("12 hex digits");
        let metrics = Metrics::default();
        let (grants, writer) = store();
        let watch_caches = WatchCaches {
            accounts: store().0,
            namespaces: store().0,
        };
        let sdk = crate::aws::tests::offline_config();
        let clock = WallClock::system();
        let aws = Aws::new(sdk, &installation, TIMEOUT, metrics.clone(), clock.clone());
        let context = Self {
            cluster: Cluster::new(
                installation,
                clock,
                grants,
                watch_caches,
                Requests::unserved(metrics.clone()),
            ),
            cloud: Cloud::new(aws, 1, ComputePool::Threads, metrics),
            runtime: Runtime::new(
                Arc::new(Leadership::always(TIMEOUT)),
                client.clone(),
                Events::new(client, None, WallClock::system(), Random::from_entropy()),
                Pauses::new(TIMEOUT * 60, Random::from_entropy()),
                futures::future::pending().boxed().shared(),
            ),
        };
        (context, writer)
    }
}
