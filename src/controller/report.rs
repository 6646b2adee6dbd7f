//! Reports the outcome of a reconcile: status, Events and drift metrics.

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::api::grant::CrossAccountRegistryGrantStatus as Status;
use crate::controller::Context;
use crate::controller::apply::{Effects, Log};
use crate::controller::error::Error;
use crate::controller::patch;
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
    let before = resource.status.as_ref();
    let generation = resource.meta().generation;
    let status = outcome.status(before, generation, &now(context));
    let (ready, reason, message) = status.ready().unwrap_or_default();
    let deleted = outcome.report.claims.is_none() && resource.meta().deletion_timestamp.is_some();
    if before != Some(&status) && !deleted {
        write_status(resource, context, &status).await?;
    }
    context
        .cluster
        .claims_cache
        .record(resource, outcome.report.claims.clone());

    publish_effects(resource, context, outcome, effects).await;
    let about = resource.object_ref(&());
    let was = before.and_then(Status::ready);
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

/// Publishes Events about what was done, and counts drift.
async fn publish_effects(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    outcome: &Outcome,
    effects: &Effects,
) {
    let Effects {
        log,
        as_before,
        given_up: _,
        again: _,
        revoked: _,
    } = effects;
    let about = resource.object_ref(&());
    let events = &context.runtime.events;
    events.notices(&about, &log.notices).await;
    let drift = drift(resource, log, *as_before);
    match outcome.report.pending {
        Some(_) => {}
        None if !drift.is_empty() => {
            let account = resource.spec.registry.account_id.as_str().into();
            context
                .cloud
                .metrics
                .drift_corrected
                .get_or_create(&account)
                .inc_by(drift.len() as u64);
            events.drift(&about, &drift).await;
        }
        None if !log.changes.is_empty() => events.changed(&about, &log.changes).await,
        None => {}
    }
    if !log.dead_principals.is_empty() {
        events
            .dead_principals_removed(&about, &log.dead_principals)
            .await;
    }
}

/// Returns the changes that somebody else made necessary, if everything was in place before.
fn drift(resource: &CrossAccountRegistryGrant, log: &Log, as_before: bool) -> Vec<String> {
    let Log {
        changes,
        put_back,
        notices: _,
        dead_principals: _,
    } = log;
    let before = resource.status.as_ref();
    // With `PathDenied`, somebody else denies access, but everything that the grant writes was in
    // place.
    let path_denied = Reason::PathDenied.to_string();
    let was_in_place = before
        .and_then(Status::ready)
        .is_some_and(|(ready, reason, _)| ready == "True" || reason == path_denied);
    let settled =
        before.and_then(|status| status.observed_generation) == resource.meta().generation;
    if !was_in_place || !settled {
        return Vec::new();
    }
    // A change in IAM although the desired state is the same as before was caused by somebody else.
    // A repository policy is excluded, because it changes with other grants as well. The removal of
    // ended sessions is excluded, too: it is only a matter of time.
    let in_iam = changes
        .iter()
        .filter(|change| {
            as_before && change.region.is_none() && !change.what.contains(ENDED_SESSIONS)
        })
        .map(Change::with_what_was_found);
    in_iam.chain(put_back.iter().cloned()).collect()
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

/// Returns the current time in the type that statuses use.
pub fn now(context: &Context) -> Time {
    Time(context.cluster.clock.now())
}
