//! Reports the outcome of a reconcile: status, Events and drift metrics.

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::CrossAccountRegistryGrantStatus as Status;
use crate::controller::Context;
use crate::controller::apply::{Effects, Log};
use crate::controller::patch;
use crate::controller::reconcile::Error;
use crate::grant::change::Change;
use crate::grant::diff::ENDED_SESSIONS;
use crate::grant::ownership::Owner;
use crate::grant::status::Outcome;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

/// Writes the status if it changed, and publishes Events about the news.
pub async fn report(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    owner: &Owner,
    outcome: &Outcome,
    effects: &Effects,
) -> Result<(), Error> {
    let Effects {
        log,
        as_before,
        given_up: _,
        again: _,
        revoked: _,
    } = effects;
    let Log {
        changes,
        put_back,
        notices,
        dead_principals,
    } = log;
    let before = resource.status.as_ref();
    let generation = resource.meta().generation;
    let status = outcome.status(before, generation, &now(context));
    let (ready, reason, message) = ready(Some(&status)).unwrap_or_default();
    let deleted = outcome.applied.is_none() && resource.meta().deletion_timestamp.is_some();
    if before != Some(&status) && !deleted {
        write_status(resource, context, &status).await?;
    }
    context
        .cluster
        .claims_cache
        .record(resource, outcome.applied.clone());

    let about = resource.object_ref(&());
    context.runtime.events.notices(&about, notices).await;
    let was = self::ready(before);
    // With `PathDenied`, somebody else denies access, but everything that the grant writes was in
    // place.
    let path_denied = Reason::PathDenied.to_string();
    let was_in_place = was
        .as_ref()
        .is_some_and(|(ready, reason, _)| *ready == "True" || *reason == path_denied);
    let settled = before.and_then(|status| status.observed_generation) == generation;
    // A change in IAM although the desired state is the same as before was caused by somebody else.
    // A repository policy is excluded, because it changes with other grants as well. The removal of
    // ended sessions is excluded, too: it is only a matter of time.
    let by_others = |change: &&Change| {
        *as_before && change.region.is_none() && !change.what.contains(ENDED_SESSIONS)
    };
    let in_iam = changes
        .iter()
        .filter(by_others)
        .map(Change::with_what_was_found);
    let drift: Vec<String> = in_iam.chain(put_back.iter().cloned()).collect();
    let is_drift = was_in_place && settled && !drift.is_empty();
    match outcome.pending {
        Some(_) => {}
        None if is_drift => {
            let account = resource.spec.registry.account_id.as_str().into();
            context
                .cloud
                .metrics
                .drift_corrected
                .get_or_create(&account)
                .inc_by(drift.len() as u64);
            context.runtime.events.drift(&about, &drift).await;
        }
        None if !changes.is_empty() => context.runtime.events.changed(&about, changes).await,
        None => {}
    }
    if !dead_principals.is_empty() {
        context
            .runtime
            .events
            .dead_principals_removed(&about, dead_principals)
            .await;
    }
    let news = was != Some((ready, reason, message));
    match outcome.problems().first() {
        Some(problem) if news => {
            tracing::warn!(grant = %owner.grant, reason, "{message}");
            context
                .runtime
                .events
                .problem(&about, problem.reason, message)
                .await;
        }
        None if deleted => tracing::info!(grant = %owner.grant, "revoked"),
        None if news && ready == "True" => {
            tracing::info!(grant = %owner.grant, reason, "{message}");
            context.runtime.events.granted(&about, message).await;
        }
        Some(_) | None => tracing::debug!(grant = %owner.grant, reason, "unchanged"),
    }
    Ok(())
}

/// Writes the entire status, while this replica leads. A former leader would overwrite the claims
/// of the next one.
pub async fn write_status(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    status: &Status,
) -> Result<(), Error> {
    let permit = context
        .runtime
        .leadership
        .write_permit()
        .map_err(|problem| Error::NotLeading(problem.message))?;
    let client = &context.runtime.client;
    Ok(patch::grant_status(permit, client, resource, status).await?)
}

/// Returns status, reason and message of the condition `Ready`.
pub fn ready(status: Option<&Status>) -> Option<(&str, &str, &str)> {
    let name = ConditionType::Ready.to_string();
    let condition = status?
        .conditions
        .iter()
        .find(|condition| condition.type_ == name)?;
    Some((&condition.status, &condition.reason, &condition.message))
}

/// Returns the current time in the type that statuses use.
pub fn now(context: &Context) -> Time {
    Time(context.cluster.clock.now())
}
