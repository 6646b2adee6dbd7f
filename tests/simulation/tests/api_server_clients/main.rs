//! The API server in memory, used by the real kube client and by `kube::runtime`, on virtual time.
//!
//! - `watching`: watchers and reflectors, with drops, silence and compaction.
//! - `writing`: finalizers, status, Leases and Events, as the operator writes them.
//! - `disturbed`: faults, freezes and restored clusters.

mod disturbed;
mod watching;
mod writing;

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use registry_grants::api::CrossAccountRegistryGrant;
use registry_grants::clock::WallClock;
use serde_json::{Value, json};
use simulation::api_server::{ApiServer, Key, Kind};

/// Returns a server with the namespace `team`.
fn server() -> ApiServer {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let server = ApiServer::new(1, WallClock::starting_at(start));
    server.create_namespace("team", &json!({})).unwrap();
    server
}

/// Returns a valid grant of the namespace `team`.
fn grant(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        },
    })
}

fn key(name: &str) -> Key {
    Key::new(Kind::Grant, "team", name)
}

fn grants(server: &ApiServer, client: &str) -> Api<CrossAccountRegistryGrant> {
    let client = server.connect(client).client_without_retries("default");
    Api::namespaced(client, "team")
}
