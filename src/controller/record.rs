//! The record of a grant, and the finalizer that guards it.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::Applied;
use crate::controller::Context;
use crate::controller::apply::{Aim, Apply, ApplyRequest};
use crate::controller::context::Cluster;
use crate::controller::error::Error;
use crate::controller::patch;
use crate::controller::report::{now, write_status};
use crate::controller::state::repository::Freshness;
use crate::grant::claims::Place;
use crate::grant::ownership::Owner;
use crate::grant::{GrantName, Problem, grant_if_enforced, meant, status};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Restores the finalizer of a grant that has a record. Somebody removed it, and a deletion would
/// leave the grant's access in AWS.
pub async fn with_its_finalizer(
    resource: Arc<CrossAccountRegistryGrant>,
    context: &Context,
) -> Result<Arc<CrossAccountRegistryGrant>, Error> {
    let deleting = resource.meta().deletion_timestamp.is_some();
    if deleting
        || patch::has_finalizer(&resource)
        || context.cluster.claims_cache.claims(&resource).is_none()
    {
        return Ok(resource);
    }
    let restored = patch::add_finalizer(
        patch::permitted(&context.runtime.leadership)?,
        &context.runtime.client,
        &resource,
    )
    .await?;
    tracing::warn!(grant = %GrantName::of(&resource), "restored the grant's finalizer, which somebody had removed");
    context
        .runtime
        .events
        .finalizer_restored(&resource.object_ref(&()))
        .await;
    Ok(Arc::new(restored))
}

/// Returns whether the grant's status contains a record.
pub fn has_record(resource: &CrossAccountRegistryGrant) -> bool {
    resource
        .status
        .as_ref()
        .is_some_and(|status| status.applied.is_some())
}

/// Records the places that may be written to, before any of them is. The finalizer comes first, so
/// that the record cannot disappear. A grant without any such place gets neither.
pub async fn claim(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    wanted: &Applied,
) -> Result<Applied, Error> {
    if wanted.is_empty() && context.cluster.claims_cache.claims(resource).is_none() {
        return Ok(wanted.clone());
    }
    if !patch::has_finalizer(resource) {
        patch::add_finalizer(
            patch::permitted(&context.runtime.leadership)?,
            &context.runtime.client,
            resource,
        )
        .await?;
    }
    let before = context.cluster.claims_cache.claims(resource);
    let claims = before
        .as_ref()
        .map_or_else(|| wanted.clone(), |before| before.grown_by(wanted));
    if before.as_ref() != Some(&claims) {
        let status = status::progressing(
            resource.status.as_ref(),
            resource.meta().generation,
            claims.clone(),
            &now(context),
        );
        write_status(resource, context, &status).await?;
        context
            .cluster
            .claims_cache
            .record(resource, Some(claims.clone()));
    }
    Ok(claims)
}

/// Returns the places where a grant that is being revoked may have access. These are its recorded
/// claims. Without a record, they are the places that its spec names, if it has our finalizer: it
/// had a record once, and lost it in a restore of the cluster. A grant that never had a record is
/// no reason to call an account that does not admit it.
pub fn where_to_revoke(
    resource: &CrossAccountRegistryGrant,
    name: &GrantName,
    context: &Context,
) -> Option<Applied> {
    let Cluster {
        watch_caches,
        installation,
        claims_cache,
        ..
    } = &context.cluster;
    let by_spec =
        || meant(name, &resource.spec, watch_caches, installation).map(|grant| grant.claims());
    claims_cache.claims(resource).or_else(|| {
        may_have_lost_record(&context.cluster, resource)
            .then(by_spec)
            .flatten()
    })
}

/// Returns whether a grant without a record had one before: it has our finalizer, and is not known
/// to have nothing left in AWS.
pub fn may_have_lost_record(cluster: &Cluster, resource: &CrossAccountRegistryGrant) -> bool {
    patch::has_finalizer(resource) && !cluster.claims_cache.has_nothing_left(resource)
}

/// Searches AWS for access of a frozen grant that has no record, once since the start. If the
/// search fails, the next reconcile tries again.
pub async fn find_own_records(
    resource: &CrossAccountRegistryGrant,
    owner: &Owner,
    context: &Context,
) {
    let claims_cache = &context.cluster.claims_cache;
    if claims_cache.was_searched_for(&owner.uid) {
        return;
    }
    let rules = context.cluster.rules();
    let Ok(grant) = grant_if_enforced(&owner.grant, &resource.spec, None, &rules) else {
        return;
    };
    let claims = grant.claims();
    let request = ApplyRequest {
        owner,
        spec: &resource.spec,
        aim: Aim::Revoke,
        claims: &claims,
        freshness: Freshness::Fresh,
        max_policy_age: context.runtime.pauses.resync_interval(),
        abandons: false,
    };
    match Apply::live(context, request).find_records(context).await {
        Ok(()) => claims_cache.record_search(&owner.uid),
        Err(problem) => {
            tracing::debug!(grant = %owner.grant, reason = %problem.reason, "failed to search for the grant's record, retrying: {}", problem.message);
        }
    }
}

/// Reports for the last time which access may be left in places that are given up.
pub async fn report_abandoned(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    given_up: &BTreeMap<Place, Problem>,
) {
    let left = given_up
        .keys()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let (registry, consumer) = (
        &resource.spec.registry.account_id,
        resource.spec.consumer.account_id.as_deref(),
    );
    let accounts = consumer.map_or_else(
        || registry.clone(),
        |consumer| format!("{registry} and {consumer}"),
    );
    let mut why: Vec<&str> = given_up
        .values()
        .map(|problem| problem.message.as_str())
        .collect();
    why.dedup();
    let message = format!(
        "abandoned: accounts {accounts} may still have {left} ({})",
        why.join("; ")
    );
    tracing::warn!(
        grant = resource.name_any(),
        namespace = resource.namespace(),
        "{message}"
    );
    context
        .runtime
        .events
        .abandoned(&resource.object_ref(&()), &message)
        .await;
}
