//! The whole operator against the in-memory AWS and API server, on virtual time.

use registry_grants::controller::Settings;
use serde_json::{Value, json};
use simulation::api_server::{Key, Kind};
use simulation::entropy;
use simulation::environment::Environment;
use simulation::replica::{Replica, Start};
use std::time::Duration;

const A: &str = "111111111111";
const B: &str = "222222222222";
const REGION: &str = "us-east-1";

/// Runs a test on virtual time, in a thread whose randomness the seed determines.
fn simulate<T: Send>(seed: u64, test: impl AsyncFnOnce(Environment) -> T + Send) -> T {
    entropy::on_virtual_time(seed, async || {
        let environment = Environment::new(seed);
        prepare(&environment);
        test(environment).await
    })
}

/// Creates two accounts, their rules, a namespace and a repository.
fn prepare(environment: &Environment) {
    let registry = environment.add_account(A);
    environment.add_account(B);
    environment.open_account(
        A,
        json!({"registry": {"rules": [{
            "namespaces": {"names": ["team"]}, "repositories": ["*"],
            "maxAccess": "PullPush", "consumers": [B],
        }]}}),
    );
    environment.open_account(
        B,
        json!({"consumer": {"rules": [{
            "namespaces": {"names": ["team"]}, "roles": ["registry-grants/*"],
        }]}}),
    );
    environment
        .api_server
        .create_namespace("team", &json!({}))
        .expect("a namespace");
    registry
        .create_repository(REGION, "app")
        .expect("a repository");
}

fn start(environment: &Environment, pod: &str, seed: u64) -> Replica {
    let settings = Settings {
        resync_interval: Duration::from_secs(600),
        installation: None,
        concurrency: 4,
        call_timeout: Duration::from_secs(10),
        lease_duration: Some(Duration::from_secs(30)),
        pod_name: None,
        sweep: None,
    };
    Replica::start(Start {
        pod: pod.into(),
        settings,
        api_server: environment.api_server.clone(),
        aws: environment.aws.clone(),
        credentials: environment.credentials.clone(),
        clock: environment.clock.clone(),
        seed,
    })
}

fn grant(environment: &Environment, name: &str) -> Key {
    let grant = json!({"metadata": {"name": name, "namespace": "team"}, "spec": {
        "access": "Pull",
        "registry": {"accountID": A, "regions": [REGION], "repositories": ["app"]},
        "consumer": {"accountID": B, "wholeAccount": true, "instanceRole": {"name": "node"}},
    }});
    environment
        .api_server
        .create(Kind::Grant, grant)
        .expect("the API server admits the grant");
    Key::new(Kind::Grant, "team", name)
}

fn condition(environment: &Environment, key: &Key, type_: &str) -> Option<Value> {
    let object = environment.api_server.get(key)?;
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .cloned()
}

fn is_ready(environment: &Environment, key: &Key) -> bool {
    condition(environment, key, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// Waits on virtual time.
async fn until(what: &str, environment: &Environment, holds: impl Fn() -> bool) {
    for _ in 0..3600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let grants = environment.api_server.list(Kind::Grant);
    panic!(
        "{what}: not within an hour\n{grants:#?}\n{}",
        trace(environment)
    );
}

fn trace(environment: &Environment) -> String {
    let calls = environment.aws.calls();
    let calls = calls.iter().map(|call| format!("aws {call}\n"));
    let requests = environment.api_server.take_log();
    let requests = requests.iter().map(|request| format!("api {request}\n"));
    calls.chain(requests).collect()
}

#[test]
fn operator_makes_a_grant_ready_and_revokes_it_when_deleted() {
    simulate(1, async |environment| {
        let _replica = start(&environment, "pod-1", 1);
        let key = grant(&environment, "a");
        until("ready", &environment, || is_ready(&environment, &key)).await;
        let policy = || {
            environment.aws.read(|state| {
                let repository = state.repository(A, REGION, "app")?;
                repository.policy.clone()
            })
        };
        assert!(policy().is_some());
        environment.api_server.delete(&key).expect("it is deleted");
        let is_gone = || environment.api_server.get(&key).is_none();
        until("gone", &environment, is_gone).await;
        assert!(policy().is_none(), "{:?}", policy());
    });
}
