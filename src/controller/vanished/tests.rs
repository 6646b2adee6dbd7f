use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::{self, store::Writer};
use serde_json::json;

pub fn grant(name: &str, uid: &str) -> CrossAccountRegistryGrant {
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

/// A watch with its cache. As in the operator, `gone` sees every event before the cache.
struct Watched {
    cache: Store<CrossAccountRegistryGrant>,
    writer: Writer<CrossAccountRegistryGrant>,
    listed: HashSet<String>,
}

impl Watched {
    fn new() -> Self {
        let (cache, writer) = reflector::store();
        Self {
            cache,
            writer,
            listed: HashSet::new(),
        }
    }

    fn see(
        &mut self,
        event: &Event<CrossAccountRegistryGrant>,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        let gone = gone(&mut self.listed, &self.cache, event);
        self.writer.apply_watcher_event(event);
        gone
    }

    /// Returns the UIDs of the grants that are gone after a list of these.
    fn list(&mut self, grants: &[CrossAccountRegistryGrant]) -> Vec<String> {
        let applied = grants.iter().cloned().map(Event::InitApply);
        let events: Vec<_> = [Event::Init]
            .into_iter()
            .chain(applied)
            .chain([Event::InitDone])
            .collect();
        let mut gone: Vec<String> = events
            .iter()
            .flat_map(|event| self.see(event))
            .filter_map(|grant| grant.uid())
            .collect();
        gone.sort();
        gone
    }
}

#[test]
fn grants_missing_in_a_list_or_replaced_are_gone() {
    let mut watched = Watched::new();
    assert!(
        watched
            .list(&[grant("a", "1"), grant("b", "2"), grant("c", "3")])
            .is_empty()
    );
    assert_eq!(
        watched.list(&[grant("a", "1"), grant("c", "4")]),
        ["2", "3"]
    );
    assert!(watched.list(&[grant("a", "1"), grant("c", "4")]).is_empty());
}

#[test]
fn incomplete_list_removes_no_grants() {
    let mut watched = Watched::new();
    watched.list(&[grant("a", "1"), grant("b", "2")]);
    assert!(watched.see(&Event::Init).is_empty());
    assert!(watched.see(&Event::InitApply(grant("a", "1"))).is_empty());
    assert!(watched.list(&[grant("a", "1"), grant("b", "2")]).is_empty());
}

#[test]
fn deleted_grant_is_gone_in_its_last_known_state() {
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

/// Returns a client of an API server that has no object at all.
fn empty() -> kube::Client {
    let server = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        let body = kube::client::Body::from(status.to_string().into_bytes());
        Ok::<_, std::convert::Infallible>(http::Response::builder().status(404).body(body).unwrap())
    });
    kube::Client::new(server, "default")
}

fn claims() -> Applied {
    serde_json::from_value(json!({"repositories": [{"region": "us-east-1", "patterns": ["app"]}]}))
        .unwrap()
}

#[tokio::test]
async fn how_often_a_grant_failed_is_forgotten_once_it_is_gone() {
    let (context, _writer) = Context::before(empty()).await;
    let context = Arc::new(context);
    let (sender, _receiver) = futures::channel::mpsc::unbounded();
    context.runtime.backoff.failed("1", Some(1));
    context.runtime.backoff.failed("2", Some(1));
    let events = futures::stream::iter([Ok(Event::Delete(grant("a", "1")))]);
    let _: Vec<_> = noticed(context.clone(), sender, events).collect().await;
    assert_eq!(
        (
            context.runtime.backoff.count("1"),
            context.runtime.backoff.count("2")
        ),
        (0, 1)
    );
    let vanished = Vanished {
        grant: Arc::new(grant("b", "2")),
        claims: claims(),
    };
    leave_to_the_sweep(&context, &vanished, 1).await;
    assert_eq!(context.runtime.backoff.count("2"), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_revocation_survives_a_failure_of_its_task() {
    let (context, mut writer) = Context::before(empty()).await;
    writer.apply_watcher_event(&Event::Init);
    (0..100).for_each(|n| {
        writer.apply_watcher_event(&Event::InitApply(grant(&format!("g{n}"), &format!("g{n}"))))
    });
    writer.apply_watcher_event(&Event::InitDone);
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let pending = tokio::sync::Mutex::new(PendingRevocations::of(receiver));
    sender
        .unbounded_send(Vanished {
            grant: Arc::new(grant("a", "1")),
            claims: claims(),
        })
        .unwrap();
    for ended_after in [Duration::from_secs(1), Duration::from_secs(10)] {
        // Its account is in no cache, so it cannot be revoked yet.
        let unfinished = tokio::time::timeout(ended_after, run(&context, &pending)).await;
        assert!(unfinished.is_err());
        let pending = pending.lock().await;
        let PendingRevocations {
            round, revocations, ..
        } = &*pending;
        assert_eq!(
            round.gathered.len() + revocations.waiting.len(),
            1,
            "after {ended_after:?}"
        );
    }
    assert_eq!(pending.lock().await.revocations.waiting.len(), 1);
}
