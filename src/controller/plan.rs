//! Plans grants in files: a dry run with the operator's own code. The cluster is read from
//! manifests instead of watches, and nothing is written.

use crate::api::grant::AccessStatus;
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::Aws;
use crate::clock::WallClock;
use crate::controller::apply::{Aim, Apply, ApplyRequest};
use crate::controller::compute_pool::ComputePool;
use crate::controller::context::{Cloud, Cluster};
use crate::controller::record::has_record;
use crate::controller::state::repository::Freshness;
use crate::controller::state::requests::Requests;
use crate::controller::state::unknown::UnknownGrants;
use crate::controller::state::watch_caches::WatchCaches;
use crate::grant::change::Change;
use crate::grant::decision::is_frozen;
use crate::grant::ownership::{Owner, made_up_uid};
use crate::grant::status::Outcome;
use crate::grant::{Decision, Grant, GrantInput, GrantName, Problem, validate};
use crate::policy::Installation;
use crate::telemetry::metrics::Metrics;
use aws_config::SdkConfig;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

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

/// Plans for each grant what the operator of this installation would do, starting with the
/// credentials in `sdk`. Only reads are sent to AWS.
pub async fn plan_grants(
    manifests: Manifests,
    installation: &Installation,
    call_timeout: Duration,
    sdk: SdkConfig,
    clock: WallClock,
) -> Vec<GrantPlan> {
    let Manifests {
        mut grants,
        accounts,
        namespaces,
        complete,
    } = manifests;
    for grant in &mut grants {
        // Needed only to tell the grants apart.
        let made_up = made_up_uid(&GrantName::of(grant));
        grant.meta_mut().uid.get_or_insert(made_up);
        // A grant that does not exist yet will be younger than those that do.
        grant
            .meta_mut()
            .creation_timestamp
            .get_or_insert_with(|| Time(clock.now()));
    }
    let metrics = Metrics::default();
    let watch_caches = WatchCaches {
        accounts: filled(accounts),
        namespaces: filled(namespaces.into_iter().map(namespace).collect()),
    };
    let requests = Requests::unserved(metrics.clone());
    let mut cluster = Cluster::new(
        installation.clone(),
        clock.clone(),
        filled(grants.clone()),
        watch_caches,
        requests,
    );
    cluster.unknown = UnknownGrants::assumed(!complete);
    let aws = Aws::new(sdk, installation, call_timeout, metrics.clone(), clock);
    let cloud = Cloud::new(aws, u16::MAX, ComputePool::Threads, metrics);
    for resource in &grants {
        record_as_applied(&cluster, resource);
    }
    let mut plans = Vec::new();
    for resource in &grants {
        plans.push(of_grant(&cluster, &cloud, resource).await);
    }
    plans
}

/// Records a grant as if it were applied already: the contributions to shared policies and roles
/// depend on it.
fn record_as_applied(cluster: &Cluster, resource: &CrossAccountRegistryGrant) {
    // Nothing more is applied for a grant that is being deleted.
    let is_deleting = resource.meta().deletion_timestamp.is_some();
    if is_frozen(&resource.spec) || (is_deleting && has_record(resource)) {
        return;
    }
    let Ok(grant) = validate(
        &GrantName::of(resource),
        &resource.spec,
        &cluster.watch_caches,
        &cluster.installation,
    ) else {
        return;
    };
    let claims_cache = &cluster.claims_cache;
    let claims = match claims_cache.claims(resource) {
        Some(before) => before.grown_by(&grant.claims()),
        None => grant.claims(),
    };
    claims_cache.record(resource, Some(claims));
    claims_cache.record_role(&resource.uid().unwrap_or_default(), true);
}

/// Returns a namespace with its name and labels.
fn namespace((name, labels): (String, BTreeMap<String, String>)) -> PartialObjectMeta<Namespace> {
    ObjectMeta {
        name: Some(name),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
    .into_response_partial()
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

/// Returns the aim of an apply for a decision. `None`: nothing would be done.
fn aim(decision: &Decision) -> Option<Aim<'_>> {
    match decision {
        Decision::Enforce { grant, .. }
        | Decision::Preview {
            grant: Ok(grant), ..
        } => Some(Aim::Hold(grant)),
        Decision::Revoke(_) => Some(Aim::Revoke),
        Decision::Retain(grant) => Some(Aim::Retain(grant)),
        Decision::Suspend { .. } | Decision::Preview { grant: Err(_), .. } | Decision::Leave(_) => {
            None
        }
    }
}

async fn of_grant(
    cluster: &Cluster,
    cloud: &Cloud,
    resource: &CrossAccountRegistryGrant,
) -> GrantPlan {
    let name = GrantName::of(resource);
    let before = resource
        .status
        .as_ref()
        .and_then(|status| status.applied.clone());
    let input = GrantInput {
        name: &name,
        spec: &resource.spec,
        is_deleting: resource.meta().deletion_timestamp.is_some(),
        applied: before.as_ref(),
    };
    let decision = Decision::of(&input, &cluster.rules());
    let recorded = cluster.claims_cache.claims(resource);
    let planned = decision.target().map(Grant::claims);
    let claims = match (recorded, planned) {
        (Some(recorded), Some(planned)) => Some(recorded.grown_by(&planned)),
        (claims, None) | (None, claims) => claims,
    };
    let mut plan = GrantPlan {
        grant: name.clone(),
        problems: decision.problems().to_vec(),
        changes: Vec::new(),
        access: Vec::new(),
        suspended: matches!(decision, Decision::Suspend { .. }),
    };
    let (Some(aim), Some(claims)) = (aim(&decision), claims) else {
        return plan;
    };
    let owner = Owner::of_resource(resource, &cluster.installation);
    let request = ApplyRequest {
        owner: &owner,
        spec: &resource.spec,
        aim,
        claims: &claims,
        freshness: Freshness::Fresh,
        // Every policy is read once.
        max_policy_age: Duration::MAX,
        abandons: false,
    };
    let done = Apply::dry_run(cluster, cloud, request).run().await;
    let outcome = Outcome::new(&decision, &resource.spec, None, done.report);
    plan.problems = outcome.problems();
    plan.changes = done.effects.log.changes;
    plan.access = outcome.report.access;
    plan
}
