//! Reconciles one `CrossAccountRegistryGrant`: decides, records claims, applies and reports.

use crate::api::conditions::Reason;
use crate::api::grant::{
    Applied, CrossAccountRegistryGrantSpec, CrossAccountRegistryGrantStatus as Status,
};
use crate::api::{ABANDON, CrossAccountRegistryGrant, RECONCILE};
use crate::aws::rate_limit::Priority;
use crate::controller::Context;
use crate::controller::apply::{Aim, Apply, ApplyRequest, Done, Effects};
use crate::controller::error::Error;
use crate::controller::patch;
use crate::controller::recently_revoked;
use crate::controller::record::{
    claim, find_own_records, has_record, report_abandoned, where_to_revoke, with_its_finalizer,
};
use crate::controller::report::{now, report, write_status};
use crate::controller::requeue::Ended;
use crate::controller::restored;
use crate::controller::second_writer;
use crate::controller::state::repository::Freshness;
use crate::grant::ownership::Owner;
use crate::grant::status::{self, Outcome};
use crate::grant::{AccountLookup, Decision, Grant, GrantName, Problem};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Decides what should happen to a grant. A second live operator with the same installation ID
/// pauses enforcement.
fn decide(resource: &CrossAccountRegistryGrant, context: &Context) -> Decision {
    match context.cluster.decide(resource) {
        Decision::Enforce { grant, problems } => {
            match second_writer::pauses(&context.cluster, resource) {
                None => Decision::Enforce { grant, problems },
                Some(pause) => Decision::Leave([vec![pause], problems].concat()),
            }
        }
        decision => decision,
    }
}

/// Grant that is being reconciled.
struct Subject<'a> {
    resource: &'a CrossAccountRegistryGrant,
    owner: Owner,
    /// The freshness that syncs of repository policies need.
    freshness: Freshness,
}

pub async fn reconcile(
    resource: Arc<CrossAccountRegistryGrant>,
    context: Arc<Context>,
) -> Result<Ended, Error> {
    let claims_cache = &context.cluster.claims_cache;
    let _alone = claims_cache.alone_on(&GrantName::of(&resource)).await;
    let Some(resource) = newest(&resource, &context).await? else {
        return Ok(Ended::gone());
    };
    let subject = Subject::of(&resource, &context);
    if let Some(ended) = waits_for_the_caches(&subject, &context).await? {
        return Ok(ended);
    }
    find_lost_records(&subject, &context).await;
    let had_record = claims_cache.claims(&resource).is_some();
    let decision = decide(&resource, &context);
    if let Decision::Suspend { .. } = decision {
        return report_suspended(&resource, &context).await;
    }
    let done = carry_out(&subject, &decision, &context).await?;
    let outcome = Outcome::new(&decision, &resource.spec, asked(&resource), done.report);
    let effects = done.effects;
    if is_hiccup(&subject, &outcome, &effects, &context) {
        return Ok(not_ready(&subject, &outcome.problems(), &context));
    }
    // Recorded before the claims are removed: after a restart, this record says which policies to
    // read.
    recently_revoked::record(&context, &effects.revoked).await?;
    report(&resource, &context, &subject.owner, &outcome, &effects).await?;
    if !effects.given_up.is_empty() {
        report_abandoned(&resource, &context, &effects.given_up).await;
    }
    let is_guarded = had_record && matches!(decision, Decision::Enforce { .. });
    finish(&subject, &outcome, is_guarded, effects.again, &context).await
}

impl<'a> Subject<'a> {
    fn of(resource: &'a CrossAccountRegistryGrant, context: &Context) -> Self {
        Self {
            resource,
            owner: Owner::of_resource(resource, &context.cluster.installation),
            freshness: how_to_look(resource, context),
        }
    }

    fn is_deleting(&self) -> bool {
        self.resource.meta().deletion_timestamp.is_some()
    }
}

/// Returns the newest version of a grant, with our finalizer if it needs one. `None`: it
/// disappeared while this reconcile waited for its lock, or nothing of it is left to revoke.
async fn newest(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
) -> Result<Option<Arc<CrossAccountRegistryGrant>>, Error> {
    let newest = context.cluster.grants.get(&ObjectRef::from_obj(resource));
    let Some(newest) = newest.filter(|newest| newest.uid() == resource.uid()) else {
        return Ok(None);
    };
    let resource = with_its_finalizer(newest, context).await?;
    // A record without our finalizer means that another finalizer holds up the deletion, and that
    // the grant has not been revoked yet.
    let is_done = resource.meta().deletion_timestamp.is_some()
        && !patch::has_finalizer(&resource)
        && context.cluster.claims_cache.claims(&resource).is_none();
    Ok((!is_done).then_some(resource))
}

async fn find_lost_records(subject: &Subject<'_>, context: &Context) {
    restored::note_start(&context.runtime.restored, &context.cluster);
    if restored::may_have_lost_its_record(&context.cluster, subject.resource) {
        find_own_records(subject.resource, &subject.owner, context).await;
    }
}

/// Carries out a decision in AWS, or previews it.
async fn carry_out(
    subject: &Subject<'_>,
    decision: &Decision,
    context: &Context,
) -> Result<Done, Error> {
    let claims_cache = &context.cluster.claims_cache;
    let resource = subject.resource;
    let recorded = claims_cache.claims(resource);
    match decision {
        Decision::Enforce { grant, .. } => enforce(subject, grant, recorded, context).await,
        Decision::Revoke(_) => {
            let places = where_to_revoke(resource, &subject.owner.grant, context);
            let done = match places {
                Some(claims) => {
                    // The loss of admission does not entitle the owner to give up access that
                    // cannot be revoked: only a deletion does.
                    let abandons = is_abandoned(resource) && subject.is_deleting();
                    let request = request(subject, Aim::Revoke, &claims, abandons, context);
                    Apply::live(context, request).run().await
                }
                None => Done::nothing(None),
            };
            if done.report.claims.is_none() {
                claims_cache.record_nothing_left(&subject.owner.uid);
            }
            Ok(done)
        }
        Decision::Retain(grant) => match recorded {
            Some(claims) => {
                let abandons = is_abandoned(resource);
                let request = request(subject, Aim::Retain(grant), &claims, abandons, context);
                Ok(Apply::live(context, request).run().await)
            }
            None => Ok(Done::nothing(None)),
        },
        Decision::Preview {
            grant: Ok(grant), ..
        } => {
            // Places that were applied before stay recorded as they are, and are read with the
            // rest.
            let claims = match recorded {
                Some(recorded) => recorded.grown_by(&grant.claims()),
                None => grant.claims(),
            };
            let request = request(subject, Aim::Hold(grant), &claims, false, context);
            let preview = Apply::dry_run(&context.cluster, &context.cloud, request);
            let mut done = preview.run().await;
            // The current claims: the record may have been found again meanwhile.
            done.report.claims = claims_cache.claims(resource);
            Ok(done)
        }
        Decision::Preview {
            grant: Err(problems),
            ..
        }
        | Decision::Leave(problems) => Ok(leave(subject, problems, recorded)),
        Decision::Suspend { .. } => Ok(Done::nothing(recorded)),
    }
}

/// Records the claims on the grant's places, and puts the grant in place.
async fn enforce(
    subject: &Subject<'_>,
    grant: &Grant,
    recorded: Option<Applied>,
    context: &Context,
) -> Result<Done, Error> {
    // A place that the grant should still have is never given up.
    let abandons = is_abandoned(subject.resource);
    let before = recorded.unwrap_or_else(Applied::none);
    let to_probe = request(subject, Aim::Hold(grant), &before, abandons, context);
    let probed = Apply::live(context, to_probe).probe(context, grant).await;
    let recording = context.runtime.recording.acquire().await;
    let claims = claim(subject.resource, context, &probed.claims()).await?;
    drop(recording);
    let request = request(subject, Aim::Hold(grant), &claims, abandons, context);
    Ok(Apply::live(context, request).after(probed).run().await)
}

fn request<'a>(
    subject: &'a Subject<'a>,
    aim: Aim<'a>,
    claims: &'a Applied,
    abandons: bool,
    context: &Context,
) -> ApplyRequest<'a> {
    ApplyRequest {
        owner: &subject.owner,
        spec: &subject.resource.spec,
        aim,
        claims,
        freshness: subject.freshness,
        max_policy_age: how_fresh(subject.resource, context),
        abandons,
    }
}

/// Leaves a grant as it is. If it is deleted and abandoned, its places in accounts to which the
/// operator has no access are given up: nothing can be found out about an account that has no
/// `AWSAccount`.
fn leave(subject: &Subject<'_>, problems: &[Problem], recorded: Option<Applied>) -> Done {
    let gives_up = subject.is_deleting()
        && is_abandoned(subject.resource)
        && problems.iter().all(|problem| problem.reason.shuts_out());
    let Some(problem) = problems.first().filter(|_| gives_up) else {
        return Done::nothing(recorded);
    };
    let mut done = Done::nothing(None);
    done.effects.given_up = recorded
        .iter()
        .flat_map(Applied::places)
        .map(|place| (place, problem.clone()))
        .collect();
    done
}

/// Returns whether a failure is not reported at once. A grant that was ready a moment ago most
/// likely still is, and a transient AWS error, or a work slot that was not free in time, says
/// nothing about it.
fn is_hiccup(
    subject: &Subject<'_>,
    outcome: &Outcome,
    effects: &Effects,
    context: &Context,
) -> bool {
    let problems = outcome.problems();
    let passes = matches!(subject.freshness, Freshness::MaxAge(_))
        && !problems.is_empty()
        && problems.iter().all(passes_by_itself)
        && effects.log.changes.is_empty()
        && effects.log.put_back.is_empty()
        && context.runtime.backoff.count(&subject.owner.uid) < HICCUPS;
    if passes {
        let Problem { reason, message } = &problems[0];
        tracing::warn!(grant = %subject.owner.grant, %reason, "transient AWS error, retrying: {message}");
    }
    passes
}

/// Ends a reconcile whose outcome was reported: removes the finalizer if there is nothing left to
/// guard, and says when the next one is due. `was_guarded`: the grant is enforced, and had a record
/// before.
async fn finish(
    subject: &Subject<'_>,
    outcome: &Outcome,
    was_guarded: bool,
    again: Option<Duration>,
    context: &Context,
) -> Result<Ended, Error> {
    let Subject {
        resource, owner, ..
    } = subject;
    let claims_cache = &context.cluster.claims_cache;
    let has_nothing = outcome.report.claims.is_none();
    if !subject.is_deleting() && was_guarded && has_nothing && patch::has_finalizer(resource) {
        // All access of the grant was revoked, and none of its desired places can be used yet, so
        // there is nothing to guard. If the finalizer stays nevertheless, a deletion need not
        // search the places of the spec.
        claims_cache.record_nothing_left(&owner.uid);
        patch::remove_finalizer(
            &context.runtime.leadership,
            &context.runtime.client,
            resource,
        )
        .await?;
    }
    if subject.is_deleting() && has_nothing {
        // Records that nothing is left to revoke, so that the grant does not count as vanished when
        // it disappears.
        claims_cache.record(resource, None);
        patch::remove_finalizer(
            &context.runtime.leadership,
            &context.runtime.client,
            resource,
        )
        .await?;
        context.runtime.backoff.reset(&owner.uid);
        return Ok(Ended::gone());
    }
    let problems = outcome.problems();
    if !problems.is_empty() {
        return Ok(not_ready(subject, &problems, context));
    }
    context.runtime.backoff.reset(&owner.uid);
    let resync = context.runtime.pauses.after_success();
    Ok(Ended::ready(
        again.map_or(resync, |again| again.min(resync)),
    ))
}

/// Counts a failure, and says when the next reconcile is due.
fn not_ready(subject: &Subject<'_>, problems: &[Problem], context: &Context) -> Ended {
    let generation = subject.resource.meta().generation;
    let backoff = &context.runtime.backoff;
    let failures = backoff.failed(&subject.owner.uid, generation);
    let pauses = &context.runtime.pauses;
    Ended::not_ready(pauses.after_failures(problems, failures))
}

/// Ends the reconcile of a grant whose accounts or namespace are not in the watch caches yet.
async fn waits_for_the_caches(
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Option<Ended>, Error> {
    let Subject {
        resource, owner, ..
    } = subject;
    let status = resource.status.as_ref();
    // An earlier reconcile of this generation found the caches full.
    if status.and_then(|status| status.observed_generation) == resource.meta().generation {
        return Ok(None);
    }
    let watch_caches = &context.cluster.watch_caches;
    let client = &context.runtime.client;
    let Some(missing) = watch_caches.behind(client, resource).await? else {
        return Ok(None);
    };
    tracing::debug!(grant = %owner.grant, missing, "waiting for an object that is not in the watch cache yet");
    // The arrival of the missing object triggers a reconcile. This retry is for the case that it
    // does not arrive.
    let failures = context
        .runtime
        .backoff
        .failed(&owner.uid, resource.meta().generation);
    Ok(Some(Ended::not_ready(
        context
            .runtime
            .pauses
            .after_failure(Reason::Settling, failures),
    )))
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
    let is_ready = status
        .and_then(Status::ready)
        .is_some_and(|(ready, ..)| ready == "True");
    let is_settled =
        status.and_then(|status| status.observed_generation) == resource.meta().generation;
    if is_ready && is_settled && !is_asked_for(resource) {
        Freshness::MaxAge(context.runtime.pauses.resync_interval() / 2)
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
    let denied = status
        .and_then(Status::ready)
        .is_some_and(|(_, reason, _)| reason == Reason::PathDenied.to_string());
    match is_asked_for(resource) {
        true => Duration::ZERO,
        false if denied => JUST_NOW.min(context.runtime.pauses.resync_interval()),
        false => context.runtime.pauses.resync_interval(),
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
        context.cluster.claims_cache.claims(resource),
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
            .is_ok_and(|id| context.cluster.watch_caches.account(&id).is_some())
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
            tracing::warn!(grant = resource.name_any(), namespace = resource.namespace(), %error, "failed to update the grant, retrying");
        }
        // The next leader continues.
        Error::NotLeading(_) => {
            tracing::debug!(grant = resource.name_any(), namespace = resource.namespace(), %error)
        }
    }
    let failures = context.runtime.backoff.failed(
        &resource.uid().unwrap_or_default(),
        resource.meta().generation,
    );
    context
        .runtime
        .pauses
        .after_failure(Reason::Unavailable, failures)
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
async fn report_suspended(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
) -> Result<Ended, Error> {
    let (before, generation) = (resource.status.as_ref(), resource.meta().generation);
    let claims = context.cluster.claims_cache.claims(resource);
    let status = status::suspended(
        before,
        generation,
        claims,
        asked(resource).cloned(),
        &now(context),
    );
    if before != Some(&status) {
        write_status(resource, context, &status).await?;
    }
    Ok(Ended::suspended(context.runtime.pauses.after_success()))
}
