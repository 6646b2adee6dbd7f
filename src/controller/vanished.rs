//! Revokes grants that disappeared without having been revoked, because somebody removed the
//! finalizer. Their recorded access is revoked nevertheless, unless there are signs that the
//! cluster itself lost them.
//!
//! Only a disappearance that this process sees counts, by an event or between two lists. The sweep
//! finds the access of grants that disappear while no leader runs.

#[cfg(test)]
pub(super) mod tests;

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::api::grant::Applied;
use crate::aws::rate_limit::{self, Priority, Work};
use crate::controller::Context;
use crate::controller::apply::{Aim, Apply, ApplyRequest, Done};
use crate::controller::context::Cluster;
use crate::controller::patch;
use crate::controller::recently_revoked;
use crate::controller::reconcile::is_abandoned;
use crate::controller::state::repository::Freshness;
use crate::controller::stored::Stored;
use crate::controller::supervise::isolated;
use crate::grant::ownership::Owner;
use crate::grant::status::Outcome;
use crate::grant::sweep::too_many_at_once;
use crate::grant::{Decision, GrantName, Problem};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long disappearances are gathered: their number decides how they are treated.
const GATHER: Duration = Duration::from_secs(3);

/// The number of grants that are revoked at a time.
const AT_A_TIME: usize = 16;

/// A grant that does not exist any more, and its recorded claims.
pub struct Vanished {
    grant: Arc<CrossAccountRegistryGrant>,
    claims: Applied,
}

impl Vanished {
    fn uid(&self) -> String {
        self.grant.uid().unwrap_or_default()
    }

    /// Returns whether the grant was seen being deleted: then its disappearance was intended.
    fn was_being_deleted(&self) -> bool {
        self.grant.meta().deletion_timestamp.is_some()
    }
}

/// Passes a watch's events on, and notes the grants that disappear with claims. It must get the
/// events before the cache does, which then still has the last version of each grant.
pub fn noticed<S>(
    context: Arc<Context>,
    vanished: UnboundedSender<Vanished>,
    events: S,
) -> impl Stream<Item = watcher::Result<Event<CrossAccountRegistryGrant>>> + Send
where
    S: Stream<Item = watcher::Result<Event<CrossAccountRegistryGrant>>> + Send,
{
    let mut listed: HashSet<String> = HashSet::new();
    events.inspect_ok(move |event| {
        let cluster = &context.cluster;
        for grant in gone(&mut listed, &cluster.grants, event) {
            match cluster.claims_cache.claims(&grant) {
                Some(claims) => {
                    cluster.lost.add(grant.clone());
                    drop(vanished.unbounded_send(Vanished { grant, claims }));
                }
                // It was revoked or abandoned, or never had any access.
                None => context.forget(&grant),
            }
        }
    })
}

/// Returns the grants that are gone after this event, as the cache knew them. `listed` contains the
/// UIDs of the list that is being read.
fn gone(
    listed: &mut HashSet<String>,
    cache: &Store<CrossAccountRegistryGrant>,
    event: &Event<CrossAccountRegistryGrant>,
) -> Vec<Arc<CrossAccountRegistryGrant>> {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(grant) => listed.extend(grant.uid()),
        Event::InitDone => {
            let listed = std::mem::take(listed);
            return cache
                .state_filter(|grant| grant.uid().is_none_or(|uid| !listed.contains(&uid)));
        }
        Event::Delete(last) => {
            // The event's own object is marked as deleted in any case.
            let cached = cache
                .get(&ObjectRef::from_obj(last))
                .filter(|known| known.uid() == last.uid());
            return vec![cached.unwrap_or_else(|| Arc::new(last.clone()))];
        }
        Event::Apply(_) => {}
    }
    Vec::new()
}

/// A revocation that waits for its time.
struct Due {
    vanished: Arc<Vanished>,
    at: Instant,
}

/// Vanished grants that were not dealt with yet. They outlive a failure of [`run`], which then
/// continues with them. They do not outlive the term.
pub struct PendingRevocations {
    round: Round,
    decided: UnboundedSender<Vanished>,
    revocations: Revocations,
}

/// Vanished grants that are gathered until it is decided whether they are too many.
struct Round {
    noticed: UnboundedReceiver<Vanished>,
    gathered: Vec<Vanished>,
}

struct Revocations {
    decided: UnboundedReceiver<Vanished>,
    waiting: Vec<Due>,
}

impl PendingRevocations {
    pub fn of(noticed: UnboundedReceiver<Vanished>) -> Self {
        let (sender, decided) = unbounded();
        let round = Round {
            noticed,
            gathered: Vec::new(),
        };
        Self {
            round,
            decided: sender,
            revocations: Revocations {
                decided,
                waiting: Vec::new(),
            },
        }
    }
}

/// Revokes vanished grants until a stop signal. A slow revocation delays neither the decisions on
/// other grants nor their revocations.
pub async fn run(context: &Context, pending: &tokio::sync::Mutex<PendingRevocations>) {
    let mut pending = pending.lock().await;
    let PendingRevocations {
        round,
        decided,
        revocations,
    } = &mut *pending;
    tokio::join!(
        decide(context, round, decided),
        revoke(context, revocations)
    );
}

/// Decides for each round which grants are revoked.
async fn decide(context: &Context, round: &mut Round, decided: &UnboundedSender<Vanished>) {
    loop {
        if round.gathered.is_empty() {
            tokio::select! {
                first = round.noticed.next() => match first {
                    Some(first) => round.gathered.push(first),
                    None => return,
                },
                () = context.runtime.stop.clone() => return,
            }
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = context.runtime.stop.clone() => return,
        }
        while let Some(Some(more)) = round.noticed.next().now_or_never() {
            round.gathered.push(more);
        }
        let revoked = to_revoke(context, &round.gathered).await;
        for (vanished, is_revoked) in std::mem::take(&mut round.gathered).into_iter().zip(revoked) {
            if is_revoked {
                drop(decided.unbounded_send(vanished));
            }
        }
    }
}

/// Carries out the revocations that are due. Each stays in `waiting` until it has ended.
async fn revoke(context: &Context, Revocations { decided, waiting }: &mut Revocations) {
    let mut under_way = FuturesUnordered::new();
    let mut busy: HashSet<String> = HashSet::new();
    loop {
        let now = Instant::now();
        for Due { vanished, at } in waiting.iter() {
            let uid = vanished.uid();
            if busy.len() < AT_A_TIME && *at <= now && busy.insert(uid.clone()) {
                let vanished = vanished.clone();
                under_way.push(async move { (uid, try_one(context, &vanished).await) });
            }
        }
        let free = waiting
            .iter()
            .filter(|due| !busy.contains(&due.vanished.uid()));
        let next = if busy.len() < AT_A_TIME {
            free.map(|due| due.at).min()
        } else {
            None
        };
        tokio::select! {
            Some(vanished) = decided.next() => waiting.push(Due { vanished: Arc::new(vanished), at: now }),
            () = sleep_until(next) => {}
            Some((uid, pause)) = under_way.next() => {
                busy.remove(&uid);
                ended(context, waiting, &uid, pause);
            }
            () = context.runtime.stop.clone() => break,
        }
    }
    // Finishes the revocations that have begun.
    while let Some((uid, pause)) = under_way.next().await {
        ended(context, waiting, &uid, pause);
    }
}

async fn try_one(context: &Context, vanished: &Vanished) -> Option<Duration> {
    let tenant = vanished
        .grant
        .namespace()
        .unwrap_or_default()
        .as_str()
        .into();
    let attempt = rate_limit::with(
        Work {
            urgency: Priority::Revocation,
            tenant,
        },
        attempt(context, vanished),
    );
    let ended = isolated("revoke a vanished grant", &context.cloud.metrics, attempt).await;
    ended.unwrap_or(Some(context.runtime.pauses.resync_interval()))
}

/// Removes a completed revocation from `waiting`, or schedules the next attempt after this pause.
fn ended(context: &Context, waiting: &mut Vec<Due>, uid: &str, pause: Option<Duration>) {
    let is_it = |due: &Due| due.vanished.uid() == uid;
    let Some(index) = waiting.iter().position(is_it) else {
        return;
    };
    match pause {
        Some(pause) => waiting[index].at = Instant::now() + pause,
        None => context
            .cluster
            .lost
            .forget(&waiting.swap_remove(index).vanished.grant),
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Returns which grants of a round are revoked. The sweep's safeguards apply to the rest.
async fn to_revoke(context: &Context, round: &[Vanished]) -> Vec<bool> {
    let mut revoked = Vec::new();
    for vanished in round {
        // A grant that was deleted, or whose name is in use, was not lost with its cluster.
        let taken = matches!(
            successor(context, &vanished.grant).await,
            Ok(Successor::Same | Successor::Taken(_))
        );
        revoked.push(taken || vanished.was_being_deleted());
    }
    let sudden = revoked.iter().filter(|is_revoked| !**is_revoked).count();
    if !too_many_at_once(sudden, context.cluster.grants.state().len()) {
        revoked.fill(true);
    }
    for (vanished, _) in round
        .iter()
        .zip(&revoked)
        .filter(|(_, is_revoked)| **is_revoked)
    {
        context.cluster.lost.revoke(&vanished.grant);
    }
    for (vanished, _) in round
        .iter()
        .zip(&revoked)
        .filter(|(_, is_revoked)| !**is_revoked)
    {
        leave_to_the_sweep(context, vanished, sudden).await;
    }
    revoked
}

async fn leave_to_the_sweep(context: &Context, Vanished { grant, claims }: &Vanished, many: usize) {
    let note = format!(
        "{many} grants disappeared at once without having been deleted, so the operator revokes nothing: the cluster may have been restored from an old backup. The access of this grant stays until the sweep removes it, or a grant of the same name exists again: {}",
        claims.summary()
    );
    tracing::error!(grant = %GrantName::of(grant), "{note}");
    context.runtime.events.vanished(&about(grant), &note).await;
    let spec = &grant.spec;
    let regions = claims
        .repositories
        .iter()
        .map(|claimed| claimed.region.clone())
        .collect();
    context
        .cluster
        .requests
        .sweep(&spec.registry.account_id, regions);
    spec.consumer
        .account_id
        .iter()
        .for_each(|account| context.cluster.requests.sweep(account, BTreeSet::new()));
    context
        .runtime
        .backoff
        .reset(&grant.uid().unwrap_or_default());
    context
        .cluster
        .claims_cache
        .record(grant, Some(claims.clone()));
}

/// Revokes one vanished grant. Returns the pause until the next attempt, if one is needed.
async fn attempt(context: &Context, vanished: &Vanished) -> Option<Duration> {
    let grant = &vanished.grant;
    let name = GrantName::of(grant);
    let uid = vanished.uid();
    let _alone = context.cluster.claims_cache.alone_on(&name).await;
    let claims = match revocable(context, vanished).await {
        Revocable::Claims(claims) => claims,
        Revocable::Nothing => return None,
        Revocable::Later(reason) => {
            let failures = context.runtime.backoff.failed(&uid, None);
            return Some(context.runtime.pauses.after_failure(reason, failures));
        }
    };
    let outcome = revoke_claims(context, grant, &claims).await;
    let problems = outcome.problems();
    if outcome.report.claims.is_some() {
        let why = Problem::join(&problems)
            .map(|problem| problem.message)
            .unwrap_or_default();
        tracing::warn!(grant = %name, "the grant disappeared without a revocation, and not all of its access can be revoked yet: {why}");
        let failures = context.runtime.backoff.failed(&uid, None);
        return Some(context.runtime.pauses.after_failures(&problems, failures));
    }
    let note = format!(
        "this grant disappeared without a revocation, because somebody removed its finalizer. The operator has revoked it by its record: {}",
        vanished.claims.summary()
    );
    tracing::warn!(grant = %name, "{note}");
    context.runtime.events.vanished(&about(grant), &note).await;
    context.forget(grant);
    None
}

/// Claims of a vanished grant that can be revoked now, or why there are none.
enum Revocable {
    Claims(Applied),
    /// The grant exists.
    Nothing,
    /// That is not known yet, for this reason.
    Later(Reason),
}

async fn revocable(context: &Context, Vanished { grant, claims }: &Vanished) -> Revocable {
    let name = GrantName::of(grant);
    let successor = match successor(context, grant).await {
        Ok(Successor::Same) => return Revocable::Nothing,
        Ok(Successor::Free) => None,
        Ok(Successor::Taken(successor)) => successor_claims(&context.cluster, &successor),
        Err(error) => {
            tracing::warn!(grant = %name, %error, "failed to check whether a vanished grant is gone, retrying");
            return Revocable::Later(Reason::Unavailable);
        }
    };
    if context.cluster.unknown.may_exist() {
        // Access in a policy cannot be attributed then: see `contributions::of_unknown`.
        tracing::warn!(grant = %name, "the grant disappeared without a revocation; the operator revokes it once it can read all other grants, which this version cannot");
        return Revocable::Later(Reason::Settling);
    }
    Revocable::Claims(successor.map_or_else(
        || claims.clone(),
        |successor| claims.without_roles_of(&successor),
    ))
}

/// Revokes these claims of a grant, and records which access was revoked.
async fn revoke_claims(
    context: &Context,
    grant: &CrossAccountRegistryGrant,
    claims: &Applied,
) -> Outcome {
    let name = GrantName::of(grant);
    let uid = grant.uid().unwrap_or_default();
    let owner = Owner::of(name.clone(), &uid, &context.cluster.installation);
    let request = ApplyRequest {
        owner: &owner,
        spec: &grant.spec,
        aim: Aim::Revoke,
        claims,
        freshness: Freshness::Fresh,
        max_policy_age: context.runtime.pauses.resync_interval(),
        abandons: is_abandoned(grant),
    };
    let Done { report, effects } = Apply::live(context, request).run().await;
    let outcome = Outcome::new(&Decision::Revoke(Vec::new()), &grant.spec, None, report);
    if let Err(error) = recently_revoked::record(context, &effects.revoked).await {
        tracing::warn!(grant = %name, %error, "failed to record what was revoked");
    }
    outcome
}

/// Current holder of a vanished grant's namespace and name.
enum Successor {
    /// There is none.
    Free,
    /// The grant itself: it was only missing in a list, because this version could not read it.
    Same,
    /// Another grant.
    Taken(Arc<CrossAccountRegistryGrant>),
}

async fn successor(
    context: &Context,
    grant: &CrossAccountRegistryGrant,
) -> Result<Successor, kube::Error> {
    let namespace = grant.namespace().unwrap_or_default();
    let api = Api::<Stored<CrossAccountRegistryGrant>>::namespaced(
        context.runtime.client.clone(),
        &namespace,
    );
    Ok(
        match patch::in_time(api.get_opt(&grant.name_any())).await? {
            None => Successor::Free,
            // Also where this version cannot read it.
            Some(found) if found.uid() == grant.uid() => Successor::Same,
            Some(Stored(Ok(successor))) => Successor::Taken(Arc::new(successor)),
            // Its claims are unknown.
            Some(Stored(Err(invalid))) => {
                return Err(kube::Error::SerdeError(serde::de::Error::custom(invalid)));
            }
        },
    )
}

/// Returns the claims that a grant of the same name has, or is about to have.
fn successor_claims(cluster: &Cluster, successor: &CrossAccountRegistryGrant) -> Option<Applied> {
    let recorded = cluster.claims_cache.claims(successor);
    recorded.or_else(|| match cluster.decide(successor) {
        Decision::Enforce { grant, .. } => Some(grant.claims()),
        Decision::Revoke(_)
        | Decision::Retain(_)
        | Decision::Preview { .. }
        | Decision::Suspend { .. }
        | Decision::Leave(_) => None,
    })
}

fn about(grant: &CrossAccountRegistryGrant) -> ObjectReference {
    grant.object_ref(&())
}
