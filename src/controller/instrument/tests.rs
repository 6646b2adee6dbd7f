//! Grants that wait for their work slot, and failures before they get one.

use super::*;
use crate::aws::Aws;
use crate::controller::compute_pool::ComputePool;
use crate::controller::context::{Cloud, Cluster, Runtime};
use crate::controller::events;
use crate::controller::leadership::Leadership;
use crate::controller::requeue;
use crate::controller::state::requests::Requests;
use crate::controller::state::watch_caches;

use crate::policy::Installation;
use futures::StreamExt;
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::task::yield_now;

const REGISTRY: &str = "111111111111";

fn grant(deleted: bool) -> CrossAccountRegistryGrant {
    let mut object = json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrant",
    "metadata": {"name": "grant", "namespace": "team", "uid": "u", "generation": 1, "finalizers": [crate::api::FINALIZER]},
    "spec": {
        "access": "Pull",
        "registry": {"accountID": REGISTRY, "regions": ["us-east-1"], "repositories": ["app"]},
        "consumer": {"accountID": "222222222222", "wholeAccount": true},
    },
    "status": {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
        object["metadata"]["generation"] = json!(2);
    }
    serde_json::from_value(object).unwrap()
}

/// Returns a cache that contains these objects, and its writer.
fn cache<K>(objects: &[Value]) -> (Store<K>, Writer<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    let (store, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(
            serde_json::from_value(object.clone()).unwrap(),
        ));
    }
    (store, writer)
}

/// Returns a client of an API server that has nothing.
fn empty_api_server() -> Client {
    let server = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, std::convert::Infallible>(
            http::Response::builder()
                .status(404)
                .body(Body::empty())
                .unwrap(),
        )
    });
    Client::new(server, "default")
}

/// Returns everything that a reconcile needs, with a grant that is in place and whose repository is
/// recorded.
async fn context() -> (Arc<Context>, Writer<CrossAccountRegistryGrant>) {
    let rule = json!({"namespaces": {"names": ["team"]}, "repositories": ["*"], "maxAccess": "Pull", "consumers": ["222222222222"]});
    let account = json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": "AWSAccount",
        "metadata": {"name": REGISTRY}, "spec": {"registry": {"rules": [rule]}}});
    let (accounts, _) = cache(&[account]);
    let (namespaces, _) = cache(&[json!({"metadata": {"name": "team"}})]);
    let (grants, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Apply(grant(false)));
    let client = empty_api_server();
    let events = events::Events::new(
        client.clone(),
        None,
        crate::clock::WallClock::system(),
        crate::clock::Random::from_entropy(),
    );
    let filled = Arc::new(CacheSync::default());
    let done = || futures::stream::iter([Ok(Event::<AWSAccount>::InitDone)]);
    filled
        .watched(Cache::Accounts, done())
        .collect::<Vec<_>>()
        .await;
    filled
        .watched(Cache::Namespaces, done())
        .collect::<Vec<_>>()
        .await;
    let timeout = Duration::from_secs(10);
    let installation = Installation::of_cluster("x");
    let metrics = Metrics::default();
    let watch_caches = watch_caches::WatchCaches {
        accounts,
        namespaces,
    };
    let requests = Requests::unserved(metrics.clone());
    let sdk = crate::aws::tests::offline_config();
    let clock = crate::clock::WallClock::system();
    let aws = Aws::new(sdk, &installation, timeout, metrics.clone(), clock.clone());
    let mut runtime = Runtime::new(
        Arc::new(Leadership::none(timeout)),
        client,
        events,
        requeue::Pauses::new(
            Duration::from_secs(600),
            crate::clock::Random::from_entropy(),
        ),
        futures::future::pending().boxed().shared(),
    );
    runtime.filled = filled;
    let context = Context {
        cluster: Cluster::new(installation, clock, grants, watch_caches, requests),
        cloud: Cloud::new(aws, 1, ComputePool::Threads, metrics),
        runtime,
    };
    let applied = json!({"repositories": [{"region": "us-east-1", "patterns": ["app"]}]});
    context.cluster.claims_cache.record(
        &grant(false),
        Some(serde_json::from_value(applied).unwrap()),
    );
    (Arc::new(context), writer)
}

#[tokio::test]
async fn panic_in_the_priority_of_a_grant_affects_only_that_grant() {
    let (context, _writer) = context().await;
    context.cluster.claims_cache.poison();
    let looked = reconcile(Arc::new(grant(false)), context).await;
    assert!(matches!(looked, Err(Error::Panicked(_))));
}

#[tokio::test]
async fn waiting_grant_that_is_deleted_precedes_changes() {
    let (context, mut writer) = context().await;
    let urgency = reconcile::begins(&grant(false), &context).urgency;
    assert_eq!(urgency, Priority::Resync);
    let slots = &context.cloud.slots;
    let revocation = || Work {
        urgency: Priority::Revocation,
        tenant: "before".into(),
    };
    let enter = || rate_limit::with(revocation(), slots.enter(REGISTRY, false));
    let (one, other) = (enter().await, enter().await);
    // Grants that are due, and grants that wait for a slot.
    let queued = || context.cloud.metrics.queue.backlog().depth;
    let waits = tokio::spawn(reconcile(Arc::new(grant(false)), context.clone()));
    settle().await;
    assert_eq!(queued(), 1);
    writer.apply_watcher_event(&Event::Apply(grant(true)));
    context
        .cluster
        .requests
        .due(&[ObjectRef::from_obj(&grant(true))]);
    settle().await;
    assert_eq!(queued(), 2);
    // This slot is for revocations alone.
    drop(one);
    settle().await;
    assert_eq!(queued(), 1, "it has a slot");
    waits.abort();
    drop((waits.await, other));
}

#[tokio::test]
async fn waiting_grant_that_is_suspended_stops_waiting() {
    let (context, mut writer) = context().await;
    let slots = &context.cloud.slots;
    let _busy = slots.enter(REGISTRY, false).await;
    let waits = tokio::spawn(reconcile(Arc::new(grant(false)), context.clone()));
    settle().await;
    assert!(!waits.is_finished());
    let mut suspended = grant(false);
    suspended.spec.suspend = true;
    writer.apply_watcher_event(&Event::Apply(suspended.clone()));
    context
        .cluster
        .requests
        .due(&[ObjectRef::from_obj(&suspended)]);
    // Its status is written, which this API server refuses.
    let ended = tokio::time::timeout(Duration::from_secs(5), waits)
        .await
        .expect("it needs no slot")
        .unwrap();
    assert!(ended.is_err());
}

/// Lets other tasks continue as far as they can.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}
