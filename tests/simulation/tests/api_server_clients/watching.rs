use super::{grant, grants, key, server};
use futures::{Stream, StreamExt};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, ResourceExt};
use registry_grants::api::CrossAccountRegistryGrant;
use serde_json::json;
use simulation::api_server::observe::{Fault, Faults, Phase, WatchFault};
use simulation::api_server::request::{Call, Verb};
use simulation::api_server::store::Change;
use simulation::api_server::{ApiServer, Kind, observe::Disturbance};
use std::time::Duration;
use tokio::time::Instant;

type Grant = CrossAccountRegistryGrant;

fn config() -> watcher::Config {
    watcher::Config {
        page_size: Some(2),
        timeout: Some(90),
        ..watcher::Config::default()
    }
}

/// Starts a reflector, and returns its store.
fn reflected(api: Api<Grant>) -> Store<Grant> {
    let (store, writer) = reflector::store();
    let watch = watch(api, config()).default_backoff().reflect(writer);
    tokio::spawn(watch.for_each(|_| async {}));
    store
}

/// Waits until the store has exactly these grants, each with its access. Returns how long that
/// took.
async fn until(store: &Store<Grant>, expected: &[(&str, &str)]) -> Duration {
    let start = Instant::now();
    loop {
        let mut found: Vec<(String, String)> = store
            .state()
            .iter()
            .map(|grant| {
                let access = serde_json::to_value(&grant.spec).unwrap()["access"].clone();
                (grant.name_any(), access.as_str().unwrap().to_owned())
            })
            .collect();
        found.sort();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, access)| (name.as_str(), access.as_str()))
            .collect();
        if found == expected {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(600), "{found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn change(server: &ApiServer) {
    server.create(Kind::Grant, grant("d")).unwrap();
    server.delete(&key("a")).unwrap();
    let edited = server.edit(&key("b"), |grant| {
        grant["spec"]["access"] = json!("PullPush")
    });
    edited.unwrap();
}

const BEFORE: [(&str, &str); 3] = [("a", "Pull"), ("b", "Pull"), ("c", "Pull")];
const AFTER: [(&str, &str); 3] = [("b", "PullPush"), ("c", "Pull"), ("d", "Pull")];

async fn watched() -> (ApiServer, Store<Grant>) {
    let server = server();
    for name in ["a", "b", "c"] {
        server.create(Kind::Grant, grant(name)).unwrap();
    }
    let store = reflected(grants(&server, "operator"));
    until(&store, &BEFORE).await;
    (server, store)
}

#[tokio::test(start_paused = true)]
async fn reflector_follows_changes() {
    let (server, store) = watched().await;
    change(&server);
    assert!(until(&store, &AFTER).await < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn reflector_recovers_from_broken_watches() {
    let (server, store) = watched().await;
    server.break_watches();
    change(&server);
    until(&store, &AFTER).await;
}

#[tokio::test(start_paused = true)]
async fn reflector_lists_again_after_a_compaction() {
    let (server, store) = watched().await;
    server.break_watches();
    change(&server);
    server.compact(server.revision());
    until(&store, &AFTER).await;
    let log = server.take_log();
    let lists = log.iter().filter(|logged| logged.call.verb == Verb::List);
    // Two pages each time.
    assert_eq!(lists.count(), 4);
}

/// Disturbs the first event of each watch.
struct OnFirstEvent(WatchFault, Option<u64>);

impl Faults for OnFirstEvent {
    fn on_event(&mut self, watch: &Call, _: &Change) -> Option<WatchFault> {
        if self.1.is_some() {
            return None;
        }
        self.1 = Some(watch.number);
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn reflector_recovers_from_each_fault_of_a_watch() {
    for (fault, at_most) in [
        (WatchFault::Disconnect, 10),
        (WatchFault::End, 10),
        (WatchFault::Expire, 10),
        (WatchFault::Delay(Duration::from_secs(5)), 6),
        // kube ends a silent watch five seconds after its time.
        (WatchFault::Silence, 100),
    ] {
        let (server, store) = watched().await;
        server.set_faults(OnFirstEvent(fault, None));
        change(&server);
        let took = until(&store, &AFTER).await;
        assert!(took < Duration::from_secs(at_most), "{fault:?}: {took:?}");
    }
}

/// Makes the first watches of a client deaf.
struct Deaf(usize);

impl Faults for Deaf {
    fn on_request(&mut self, call: &Call, phase: Phase) -> Disturbance {
        if call.verb != Verb::Watch || phase != Phase::Before || self.0 == 0 {
            return Disturbance::default();
        }
        self.0 -= 1;
        Fault::Deaf.into()
    }
}

#[tokio::test(start_paused = true)]
async fn deaf_watch_is_replaced_after_its_time() {
    let server = server();
    server.set_faults(Deaf(1));
    let store = reflected(grants(&server, "operator"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.create(Kind::Grant, grant("a")).unwrap();
    let took = until(&store, &[("a", "Pull")]).await;
    assert!(took > Duration::from_secs(90) && took < Duration::from_secs(100));
}

async fn next(events: &mut (impl Stream<Item = watcher::Result<Event<Grant>>> + Unpin)) -> String {
    match events.next().await.unwrap().unwrap() {
        Event::Init => "Init".to_owned(),
        Event::InitApply(grant) => format!("InitApply {}", grant.name_any()),
        Event::InitDone => "InitDone".to_owned(),
        Event::Apply(grant) => format!("Apply {}", grant.name_any()),
        Event::Delete(grant) => format!("Delete {}", grant.name_any()),
    }
}

#[tokio::test(start_paused = true)]
async fn streaming_list_ends_with_a_bookmark() {
    let server = server();
    for name in ["a", "b"] {
        server.create(Kind::Grant, grant(name)).unwrap();
    }
    let config = watcher::Config::default().streaming_lists();
    let mut events = Box::pin(watch(grants(&server, "operator"), config));
    for expected in ["Init", "InitApply a", "InitApply b", "InitDone"] {
        assert_eq!(next(&mut events).await, expected);
    }
    server.delete(&key("a")).unwrap();
    assert_eq!(next(&mut events).await, "Delete a");
}

#[tokio::test(start_paused = true)]
async fn idle_watch_survives_a_compaction_by_its_bookmarks() {
    let (server, store) = watched().await;
    for number in 0..50 {
        server
            .create_namespace(&format!("other-{number}"), &json!({}))
            .unwrap();
    }
    // The watch has ended and started several times by now.
    tokio::time::sleep(Duration::from_secs(400)).await;
    server.compact(server.revision());
    server.take_log();
    tokio::time::sleep(Duration::from_secs(200)).await;
    change(&server);
    until(&store, &AFTER).await;
    let log = server.take_log();
    assert!(
        log.iter().all(|logged| logged.call.verb == Verb::Watch),
        "{log:?}"
    );
}
