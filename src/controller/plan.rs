//! Plans grants in files: a dry run with the operator's own code. The `World` is filled from
//! manifests instead of watches, and nothing is written.

use crate::api::grant::AccessStatus;
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::{Aws, environment};
use crate::clock::WallClock;
use crate::controller::World;
use crate::controller::apply::{Aim, Enforcement};
use crate::controller::judging::Judging;
use crate::controller::leadership::Leadership;
use crate::controller::recent::Recent;
use crate::controller::record::has_record;
use crate::controller::repository_policy::contested::ContestedPolicies;
use crate::controller::repository_policy::read_back::ReadBacks;
use crate::controller::repository_policy::sync::Freshness;
use crate::controller::restored::Restored;
use crate::controller::second_writer::SecondWriters;
use crate::controller::state::claims_cache::ClaimsCache;
use crate::controller::state::coalesce::Coalescer;
use crate::controller::state::lost::LostGrants;
use crate::controller::state::pending::Pending;
use crate::controller::state::policy_cache::PolicyCache;
use crate::controller::state::role_locks::RoleLocks;
use crate::controller::state::slots::Slots;
use crate::controller::state::unknown::UnknownGrants;
use crate::controller::state::watch_caches::WatchCaches;
use crate::grant::change::Change;
use crate::grant::decision::is_frozen;
use crate::grant::desired::Owner;
use crate::grant::{Decision, GrantInput, GrantName, Problem, validate};
use crate::policy::Installation;
use crate::telemetry::metrics::Metrics;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Contents of the cluster that the plan assumes.
pub struct Manifests {
    /// The grants, each with its namespace.
    pub grants: Vec<CrossAccountRegistryGrant>,
    /// The accounts.
    pub accounts: Vec<AWSAccount>,
    /// Namespaces with their labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether these are all the grants of the installation. If not, the plan assumes that the
    /// access of further grants in AWS stays.
    pub complete: bool,
}

/// Plan for one grant.
pub struct GrantPlan {
    /// The grant.
    pub grant: GrantName,
    /// Reasons why the grant is refused, or why a read failed or a change would fail.
    pub problems: Vec<Problem>,
    /// Changes that would be made in AWS, in order.
    pub changes: Vec<Change>,
    /// Whether access works at present.
    pub access: Vec<AccessStatus>,
    /// Whether nothing would be done because the grant is suspended.
    pub suspended: bool,
}

/// Plans for each grant what the operator of this installation would do, starting with the ambient
/// credentials. Only reads are sent to AWS.
pub async fn plan_grants(
    manifests: Manifests,
    installation: &Installation,
    call_timeout: Duration,
) -> Vec<GrantPlan> {
    let Manifests {
        mut grants,
        accounts,
        namespaces,
        complete,
    } = manifests;
    for grant in &mut grants {
        // Needed only to tell the grants apart.
        let made_up = format!("{MADE_UP}{}", GrantName::of(grant));
        grant.meta_mut().uid.get_or_insert(made_up);
        // A grant that does not exist yet will be younger than those that do.
        grant
            .meta_mut()
            .creation_timestamp
            .get_or_insert_with(|| Time(Timestamp::now()));
    }
    let of_namespace =
        |(name, labels): (String, BTreeMap<String, String>)| -> PartialObjectMeta<Namespace> {
            ObjectMeta {
                name: Some(name),
                labels: Some(labels),
                ..ObjectMeta::default()
            }
            .into_response_partial()
        };
    let world = World {
        aws: Aws::new(
            environment::load(call_timeout).await,
            installation,
            call_timeout,
            Metrics::default(),
            WallClock::system(),
        ),
        installation: installation.clone(),
        leadership: Arc::new(Leadership::none(call_timeout)),
        grants: filled(grants.clone()),
        watch_caches: WatchCaches {
            accounts: filled(accounts),
            namespaces: filled(namespaces.into_iter().map(of_namespace).collect()),
        },
        claims_cache: ClaimsCache::default(),
        coalescer: Coalescer::default(),
        role_locks: RoleLocks::default(),
        policy_cache: PolicyCache::default(),
        read_backs: ReadBacks::default(),
        recent: Recent::default(),
        restored: Restored::default(),
        slots: Slots::new(u16::MAX),
        pending: Pending::default(),
        judging: Judging::default(),
        recording: Semaphore::new(Semaphore::MAX_PERMITS),
        resync_interval: call_timeout * 60,
        unknown: UnknownGrants::assumed(!complete),
        lost: LostGrants::default(),
        second_writers: SecondWriters::default(),
        contested: ContestedPolicies::default(),
        metrics: Metrics::default(),
        nudges: futures::channel::mpsc::unbounded().0,
        account_nudges: futures::channel::mpsc::unbounded().0,
        to_sweep: Mutex::default(),
    };
    // Records each grant as if it were applied already: the contributions to shared policies and
    // roles depend on it.
    for resource in &grants {
        // Nothing more is applied for a grant that is being deleted.
        let is_deleting = resource.meta().deletion_timestamp.is_some();
        if is_frozen(&resource.spec) || (is_deleting && has_record(resource)) {
            continue;
        }
        if let Ok(grant) = validate(
            &GrantName::of(resource),
            &resource.spec,
            &world.watch_caches,
            installation,
        ) {
            let before = world.claims_cache.claims(resource);
            let claims =
                before.map_or_else(|| grant.claims(), |before| before.grown_by(&grant.claims()));
            world.claims_cache.record(resource, Some(claims));
            world
                .claims_cache
                .record_role(&resource.uid().unwrap_or_default(), true);
        }
    }
    let mut plans = Vec::new();
    for resource in &grants {
        plans.push(of_grant(&world, resource).await);
    }
    plans
}

/// Prefix of the UIDs of grants that are in no cluster yet.
const MADE_UP: &str = "manifest:";

/// Returns the UID that a grant has in its cluster, or an empty one if it is in none yet. Tags in
/// AWS contain no other UIDs.
pub(super) fn real_uid(resource: &CrossAccountRegistryGrant) -> String {
    resource
        .uid()
        .filter(|uid| !uid.starts_with(MADE_UP))
        .unwrap_or_default()
}

/// Returns a watch cache that contains these objects.
fn filled<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    objects
        .into_iter()
        .for_each(|object| writer.apply_watcher_event(&Event::InitApply(object)));
    writer.apply_watcher_event(&Event::InitDone);
    store
}

async fn of_grant(world: &World, resource: &CrossAccountRegistryGrant) -> GrantPlan {
    let name = GrantName::of(resource);
    let before = resource
        .status
        .as_ref()
        .and_then(|status| status.applied.clone());
    let nothing = |problems: Vec<Problem>, suspended: bool| GrantPlan {
        grant: name.clone(),
        problems,
        changes: Vec::new(),
        access: Vec::new(),
        suspended,
    };
    let owner = Owner {
        installation: world.installation.clone(),
        grant: name.clone(),
        uid: real_uid(resource),
    };
    let look = async |aim: Aim<'_>, problems: Vec<Problem>| {
        let recorded = world.claims_cache.claims(resource);
        let planned = match aim {
            Aim::Hold(grant) => Some(grant.claims()),
            Aim::Revoke | Aim::Retain(_) => None,
        };
        let claims = match (recorded, planned) {
            (Some(recorded), Some(planned)) => recorded.grown_by(&planned),
            (Some(claims), None) | (None, Some(claims)) => claims,
            (None, None) => return nothing(problems, false),
        };
        let done = Enforcement::new(
            world,
            &owner,
            &resource.spec,
            aim,
            &claims,
            Freshness::Fresh,
        )
        .observing()
        .run()
        .await;
        let problems = problems
            .into_iter()
            .chain(done.outcome.problems())
            .collect();
        GrantPlan {
            problems,
            changes: done.changes,
            access: done.outcome.access,
            ..nothing(Vec::new(), false)
        }
    };
    let input = GrantInput {
        name: &name,
        spec: &resource.spec,
        is_deleting: resource.meta().deletion_timestamp.is_some(),
        applied: before.as_ref(),
    };
    match Decision::of(&input, &world.rules()) {
        Decision::Enforce { grant, problems } => look(Aim::Hold(&grant), problems).await,
        Decision::Revoke(problems) => look(Aim::Revoke, problems).await,
        Decision::Retain(grant) => look(Aim::Retain(&grant), Vec::new()).await,
        Decision::Preview {
            grant: Ok(grant), ..
        } => look(Aim::Hold(&grant), Vec::new()).await,
        Decision::Suspend { .. } => nothing(Vec::new(), true),
        Decision::Preview {
            grant: Err(problems),
            ..
        }
        | Decision::Leave(problems) => nothing(problems, false),
    }
}
