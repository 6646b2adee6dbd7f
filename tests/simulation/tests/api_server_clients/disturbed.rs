use super::{grant, grants, key, server};
use futures::{FutureExt, StreamExt};
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Error, ResourceExt};
use registry_grants::api::CrossAccountRegistryGrant;
use serde_json::{Value, json};
use simulation::api_server::observe::{Disturbance, Fault, Faults, Observer, Outcome, Phase};
use simulation::api_server::request::Call;
use simulation::api_server::store::{Change, Store};
use simulation::api_server::{ApiServer, Kind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout};

type Grant = CrossAccountRegistryGrant;

/// Disturbs every request in one phase.
struct Always(Phase, Disturbance);

impl Faults for Always {
    fn on_request(&mut self, _: &Call, phase: Phase) -> Disturbance {
        if phase == self.0 {
            self.1
        } else {
            Disturbance::default()
        }
    }
}

fn new_grant(name: &str) -> Grant {
    let mut grant = grant(name);
    grant["apiVersion"] = json!("registrygrants.dev/v1alpha1");
    grant["kind"] = json!("CrossAccountRegistryGrant");
    serde_json::from_value(grant).unwrap()
}

async fn creation(
    server: &ApiServer,
    phase: Phase,
    disturbance: Disturbance,
) -> Result<Grant, Error> {
    server.set_faults(Always(phase, disturbance));
    let api = grants(server, "operator");
    let grant = new_grant("web");
    api.create(&PostParams::default(), &grant).await
}

#[tokio::test(start_paused = true)]
async fn refused_request_has_no_effect() {
    for fault in [
        Fault::Disconnect,
        Fault::Status {
            code: 429,
            retry_after: Some(7),
        },
        Fault::Status {
            code: 500,
            retry_after: None,
        },
        Fault::Status {
            code: 409,
            retry_after: None,
        },
    ] {
        let server = server();
        let error = creation(&server, Phase::Before, fault.into())
            .await
            .unwrap_err();
        match (fault, error) {
            (Fault::Disconnect, Error::Service(_)) => {}
            (Fault::Status { code, retry_after }, Error::Api(status)) => {
                assert_eq!(status.code, code);
                let told = status
                    .details
                    .map_or(0, |details| details.retry_after_seconds);
                assert_eq!(u64::from(told), retry_after.unwrap_or(0));
            }
            (fault, error) => panic!("{fault:?}: {error:?}"),
        }
        assert!(server.list(Kind::Grant).is_empty());
        assert_eq!(server.take_log()[0].outcome, Outcome::Refused(fault));
    }
}

/// Throttles the first requests.
struct Throttled(usize);

impl Faults for Throttled {
    fn on_request(&mut self, _: &Call, phase: Phase) -> Disturbance {
        if phase == Phase::After || self.0 == 0 {
            return Disturbance::default();
        }
        self.0 -= 1;
        let (code, retry_after) = (429, Some(7));
        Fault::Status { code, retry_after }.into()
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_request_is_repeated_when_the_server_says() {
    let server = server();
    server.set_faults(Throttled(2));
    let client = server.connect("operator").client("default");
    let api: kube::Api<Grant> = kube::Api::namespaced(client, "team");
    let start = Instant::now();
    api.create(&PostParams::default(), &new_grant("web"))
        .await
        .unwrap();
    assert_eq!(start.elapsed().as_secs(), 14);
    assert_eq!(server.take_log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn lost_answer_belongs_to_a_request_that_took_effect() {
    for fault in [
        Fault::Disconnect,
        Fault::Status {
            code: 504,
            retry_after: None,
        },
    ] {
        let server = server();
        creation(&server, Phase::After, fault.into())
            .await
            .unwrap_err();
        assert_eq!(server.list(Kind::Grant).len(), 1);
        assert_eq!(server.take_log()[0].outcome, Outcome::Lost(fault, 201));
    }
}

#[tokio::test(start_paused = true)]
async fn delay_passes_on_virtual_time() {
    let server = server();
    let start = Instant::now();
    let disturbance = Disturbance {
        delay: Duration::from_secs(40),
        fault: None,
    };
    creation(&server, Phase::After, disturbance).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 40);
    let hanging = creation(&server, Phase::Before, Fault::Hang.into());
    timeout(Duration::from_secs(3600), hanging)
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn stale_list_shows_an_earlier_revision() {
    let server = server();
    server.create(Kind::Grant, grant("a")).unwrap();
    let before = server.revision();
    server.create(Kind::Grant, grant("b")).unwrap();
    server.set_faults(Always(Phase::Before, Fault::Stale(before).into()));
    let api = grants(&server, "operator");
    let any = ListParams::default().at("0");
    let stale = api.list(&any).await.unwrap();
    assert_eq!(stale.metadata.resource_version, Some(before.to_string()));
    assert_eq!(stale.items.len(), 1);
    // A list without a version is consistent.
    assert_eq!(
        api.list(&ListParams::default()).await.unwrap().items.len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn frozen_client_sends_and_receives_nothing() {
    let server = server();
    let connection = server.connect("operator");
    let api: kube::Api<Grant> = kube::Api::namespaced(connection.client("default"), "team");
    let mut events = api
        .watch(&WatchParams::default(), &server.revision().to_string())
        .await
        .unwrap()
        .boxed();
    connection.freeze();
    server.create(Kind::Grant, grant("a")).unwrap();
    let (parameters, new) = (PostParams::default(), new_grant("b"));
    let mut creation = Box::pin(api.create(&parameters, &new));
    let pause = Duration::from_secs(200);
    assert!(timeout(pause, &mut creation).await.is_err());
    assert!(events.next().now_or_never().is_none());
    assert_eq!(server.list(Kind::Grant).len(), 1);
    connection.thaw();
    creation.await.unwrap();
    for expected in ["a", "b"] {
        match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(grant) => assert_eq!(grant.name_any(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn restored_cluster_is_as_it_was() {
    let server = server();
    server.create(Kind::Grant, grant("a")).unwrap();
    let snapshot = server.snapshot();
    server.create(Kind::Grant, grant("b")).unwrap();
    server.delete(&key("a")).unwrap();
    let later = server.revision();
    let api = grants(&server, "operator");
    server.restore(&snapshot);
    let found = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["a"]
    );
    // A watch from a version that does not exist yet waits for later ones.
    let mut events = api
        .watch(&WatchParams::default(), &later.to_string())
        .await
        .unwrap()
        .boxed();
    server.create(Kind::Grant, grant("c")).unwrap();
    assert!(
        timeout(Duration::from_secs(50), events.next())
            .await
            .is_err()
    );
    while server.revision() < later {
        server
            .create_namespace(&format!("n{}", server.revision()), &json!({}))
            .unwrap();
    }
    server.create(Kind::Grant, grant("d")).unwrap();
    match events.next().await.unwrap().unwrap() {
        WatchEvent::Added(grant) => assert_eq!(grant.name_any(), "d"),
        other => panic!("{other:?}"),
    }
}

/// Collects the changes that it sees, and checks that the store changes in between.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<String>>>);

impl Observer for Changes {
    fn before(&mut self, _: Option<&Call>, change: &Change, store: &Store) {
        assert_eq!(store.revision() + 1, change.revision);
    }

    fn after(&mut self, call: Option<&Call>, change: &Change, store: &Store) {
        assert_eq!(store.revision(), change.revision);
        let author = call.map_or("simulation", |call| &call.client);
        self.0
            .lock()
            .unwrap()
            .push(format!("{author} {}", change.key.name));
    }
}

async fn story(seed: u64) -> (Vec<String>, Vec<Value>) {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let server = ApiServer::new(seed, registry_grants::clock::WallClock::starting_at(clock));
    server.create_namespace("team", &json!({})).unwrap();
    let changes = Changes::default();
    server.observe(changes.clone());
    let api = grants(&server, "operator");
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &new_grant(name))
            .await
            .unwrap();
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }
    server.delete(&key("a")).unwrap();
    let seen = changes.0.lock().unwrap().clone();
    let log = server
        .take_log()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    ([seen, log].concat(), server.list(Kind::Grant))
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_story() {
    let (first, objects) = story(1).await;
    assert_eq!((first.clone(), objects.clone()), story(1).await);
    let expected = [
        "operator a",
        "operator a",
        "operator b",
        "operator b",
        "simulation a",
    ];
    assert_eq!(first[..5], expected);
    assert_eq!(
        first[5],
        "2026-01-01T00:00:00Z #1 operator create crossaccountregistrygrants team -> 201 @6"
    );
    let (other, other_objects) = story(2).await;
    assert_eq!(other, first);
    let uid = |objects: &[Value]| objects[0]["metadata"]["uid"].clone();
    assert_ne!(uid(&objects), uid(&other_objects));
}

/// Prints how many requests a second one thread serves.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement: cargo test --workspace --test api_server_clients -- --ignored --nocapture"]
async fn requests_of_a_second_are_measured() {
    let server = server();
    for number in 0..100 {
        server
            .create(Kind::Grant, grant(&format!("g{number}")))
            .unwrap();
    }
    let api = grants(&server, "operator");
    let count: u32 = 3000;
    let rate =
        |start: std::time::Instant, count: u32| f64::from(count) / start.elapsed().as_secs_f64();
    let start = std::time::Instant::now();
    for _ in 0..count {
        api.get("g7").await.unwrap();
    }
    println!("{:.0} reads/s", rate(start, count));
    let start = std::time::Instant::now();
    for number in 0..count {
        let status = json!({
            "apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrant",
            "status": {"observedGeneration": number},
        });
        let parameters = PatchParams::apply("registry-grants").force();
        api.patch_status("g7", &parameters, &Patch::Apply(status))
            .await
            .unwrap();
    }
    println!("{:.0} applies of a status/s", rate(start, count));
    let start = std::time::Instant::now();
    for number in 0..count / 10 {
        let access = if number % 2 == 0 { "PullPush" } else { "Pull" };
        let spec = json!({"spec": {"access": access}});
        api.patch("g7", &PatchParams::default(), &Patch::Merge(spec))
            .await
            .unwrap();
    }
    println!("{:.0} changes of a spec/s", rate(start, count / 10));
    let start = std::time::Instant::now();
    for _ in 0..count / 10 {
        api.list(&ListParams::default()).await.unwrap();
    }
    println!("{:.0} lists of 100 grants/s", rate(start, count / 10));
}
