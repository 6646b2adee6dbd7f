//! Grants that disappear without having been revoked: somebody took the finalizer off. What they had on record is revoked all the same, as far as this is
//! not a sign that the cluster itself lost them.
//!
//! Only a disappearance that this process sees counts, by an event or between two lists. What disappears while no leader runs is found by the sweep.

use super::enforce::{Aim, Enforcement};
use super::reconcile::is_abandoned;
use super::repositories::Look;
use super::supervise::isolated;
use super::{Context, World, publish, recent, requeue};
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::api::grant::Applied;
use crate::aws::pace::{self, Urgency, Work};
use crate::grant::desired::Owner;
use crate::grant::sweep::too_many_at_once;
use crate::grant::{GrantName, Problem, Standing, standing};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long disappearances are gathered: whether they are many decides what they are taken for.
const GATHER: Duration = Duration::from_secs(3);

/// How many are revoked at a time.
const AT_A_TIME: usize = 16;

/// A grant that is not there any more, and what it had on record.
pub struct Vanished {
    grant: Arc<CrossAccountRegistryGrant>,
    claims: Applied,
}

impl Vanished {
    /// Whether it was seen being deleted: then somebody wanted it gone.
    fn was_being_deleted(&self) -> bool {
        self.grant.meta().deletion_timestamp.is_some()
    }
}

/// Passes a watch's events on, and notes which grants disappear with claims. It must see them before the cache does, which then still has each grant
/// as it was.
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
        let world = &context.world;
        for grant in gone(&mut listed, &world.grants, event) {
            match world.ledger.claims(&grant) {
                Some(claims) => drop(vanished.unbounded_send(Vanished { grant, claims })),
                // It was revoked, or abandoned, or never had anything.
                None => world.ledger.forget(&grant),
            }
        }
    })
}

/// The grants that are gone by this event, as the cache knew them. `listed` holds the UIDs of the list that is being read.
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
            return cache.state_filter(|grant| grant.uid().is_none_or(|uid| !listed.contains(&uid)));
        }
        Event::Delete(last) => {
            // The event's own object is marked as deleted in any case.
            let cached = cache.get(&ObjectRef::from_obj(last)).filter(|known| known.uid() == last.uid());
            return vec![cached.unwrap_or_else(|| Arc::new(last.clone()))];
        }
        Event::Apply(_) => {}
    }
    Vec::new()
}

/// A revocation that is to be carried out.
struct Due {
    vanished: Vanished,
    at: Instant,
}

/// Revokes what vanished grants had, until the operator is told to stop.
pub async fn run(context: &Context, vanished: &tokio::sync::Mutex<UnboundedReceiver<Vanished>>) {
    let mut vanished = vanished.lock().await;
    let mut waiting: Vec<Due> = Vec::new();
    loop {
        let next = waiting.iter().map(|due| due.at).min();
        tokio::select! {
            first = vanished.next() => {
                let Some(first) = first else { return };
                tokio::time::sleep(GATHER).await;
                let mut round = vec![first];
                while let Some(Some(more)) = vanished.next().now_or_never() {
                    round.push(more);
                }
                waiting.extend(to_revoke(context, round).await);
            }
            () = sleep_until(next) => {
                let now = Instant::now();
                let (due, later) = waiting.into_iter().partition(|due: &Due| due.at <= now);
                waiting = later;
                let attempts = futures::stream::iter(due).map(|Due { vanished, .. }| async {
                    let tenant = vanished.grant.namespace().unwrap_or_default().into();
                    let attempt = pace::with(Work { urgency: Urgency::Revocation, tenant }, attempt(context, &vanished));
                    let ended = isolated("revoke a vanished grant", &context.world.metrics, attempt).await;
                    let pause = ended.unwrap_or(Some(context.world.resync_interval))?;
                    Some(Due { vanished, at: Instant::now() + pause })
                });
                waiting.extend(attempts.buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await.into_iter().flatten());
            }
            () = context.stop.clone() => return,
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Those of a round that are revoked; for the rest the sweep's brakes hold.
async fn to_revoke(context: &Context, round: Vec<Vanished>) -> Vec<Due> {
    let (mut revoked, mut sudden) = (Vec::new(), Vec::new());
    for vanished in round {
        // One that was deleted, or whose place was taken, was not lost with its cluster.
        let taken = matches!(successor(context, &vanished.grant).await, Ok(Place::Same | Place::Taken(_)));
        if taken || vanished.was_being_deleted() { &mut revoked } else { &mut sudden }.push(vanished);
    }
    if too_many_at_once(sudden.len(), context.world.grants.state().len()) {
        for vanished in &sudden {
            leave_to_the_sweep(context, vanished, sudden.len()).await;
        }
        sudden.clear();
    }
    revoked.into_iter().chain(sudden).map(|vanished| Due { vanished, at: Instant::now() }).collect()
}

async fn leave_to_the_sweep(context: &Context, Vanished { grant, claims }: &Vanished, many: usize) {
    let note = format!(
        "{many} grants disappeared at once without having been deleted, so nothing is revoked: the cluster may have been restored from an old backup. What this one had is left to the sweep: {}",
        claims.summary()
    );
    tracing::error!(grant = %GrantName::of(grant), "{note}");
    context.events.vanished(&about(grant), &note).await;
    let spec = &grant.spec;
    let regions = claims.repositories.iter().map(|claimed| claimed.region.clone()).collect();
    context.world.sweep_soon(&spec.registry.account_id, regions);
    spec.consumer.account_id.iter().for_each(|account| context.world.sweep_soon(account, BTreeSet::new()));
    context.world.ledger.forget(grant);
}

/// Revokes what one had. Returns when to try again, if that is needed.
async fn attempt(context: &Context, vanished: &Vanished) -> Option<Duration> {
    let Vanished { grant, claims } = vanished;
    let World { ledger, resync_interval, .. } = &context.world;
    let (name, uid) = (GrantName::of(grant), grant.uid().unwrap_or_default());
    let again = |reason| {
        let failures = context.backoff.failed(&uid, None);
        Some(requeue::after_failure(reason, failures, *resync_interval))
    };
    let successor = match successor(context, grant).await {
        Ok(Place::Same) => return None,
        Ok(Place::Free) => None,
        Ok(Place::Taken(successor)) => successor_claims(&context.world, &successor),
        Err(error) => {
            tracing::warn!(grant = %name, %error, "whether a vanished grant is gone cannot be told; trying again");
            return again(Reason::Unavailable);
        }
    };
    let claims = successor.map_or_else(|| claims.clone(), |successor| claims.without_roles_of(&successor));
    let owner = Owner { installation: context.world.installation.clone(), grant: name.clone(), uid: uid.clone() };
    let work = Enforcement::new(&context.world, &owner, &grant.spec, Aim::Revoke, &claims, Look::Now);
    let done = work.abandoning(is_abandoned(grant)).run().await;
    if let Err(error) = recent::record(context, &done.revoked).await {
        tracing::warn!(grant = %name, %error, "what was revoked could not be put on record");
    }
    let problems = done.outcome.problems();
    if done.outcome.applied.is_some() {
        let why = Problem::join(&problems).map(|problem| problem.message).unwrap_or_default();
        tracing::warn!(grant = %name, "it disappeared without having been revoked, and not all of it can be revoked yet: {why}");
        let failures = context.backoff.failed(&uid, None);
        return Some(requeue::after_failures(&problems, failures, *resync_interval));
    }
    let note = format!(
        "this grant disappeared without having been revoked, because its finalizer was taken off; by its record it was revoked now: {}",
        vanished.claims.summary()
    );
    tracing::warn!(grant = %name, "{note}");
    context.events.vanished(&about(grant), &note).await;
    context.backoff.reset(&uid);
    ledger.forget(grant);
    None
}

/// What has a vanished grant's namespace and name now.
enum Place {
    /// Nothing.
    Free,
    /// The grant itself: it was only left out of a list, because this version could not read it.
    Same,
    /// Another grant.
    Taken(Arc<CrossAccountRegistryGrant>),
}

async fn successor(context: &Context, grant: &CrossAccountRegistryGrant) -> Result<Place, kube::Error> {
    let namespace = grant.namespace().unwrap_or_default();
    let api = Api::<CrossAccountRegistryGrant>::namespaced(context.client.clone(), &namespace);
    let found = publish::in_time(api.get_metadata_opt(&grant.name_any())).await?;
    Ok(match found {
        None => Place::Free,
        Some(found) if found.uid() == grant.uid() => Place::Same,
        // What the cache does not have, this version cannot read, or will have in a moment: the full object says which.
        Some(_) => match publish::in_time(api.get_opt(&grant.name_any())).await? {
            Some(successor) => Place::Taken(Arc::new(successor)),
            None => Place::Free,
        },
    })
}

/// What a grant of the same name has, or is about to have.
fn successor_claims(world: &World, successor: &CrossAccountRegistryGrant) -> Option<Applied> {
    let recorded = world.ledger.claims(successor);
    let name = GrantName::of(successor);
    let admitted = || match standing(&name, &successor.spec, None, &world.directory, &world.installation) {
        Standing::Admitted(grant) => Some(grant.claims()),
        Standing::Kept(..) | Standing::Frozen(_) | Standing::NotAdmitted(_) | Standing::Unknown(_) => None,
    };
    recorded.or_else(admitted)
}

fn about(grant: &CrossAccountRegistryGrant) -> ObjectReference {
    grant.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use kube::runtime::reflector::{self, store::Writer};
    use serde_json::json;

    fn grant(name: &str, uid: &str) -> CrossAccountRegistryGrant {
        let spec = json!({
            "access": "Pull", "paths": ["Direct"],
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        });
        let mut grant = CrossAccountRegistryGrant::new(name, serde_json::from_value(spec).unwrap());
        grant.metadata.namespace = Some("team".into());
        grant.metadata.uid = Some(uid.into());
        grant
    }

    /// A watch with its cache: every event is seen here first, as in the operator.
    struct Watched {
        cache: Store<CrossAccountRegistryGrant>,
        writer: Writer<CrossAccountRegistryGrant>,
        listed: HashSet<String>,
    }

    impl Watched {
        fn new() -> Self {
            let (cache, writer) = reflector::store();
            Self { cache, writer, listed: HashSet::new() }
        }

        fn see(&mut self, event: &Event<CrossAccountRegistryGrant>) -> Vec<Arc<CrossAccountRegistryGrant>> {
            let gone = gone(&mut self.listed, &self.cache, event);
            self.writer.apply_watcher_event(event);
            gone
        }

        /// The UIDs of the grants that are gone by a list of these.
        fn list(&mut self, grants: &[CrossAccountRegistryGrant]) -> Vec<String> {
            let applied = grants.iter().cloned().map(Event::InitApply);
            let events: Vec<_> = [Event::Init].into_iter().chain(applied).chain([Event::InitDone]).collect();
            let mut gone: Vec<String> =
                events.iter().flat_map(|event| self.see(event)).filter_map(|grant| grant.uid()).collect();
            gone.sort();
            gone
        }
    }

    #[test]
    fn what_a_second_list_lacks_is_gone_and_so_is_one_whose_place_another_has() {
        let mut watched = Watched::new();
        assert!(watched.list(&[grant("a", "1"), grant("b", "2"), grant("c", "3")]).is_empty());
        assert_eq!(watched.list(&[grant("a", "1"), grant("c", "4")]), ["2", "3"]);
        assert!(watched.list(&[grant("a", "1"), grant("c", "4")]).is_empty());
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_away() {
        let mut watched = Watched::new();
        watched.list(&[grant("a", "1"), grant("b", "2")]);
        assert!(watched.see(&Event::Init).is_empty());
        assert!(watched.see(&Event::InitApply(grant("a", "1"))).is_empty());
        assert!(watched.list(&[grant("a", "1"), grant("b", "2")]).is_empty());
    }

    #[test]
    fn a_deleted_grant_is_gone_as_it_was_seen_before() {
        let mut watched = Watched::new();
        watched.list(&[grant("a", "1"), grant("b", "2")]);
        let deleted = |name: &str, uid: &str| {
            let mut grant = grant(name, uid);
            grant.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            grant
        };
        watched.see(&Event::Apply(deleted("b", "2")));
        let sudden = watched.see(&Event::Delete(deleted("a", "1")));
        assert!(sudden.len() == 1 && sudden[0].metadata.deletion_timestamp.is_none());
        let announced = watched.see(&Event::Delete(deleted("b", "2")));
        assert!(announced.len() == 1 && announced[0].metadata.deletion_timestamp.is_some());
    }
}
