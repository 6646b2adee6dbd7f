//! Reconciles one `CrossAccountRegistryGrant`: decides, records claims, applies and reports.

use crate::api::conditions::Reason;
use crate::api::grant::{Applied, ConsumerStatus, CrossAccountRegistryGrantSpec, RegistryStatus};
use crate::api::{ABANDON, CrossAccountRegistryGrant, RECONCILE};
use crate::aws::rate_limit::Priority;
use crate::controller::Context;
use crate::controller::apply::{Aim, Done, Enforcement};
use crate::controller::instrument::Ended;
use crate::controller::patch;
use crate::controller::recent;
use crate::controller::record::{
    abandon, claim, find_own_records, has_record, where_to_revoke, with_its_finalizer,
};
use crate::controller::report::{now, ready, report, write_status};
use crate::controller::repository_policy::sync::Freshness;
use crate::controller::requeue;
use crate::controller::restored;
use crate::controller::second_writer;
use crate::grant::ownership::Owner;
use crate::grant::status::{self, Outcome, StatusPart};
use crate::grant::{AccountLookup, Decision, GrantName, Problem};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Decides what should happen to a grant. A second live operator with the same installation ID
/// pauses enforcement.
fn decide(resource: &CrossAccountRegistryGrant, context: &Context) -> Decision {
    match context.world.decide(resource) {
        Decision::Enforce { grant, problems } => {
            match second_writer::pauses(&context.world, resource) {
                None => Decision::Enforce { grant, problems },
                Some(pause) => Decision::Leave([vec![pause], problems].concat()),
            }
        }
        decision => decision,
    }
}

/// Reason why a reconcile ended without reporting its outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Cluster(#[from] kube::Error),
    /// This replica's Lease is about to run out: a write could overtake one of the next leader.
    #[error("{0}")]
    NotLeading(String),
    /// A bug, which concerns this grant alone.
    #[error(transparent)]
    Panicked(#[from] crate::controller::supervise::Panicked),
}

pub async fn reconcile(
    resource: Arc<CrossAccountRegistryGrant>,
    context: Arc<Context>,
) -> Result<Ended, Error> {
    let _alone = context
        .world
        .claims_cache
        .alone_on(&GrantName::of(&resource))
        .await;
    // The grant may have changed or disappeared while this reconcile waited for its lock.
    let newest = context.world.grants.get(&ObjectRef::from_obj(&*resource));
    let Some(newest) = newest.filter(|newest| newest.uid() == resource.uid()) else {
        return Ok(Ended::gone());
    };
    let resource = with_its_finalizer(newest, &context).await?;
    let resource = &*resource;
    let deleting = resource.meta().deletion_timestamp.is_some();
    // A record without our finalizer means that another finalizer holds up the deletion, and that
    // the grant has not been revoked yet.
    if deleting
        && !patch::has_finalizer(resource)
        && context.world.claims_cache.claims(resource).is_none()
    {
        return Ok(Ended::gone());
    }
    let owner = Owner::of_resource(resource, &context.world.installation);
    if let Some(ended) = waits_for_the_caches(resource, &owner, &context).await? {
        return Ok(ended);
    }
    let look = how_to_look(resource, &context);
    let fresh = how_fresh(resource, &context);
    // A place that the grant should still have is never given up.
    let abandons = is_abandoned(resource);
    let begin = |aim, claims| {
        Enforcement::new(&context.world, &owner, &resource.spec, aim, claims, look)
            .knowing_as_of(fresh)
    };
    context.world.restored.note_start(&context.world);
    if restored::may_have_lost_its_record(&context.world, resource) {
        find_own_records(resource, &owner, &context).await;
    }
    let had_record = context.world.claims_cache.claims(resource).is_some();
    let decision = decide(resource, &context);
    let (enforces, revokes) = (
        matches!(decision, Decision::Enforce { .. }),
        matches!(decision, Decision::Revoke(_)),
    );
    let (mut done, refusal) = match decision {
        Decision::Enforce { grant, problems } => {
            let before = context
                .world
                .claims_cache
                .claims(resource)
                .unwrap_or_else(Applied::none);
            let probed = begin(Aim::Hold(&grant), &before).probe(&grant).await;
            let recording = context.world.recording.acquire().await;
            let claims = claim(resource, &context, &probed.claims()).await?;
            drop(recording);
            let enforcement = begin(Aim::Hold(&grant), &claims)
                .after(probed)
                .abandoning(abandons);
            (enforcement.run().await, problems)
        }
        Decision::Revoke(problems) => match where_to_revoke(resource, &owner.grant, &context) {
            // The loss of admission does not entitle the owner to give up access that cannot be
            // revoked: only a deletion does.
            Some(claims) => (
                begin(Aim::Revoke, &claims)
                    .abandoning(abandons && deleting)
                    .run()
                    .await,
                problems,
            ),
            None => (nothing_done(None), problems),
        },
        Decision::Retain(grant) => match context.world.claims_cache.claims(resource) {
            Some(claims) => (
                begin(Aim::Retain(&grant), &claims)
                    .abandoning(abandons)
                    .run()
                    .await,
                Vec::new(),
            ),
            None => (nothing_done(None), Vec::new()),
        },
        Decision::Preview {
            grant: Ok(grant), ..
        } => {
            // Places that were applied before stay recorded as they are, and are read with the
            // rest.
            let recorded = context.world.claims_cache.claims(resource);
            let claims = recorded
                .as_ref()
                .map_or_else(|| grant.claims(), |before| before.grown_by(&grant.claims()));
            let mut done = begin(Aim::Hold(&grant), &claims).observing().run().await;
            // The current claims: the record may have been found again meanwhile.
            done.outcome.applied = context.world.claims_cache.claims(resource);
            (done, Vec::new())
        }
        Decision::Suspend { .. } => {
            suspend(resource, &context).await?;
            return Ok(Ended::suspended(requeue::after_success(
                context.world.resync_interval,
            )));
        }
        Decision::Preview {
            grant: Err(problems),
            ..
        }
        | Decision::Leave(problems) => {
            let mut done = nothing_done(context.world.claims_cache.claims(resource));
            // Nothing can be found out about an account that has no AWSAccount.
            if let Some(problem) = problems.first()
                && deleting
                && abandons
                && problems.iter().all(|problem| problem.reason.shuts_out())
            {
                let places = done
                    .outcome
                    .applied
                    .take()
                    .into_iter()
                    .flat_map(|applied| applied.places().collect::<Vec<_>>());
                done.given_up = places.map(|place| (place, problem.clone())).collect();
            }
            (done, problems)
        }
    };
    if revokes && done.outcome.applied.is_none() {
        context.world.claims_cache.record_nothing_left(&owner.uid);
    }
    done.outcome.refusal = refusal;
    // Independent of the outcome: a replaced statement stays recorded for as long as the spec names
    // its Sid.
    done.outcome.replaces = resource
        .spec
        .registry
        .replace_sids
        .iter()
        .cloned()
        .collect();
    done.outcome.handled = asked(resource).cloned();
    let problems = done.outcome.problems();
    let failures = || {
        context
            .backoff
            .failed(&owner.uid, resource.meta().generation)
    };
    // A grant that was ready a moment ago most likely still is. A transient AWS error, or a work
    // slot that was not free in time, is not reported at once.
    let hiccup = matches!(look, Freshness::MaxAge(_))
        && !problems.is_empty()
        && problems.iter().all(passes_by_itself);
    if hiccup
        && done.changes.is_empty()
        && done.put_back.is_empty()
        && context.backoff.count(&owner.uid) < HICCUPS
    {
        tracing::warn!(grant = %owner.grant, reason = %problems[0].reason, "could not be looked at, trying again: {}", problems[0].message);
        let pause = requeue::after_failures(&problems, failures(), context.world.resync_interval);
        return Ok(Ended::not_ready(pause));
    }
    // Recorded before the claims are removed: after a restart, this record says which policies to
    // read.
    recent::record(&context, &done.revoked).await?;
    report(resource, &context, &owner, &done).await?;
    if !done.given_up.is_empty() {
        abandon(resource, &context, &done.given_up).await;
    }
    let has_nothing = done.outcome.applied.is_none();
    if !deleting && enforces && had_record && has_nothing && patch::has_finalizer(resource) {
        // All access of the grant was revoked, and none of its desired places can be used yet, so
        // there is nothing to guard. If the finalizer stays nevertheless, a deletion need not
        // search the places of the spec.
        context.world.claims_cache.record_nothing_left(&owner.uid);
        patch::remove_finalizer(&context.world.leadership, &context.client, resource).await?;
    }
    if deleting && has_nothing {
        // Records that nothing is left to revoke, so that the grant does not count as vanished when
        // it disappears.
        context.world.claims_cache.record(resource, None);
        patch::remove_finalizer(&context.world.leadership, &context.client, resource).await?;
        context.backoff.reset(&owner.uid);
        return Ok(Ended::gone());
    }
    if problems.is_empty() {
        context.backoff.reset(&owner.uid);
        let resync = requeue::after_success(context.world.resync_interval);
        return Ok(Ended::ready(
            done.again.map_or(resync, |again| again.min(resync)),
        ));
    }
    Ok(Ended::not_ready(requeue::after_failures(
        &problems,
        failures(),
        context.world.resync_interval,
    )))
}

/// Ends the reconcile of a grant whose accounts or namespace are not in the watch caches yet.
async fn waits_for_the_caches(
    resource: &CrossAccountRegistryGrant,
    owner: &Owner,
    context: &Context,
) -> Result<Option<Ended>, Error> {
    let status = resource.status.as_ref();
    // An earlier reconcile of this generation found the caches full.
    if status.and_then(|status| status.observed_generation) == resource.meta().generation {
        return Ok(None);
    }
    let (watch_caches, client) = (&context.world.watch_caches, &context.client);
    let Some(missing) = watch_caches.behind(client, resource).await? else {
        return Ok(None);
    };
    tracing::debug!(grant = %owner.grant, missing, "not in the watch cache yet, waiting for it");
    // The arrival of the missing object triggers a reconcile. This retry is for the case that it
    // does not arrive.
    let failures = context
        .backoff
        .failed(&owner.uid, resource.meta().generation);
    Ok(Some(Ended::not_ready(requeue::after_failure(
        Reason::Settling,
        failures,
        context.world.resync_interval,
    ))))
}

/// Number of consecutive reconciles that may fail with transient errors before a ready grant
/// reports it.
const HICCUPS: u32 = 2;

fn passes_by_itself(problem: &Problem) -> bool {
    matches!(
        problem.reason,
        Reason::Throttled | Reason::Unavailable | Reason::HostNotResolved
    )
}

/// Returns the freshness that the sync of a repository policy needs. On a resync of a settled
/// grant, another grant's recent sync of the same repository is enough: hundreds of grants on one
/// repository do not read its policy hundreds of times. A grant that was changed, is not ready, or
/// was requested by annotation gets a fresh sync.
fn how_to_look(resource: &CrossAccountRegistryGrant, context: &Context) -> Freshness {
    let status = resource.status.as_ref();
    let is_ready = ready(status).is_some_and(|(ready, ..)| ready == "True");
    let is_settled =
        status.and_then(|status| status.observed_generation) == resource.meta().generation;
    if is_ready && is_settled && !is_asked_for(resource) {
        Freshness::MaxAge(context.world.resync_interval / 2)
    } else {
        Freshness::Fresh
    }
}

/// Returns the maximum age of cached managed and registry policies. Many grants depend on them, and
/// they change seldom. A manual request bypasses the cache. A grant with denied access uses a short
/// age, because somebody may be fixing it.
fn how_fresh(resource: &CrossAccountRegistryGrant, context: &Context) -> Duration {
    const JUST_NOW: Duration = Duration::from_secs(10);
    let status = resource.status.as_ref();
    let denied =
        ready(status).is_some_and(|(_, reason, _)| reason == Reason::PathDenied.to_string());
    match is_asked_for(resource) {
        true => Duration::ZERO,
        false if denied => JUST_NOW.min(context.world.resync_interval),
        false => context.world.resync_interval,
    }
}

/// Priority and first account of a reconcile.
pub struct Begins {
    pub urgency: Priority,
    /// The account that it calls first, if it calls any.
    pub account: Option<String>,
}

/// Computes how the grant's next reconcile begins. Call it only after the caches of accounts and
/// namespaces are filled.
pub fn begins(resource: &CrossAccountRegistryGrant, context: &Context) -> Begins {
    let (claims, name) = (
        context.world.claims_cache.claims(resource),
        GrantName::of(resource),
    );
    let decision = decide(resource, context);
    let urgency = urgency(
        resource,
        context,
        claims.is_some() && matches!(decision, Decision::Revoke(_)),
    );
    let calls = match decision {
        Decision::Enforce { .. } => true,
        Decision::Preview { grant, .. } => grant.is_ok(),
        Decision::Revoke(_) => where_to_revoke(resource, &name, context).is_some(),
        Decision::Retain(_) => claims.is_some(),
        Decision::Suspend { .. } | Decision::Leave(_) => false,
    };
    let CrossAccountRegistryGrantSpec {
        registry, consumer, ..
    } = &resource.spec;
    let claims_role = claims.is_some_and(|claims| !claims.instance_roles.is_empty());
    let has_account = |id: &&String| {
        id.parse()
            .is_ok_and(|id| context.world.watch_caches.account(&id).is_some())
    };
    let in_consumer = consumer.account_id.as_ref().filter(has_account);
    let in_consumer = in_consumer.filter(|_| claims_role || consumer.instance_role.is_some());
    Begins {
        urgency,
        account: calls.then(|| in_consumer.unwrap_or(&registry.account_id).clone()),
    }
}

fn urgency(resource: &CrossAccountRegistryGrant, context: &Context, revokes: bool) -> Priority {
    if revokes || resource.meta().deletion_timestamp.is_some() {
        return Priority::Revocation;
    }
    let is_new = resource
        .status
        .as_ref()
        .and_then(|status| status.observed_generation)
        != resource.meta().generation;
    match how_to_look(resource, context) {
        Freshness::MaxAge(_) => Priority::Resync,
        Freshness::Fresh | Freshness::VerifyWrite | Freshness::Background if is_new => {
            Priority::Change
        }
        Freshness::Fresh | Freshness::VerifyWrite | Freshness::Background => Priority::Retry,
    }
}

/// Returns whether an annotation requests a reconcile, and none has served the request yet.
pub fn is_asked_for(resource: &CrossAccountRegistryGrant) -> bool {
    asked(resource)
        != resource
            .status
            .as_ref()
            .and_then(|status| status.last_handled_reconcile.as_ref())
}

/// Returns the pause after a reconcile that could not report its outcome.
pub fn after_error(
    resource: &CrossAccountRegistryGrant,
    error: &Error,
    context: &Context,
) -> Duration {
    match error {
        Error::Cluster(_) | Error::Panicked(_) => {
            tracing::warn!(grant = resource.name_any(), namespace = resource.namespace(), %error, "the outcome could not be told; trying again");
        }
        // The next leader continues.
        Error::NotLeading(_) => {
            tracing::debug!(grant = resource.name_any(), namespace = resource.namespace(), %error)
        }
    }
    let failures = context.backoff.failed(
        &resource.uid().unwrap_or_default(),
        resource.meta().generation,
    );
    requeue::after_failure(Reason::Unavailable, failures, context.world.resync_interval)
}

/// Returns the value of the annotation that requests a reconcile. Any value will do.
fn asked(resource: &CrossAccountRegistryGrant) -> Option<&String> {
    resource.annotations().get(RECONCILE)
}

/// Returns whether the grant may be released where an account cannot be accessed.
pub fn is_abandoned(resource: &CrossAccountRegistryGrant) -> bool {
    resource
        .annotations()
        .get(ABANDON)
        .is_some_and(|value| value == "true")
}

/// Hashes everything that triggers a reconcile of a grant: the generation (which a deletion changes
/// and the operator's own status writes do not), the annotations for the operator, and the loss of
/// the finalizer that guards the record.
pub fn calls_for_a_look(resource: &CrossAccountRegistryGrant) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let lost_finalizer = has_record(resource) && !patch::has_finalizer(resource);
    (
        resource.meta().generation,
        asked(resource),
        is_abandoned(resource),
        lost_finalizer,
    )
        .hash(&mut hasher);
    Some(hasher.finish())
}

/// Reports that the grant is suspended, and nothing else about it.
async fn suspend(resource: &CrossAccountRegistryGrant, context: &Context) -> Result<(), Error> {
    let (before, generation) = (resource.status.as_ref(), resource.meta().generation);
    let claims = context.world.claims_cache.claims(resource);
    let status = status::suspended(before, generation, claims, asked(resource).cloned(), &now());
    if before != Some(&status) {
        write_status(resource, context, &status).await?;
    }
    Ok(())
}

fn nothing_done(applied: Option<Applied>) -> Done {
    let untouched = || StatusPart::NotRequested("nothing was done".into());
    let outcome = Outcome {
        revoking: true,
        refusal: Vec::new(),
        accounts: untouched(),
        no_session: Vec::new(),
        role: untouched(),
        consumer: untouched(),
        repositories: untouched(),
        each_repository: BTreeMap::new(),
        replaces: BTreeSet::new(),
        registry_status: RegistryStatus::default(),
        consumer_status: ConsumerStatus::default(),
        access: Vec::new(),
        pending: None,
        applied,
        summary: String::new(),
        handled: None,
    };
    Done {
        outcome,
        changes: Vec::new(),
        put_back: Vec::new(),
        notices: Vec::new(),
        as_before: false,
        given_up: BTreeMap::new(),
        dead_principals: Vec::new(),
        again: None,
        revoked: Vec::new(),
    }
}
