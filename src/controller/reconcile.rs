//! The path of the data, for one grant: what should be, what was claimed, what was done, what is told.

use super::directory::Cache;
use super::enforce::{Aim, Done, Enforcement};
use super::observed::Ended;
use super::record::{claim, find_own_records, has_record, where_to_revoke, with_its_finalizer};
use super::repositories::Look;
use super::{Context, World, publish, recent, requeue, restored};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::{Applied, ConsumerStatus, CrossAccountRegistryGrantStatus as Status, RegistryStatus};
use crate::api::{ABANDON, CrossAccountRegistryGrant, RECONCILE};
use crate::grant::desired::Owner;
use crate::grant::diff::ENDED_SESSIONS;
use crate::grant::plan::Change;
use crate::grant::status::{self, Outcome, Part};
use crate::grant::{Grant, GrantName, Problem, Standing, observed, standing, to_retain};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// What is to be done for a grant.
enum Intent {
    /// Make it true. Where problems are named, it is what the spec was before.
    Enforce(Box<Grant>, Vec<Problem>),
    /// Take it back: it is being deleted, or no longer admitted (then the problems say why).
    Revoke(Vec<Problem>),
    /// Let what it gave stay as it is, and be nobody's: it is being deleted, and asks for that.
    HandOver(Box<Grant>),
    /// Only say what it would take to make it true.
    Observe(Box<Grant>),
    /// Neither write nor check.
    Suspend,
    /// Leave everything as it is.
    Leave(Vec<Problem>),
}

impl Intent {
    fn of(resource: &CrossAccountRegistryGrant, name: &GrantName, context: &Context) -> Self {
        let World { directory, installation, .. } = &context.world;
        let claims = context.world.ledger.claims(resource);
        if resource.meta().deletion_timestamp.is_some() {
            return match to_retain(name, &resource.spec, claims.as_ref(), directory, installation) {
                Ok(None) => Self::Revoke(Vec::new()),
                Ok(Some(grant)) => Self::HandOver(Box::new(grant)),
                Err(problems) => Self::Leave(problems),
            };
        }
        match standing(name, &resource.spec, claims.as_ref(), directory, installation) {
            Standing::Frozen(_) if resource.spec.suspend => Self::Suspend,
            Standing::Frozen(_) => match observed(name, &resource.spec, claims.as_ref(), directory, installation) {
                Ok(grant) => Self::Observe(Box::new(grant)),
                Err(problems) => Self::Leave(problems),
            },
            Standing::Admitted(grant) => Self::Enforce(Box::new(grant), Vec::new()),
            Standing::Kept(grant, problems) => Self::Enforce(Box::new(grant), problems),
            Standing::NotAdmitted(problems) => Self::Revoke(problems),
            Standing::Unknown(problems) => Self::Leave(problems),
        }
    }
}

/// Why a reconciliation ended without its outcome being told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Cluster(#[from] kube::Error),
    /// This replica's Lease is about to run out: what it would write could overtake the next leader.
    #[error("{0}")]
    NotLeading(String),
}

pub async fn reconcile(resource: Arc<CrossAccountRegistryGrant>, context: Arc<Context>) -> Result<Ended, Error> {
    // Without accounts and namespaces every grant would look as if nothing admitted it.
    tokio::select! {
        () = context.filled.wait_for(&[Cache::Accounts, Cache::Namespaces]) => {}
        // Told to stop, nobody fills the caches any more.
        () = context.stop.clone() => return Err(Error::NotLeading("the operator is stopping".into())),
    }
    let resource = with_its_finalizer(resource, &context).await?;
    let resource = &*resource;
    let deleting = resource.meta().deletion_timestamp.is_some();
    // Without our finalizer, but with a record, it is held up by somebody else's, and has not been revoked yet.
    if deleting && !publish::has_finalizer(resource) && context.world.ledger.claims(resource).is_none() {
        return Ok(Ended::gone());
    }
    let owner = Owner {
        installation: context.world.installation.clone(),
        grant: GrantName::of(resource),
        uid: resource.uid().unwrap_or_default(),
    };
    let look = how_to_look(resource, &context);
    let fresh = how_fresh(resource, &context);
    let begin =
        |aim, claims| Enforcement::new(&context.world, &owner, &resource.spec, aim, claims, look).knowing_as_of(fresh);
    let enforcement = |aim, claims| begin(aim, claims).run();
    context.world.restored.note_start(&context.world);
    if restored::may_have_lost_its_record(&context.world, resource) {
        find_own_records(resource, &owner, &context).await;
    }
    let intent = Intent::of(resource, &owner.grant, &context);
    let revokes = matches!(intent, Intent::Revoke(_));
    let (mut done, refusal) = match intent {
        Intent::Enforce(grant, problems) => {
            let turn = context.world.turn().await;
            let claims = claim(resource, &context, &grant.claims()).await?;
            drop(turn);
            (enforcement(Aim::Hold(&grant), &claims).await, problems)
        }
        Intent::Revoke(problems) => match where_to_revoke(resource, &owner.grant, &context) {
            Some(claims) => (enforcement(Aim::Revoke, &claims).await, problems),
            None => (nothing_done(None), problems),
        },
        Intent::HandOver(grant) => match context.world.ledger.claims(resource) {
            Some(claims) => (enforcement(Aim::HandOver(&grant), &claims).await, Vec::new()),
            None => (nothing_done(None), Vec::new()),
        },
        Intent::Observe(grant) => {
            // What was applied before stays on record as it is, and is looked at with the rest.
            let recorded = context.world.ledger.claims(resource);
            let claims = recorded.as_ref().map_or_else(|| grant.claims(), |before| before.grown_by(&grant.claims()));
            let mut done = begin(Aim::Hold(&grant), &claims).observing().run().await;
            // As it is by now: its record may have been found again meanwhile.
            done.outcome.applied = context.world.ledger.claims(resource);
            (done, Vec::new())
        }
        Intent::Suspend => {
            suspend(resource, &context).await?;
            return Ok(Ended::suspended(requeue::after_success(context.world.resync_interval)));
        }
        Intent::Leave(problems) => (nothing_done(context.world.ledger.claims(resource)), problems),
    };
    if revokes && done.outcome.applied.is_none() {
        context.world.ledger.record_nothing_left(&owner.uid);
    }
    done.outcome.refusal = refusal;
    // Whatever could be done this time: what was replaced before stays on record for as long as the spec names it.
    done.outcome.replaces = resource.spec.registry.replace_sids.iter().cloned().collect();
    done.outcome.handled = asked(resource).cloned();
    let abandoned = deleting && is_abandoned(resource) && done.outcome.no_way_in();
    let problems = done.outcome.problems();
    let failures = || context.backoff.failed(&owner.uid, resource.meta().generation);
    // One that held a moment ago holds most likely still: a hiccup of AWS, or a turn that did not come, is not told at once.
    let hiccup = matches!(look, Look::Settled(_)) && !problems.is_empty() && problems.iter().all(passes_by_itself);
    if hiccup && done.changes.is_empty() && done.put_back.is_empty() && context.backoff.count(&owner.uid) < HICCUPS {
        tracing::warn!(grant = %owner.grant, reason = %problems[0].reason, "could not be looked at, trying again: {}", problems[0].message);
        let pause = requeue::after_failures(&problems, failures(), context.world.resync_interval);
        return Ok(Ended::not_ready(pause));
    }
    // Before the claims go: after a start this is what says where to look.
    recent::record(&context, &done.revoked).await?;
    tell(resource, &context, &owner, &done).await?;
    if deleting && (done.outcome.applied.is_none() || abandoned) {
        if abandoned {
            abandon(resource, &context, &done.outcome).await;
        }
        // When the grant disappears, this is how it is known that nothing is left to revoke.
        context.world.ledger.record(resource, None);
        publish::remove_finalizer(&context.client, resource).await?;
        context.backoff.reset(&owner.uid);
        return Ok(Ended::gone());
    }
    if problems.is_empty() {
        context.backoff.reset(&owner.uid);
        return Ok(Ended::ready(requeue::after_success(context.world.resync_interval)));
    }
    Ok(Ended::not_ready(requeue::after_failures(&problems, failures(), context.world.resync_interval)))
}

/// How often in a row a grant that was in place may not be looked at before it says so.
const HICCUPS: u32 = 2;

fn passes_by_itself(problem: &Problem) -> bool {
    matches!(problem.reason, Reason::Throttled | Reason::Unavailable)
}

/// How a repository's policy is looked at. For a grant that is settled and only looked at once more, another grant's recent look
/// at the same repository will do: hundreds of grants on one repository do not read its policy hundreds of times. Whoever changed
/// the resource, or waits for it, gets a look of his own.
fn how_to_look(resource: &CrossAccountRegistryGrant, context: &Context) -> Look {
    let status = resource.status.as_ref();
    let is_ready = ready(status).is_some_and(|(ready, ..)| ready == "True");
    let is_settled = status.and_then(|status| status.observed_generation) == resource.meta().generation;
    let nothing_new = asked(resource) == status.and_then(|status| status.last_handled_reconcile.as_ref());
    if is_ready && is_settled && nothing_new { Look::Settled(context.world.resync_interval / 2) } else { Look::Now }
}

/// How old what is known of managed policies and of the registry's own may be: many grants hang on them, and they change seldom. Who asks by hand wants
/// to know how it is now, and where access is denied somebody may be mending it.
fn how_fresh(resource: &CrossAccountRegistryGrant, context: &Context) -> Duration {
    const JUST_NOW: Duration = Duration::from_secs(10);
    let status = resource.status.as_ref();
    let denied = ready(status).is_some_and(|(_, reason, _)| reason == Reason::PathDenied.to_string());
    match asked(resource) == status.and_then(|status| status.last_handled_reconcile.as_ref()) {
        false => Duration::ZERO,
        true if denied => JUST_NOW.min(context.world.resync_interval),
        true => context.world.resync_interval,
    }
}

/// Whether nobody waits for this look: the grant is settled, and it is only looked whether that is still so.
pub fn is_resync(resource: &CrossAccountRegistryGrant, context: &Context) -> bool {
    resource.meta().deletion_timestamp.is_none() && matches!(how_to_look(resource, context), Look::Settled(_))
}

/// How long to wait when the outcome could not be told.
pub fn after_error(resource: &CrossAccountRegistryGrant, error: &Error, context: &Context) -> Duration {
    tracing::warn!(grant = resource.name_any(), namespace = resource.namespace(), %error, "the outcome could not be told; trying again");
    let failures = context.backoff.failed(&resource.uid().unwrap_or_default(), resource.meta().generation);
    requeue::after_failure(Reason::Unavailable, failures, context.world.resync_interval)
}

/// The request to look at once, whatever it says.
fn asked(resource: &CrossAccountRegistryGrant) -> Option<&String> {
    resource.annotations().get(RECONCILE)
}

/// Whether the grant is to be let go where there is no way into an account.
pub fn is_abandoned(resource: &CrossAccountRegistryGrant) -> bool {
    resource.annotations().get(ABANDON).is_some_and(|value| value == "true")
}

/// What makes the operator look at a grant: another generation (its own status writes are none, a deletion is), its annotations that
/// speak to the operator, and the loss of the finalizer that guards its record.
pub fn calls_for_a_look(resource: &CrossAccountRegistryGrant) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let lost_finalizer = has_record(resource) && !publish::has_finalizer(resource);
    (resource.meta().generation, asked(resource), is_abandoned(resource), lost_finalizer).hash(&mut hasher);
    Some(hasher.finish())
}

/// Lets go of a grant whose account cannot be got into any more: what is there stays, and is told for the last time.
async fn abandon(resource: &CrossAccountRegistryGrant, context: &Context, outcome: &Outcome) {
    let left = outcome.applied.as_ref().map(Applied::summary).unwrap_or_default();
    let (registry, consumer) = (&resource.spec.registry.account_id, resource.spec.consumer.account_id.as_deref());
    let accounts = consumer.map_or_else(|| registry.clone(), |consumer| format!("{registry} and {consumer}"));
    let message = format!("abandoned: in accounts {accounts} there may still be {left}");
    tracing::warn!(grant = resource.name_any(), namespace = resource.namespace(), "{message}");
    context.events.abandoned(&resource.object_ref(&()), &message).await;
}

/// Says that the grant is suspended, and nothing else of it.
async fn suspend(resource: &CrossAccountRegistryGrant, context: &Context) -> Result<(), Error> {
    let (before, generation) = (resource.status.as_ref(), resource.meta().generation);
    let claims = context.world.ledger.claims(resource);
    let status = status::suspended(before, generation, claims, asked(resource).cloned(), &now());
    if before != Some(&status) {
        write_status(resource, context, &status).await?;
    }
    Ok(())
}

fn nothing_done(applied: Option<Applied>) -> Done {
    let untouched = || Part::NotRequested("nothing was done".into());
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
    Done { outcome, changes: Vec::new(), put_back: Vec::new(), as_before: false, revoked: Vec::new() }
}

/// Writes the status if it changed, and tells people what is new.
async fn tell(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    owner: &Owner,
    done: &Done,
) -> Result<(), Error> {
    let Done { outcome, changes, put_back, as_before, revoked: _ } = done;
    let before = resource.status.as_ref();
    let generation = resource.meta().generation;
    let status = outcome.status(before, generation, &now());
    let (ready, reason, message) = ready(Some(&status)).unwrap_or_default();
    let deleted = outcome.applied.is_none() && resource.meta().deletion_timestamp.is_some();
    if before != Some(&status) && !deleted {
        write_status(resource, context, &status).await?;
    }
    context.world.ledger.record(resource, outcome.applied.clone());

    let about = resource.object_ref(&());
    let was = self::ready(before);
    // Also where somebody else denies access, all that the grant writes was in place.
    let path_denied = Reason::PathDenied.to_string();
    let was_in_place = was.as_ref().is_some_and(|(ready, reason, _)| *ready == "True" || *reason == path_denied);
    let settled = before.and_then(|status| status.observed_generation) == generation;
    // What changes in IAM though the same was wanted before was changed by somebody else; a repository's policy changes with other grants as well, and that
    // ended sessions need no mention any more is a matter of time.
    let by_others = |change: &&Change| *as_before && change.region.is_none() && !change.what.contains(ENDED_SESSIONS);
    let in_iam = changes.iter().filter(by_others).map(Change::with_what_was_found);
    let drift: Vec<String> = in_iam.chain(put_back.iter().cloned()).collect();
    let is_drift = was_in_place && settled && !drift.is_empty();
    match outcome.pending {
        Some(_) => {}
        None if is_drift => {
            let account = resource.spec.registry.account_id.as_str().into();
            context.world.metrics.drift_corrected.get_or_create(&account).inc_by(drift.len() as u64);
            context.events.drift(&about, &drift).await;
        }
        None if !changes.is_empty() => context.events.changed(&about, changes).await,
        None => {}
    }
    let news = was != Some((ready, reason, message));
    match outcome.problems().first() {
        Some(problem) if news => {
            tracing::warn!(grant = %owner.grant, reason, "{message}");
            context.events.problem(&about, problem.reason, message).await;
        }
        None if deleted => tracing::info!(grant = %owner.grant, "revoked"),
        None if news && ready == "True" => {
            tracing::info!(grant = %owner.grant, reason, "{message}");
            context.events.granted(&about, message).await;
        }
        Some(_) | None => tracing::debug!(grant = %owner.grant, reason, "unchanged"),
    }
    Ok(())
}

/// Writes the status, while this replica leads: it is written whole, so that one who leads no longer would undo the next one's claims.
pub async fn write_status(
    resource: &CrossAccountRegistryGrant,
    context: &Context,
    status: &Status,
) -> Result<(), Error> {
    context.world.leadership.may_write().map_err(|problem| Error::NotLeading(problem.message))?;
    Ok(publish::grant_status(&context.client, resource, status).await?)
}

/// Status, reason and message of the condition `Ready`.
fn ready(status: Option<&Status>) -> Option<(&str, &str, &str)> {
    let name = ConditionType::Ready.to_string();
    let condition = status?.conditions.iter().find(|condition| condition.type_ == name)?;
    Some((&condition.status, &condition.reason, &condition.message))
}

/// The time, as statuses have it.
pub fn now() -> Time {
    Time(Timestamp::now())
}
