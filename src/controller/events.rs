//! Publishes Events on the resources, which `kubectl describe` shows. It uses the operator's clock,
//! which `kube::runtime::events::Recorder` does not. A recorder also counts Events by their reason
//! alone, and keeps the first one's note.

use crate::api::conditions::Reason;
use crate::clock::{Random, WallClock};
use crate::grant::change::Change;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as K8sEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// The longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1_000;

/// The name of this controller in its Events.
const CONTROLLER: &str = "registry-grants";

/// How long after its last repetition an Event is updated: as long as by kube's recorder.
const COUNTED_FOR: Duration = Duration::from_secs(360);

/// Publisher of Events. An Event that cannot be published is logged, and never stops the work that
/// it reports.
#[derive(Clone)]
pub struct Events {
    client: Client,
    /// This replica's Pod, or the operator if it runs in none.
    instance: String,
    clock: WallClock,
    random: Random,
    published: Arc<Mutex<HashMap<Identity, Published>>>,
}

/// What one Event is about: repetitions are counted in the same Event.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    uid: Option<String>,
    reason: String,
    note: String,
}

/// An Event that was published, and when that was last.
struct Published {
    event: K8sEvent,
    last: Instant,
}

/// A new Event, before it has a name and a time.
struct Event {
    type_: &'static str,
    reason: String,
    note: String,
    action: String,
}

impl Events {
    /// Creates a publisher. `pod` is the name of this replica's Pod.
    pub fn new(client: Client, pod: Option<String>, clock: WallClock, random: Random) -> Self {
        Self {
            client,
            instance: pod.unwrap_or_else(|| CONTROLLER.into()),
            clock,
            random,
            published: Arc::default(),
        }
    }

    /// Reports that the grant is in place.
    pub async fn granted(&self, about: &ObjectReference, summary: &str) {
        self.publish_normal(about, Reason::Granted.to_string(), "Reconcile", summary)
            .await;
    }

    /// Reports a problem that is new, or other than before.
    pub async fn problem(&self, about: &ObjectReference, reason: Reason, message: &str) {
        self.publish_warning(about, reason.to_string(), "Reconcile", message)
            .await;
    }

    /// Reports changes in AWS that were made for the grant.
    pub async fn changed(&self, about: &ObjectReference, changes: &[Change]) {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        self.publish_normal(about, "Changed".into(), "Reconcile", &changes.join("; "))
            .await;
    }

    /// Reports that somebody changed resources of the grant, and that the operator reverted it.
    pub async fn drift(&self, about: &ObjectReference, put_back: &[String]) {
        let note = format!(
            "reverted changes made outside the operator: {}",
            put_back.join("; ")
        );
        self.publish_warning(about, "DriftCorrected".into(), "Correct", &note)
            .await;
    }

    /// Reports a write to a policy that people should know about.
    pub async fn notices(&self, about: &ObjectReference, notices: &[String]) {
        for notice in notices {
            self.publish_warning(about, "PolicyRepaired".into(), "Reconcile", notice)
                .await;
        }
    }

    /// Reports that a grant was abandoned although some of its access may be left in AWS.
    pub async fn abandoned(&self, about: &ObjectReference, message: &str) {
        self.publish_warning(about, "Abandoned".into(), "Delete", message)
            .await;
    }

    /// Reports that deleted principals were removed from foreign statements, because a revocation
    /// needed the write.
    pub async fn dead_principals_removed(&self, about: &ObjectReference, removed: &[String]) {
        self.publish_warning(
            about,
            "DeadPrincipalRemoved".into(),
            "Revoke",
            &removed.join("; "),
        )
        .await;
    }

    /// Reports that the access of a frozen grant in AWS was recorded again.
    pub async fn record_found(&self, about: &ObjectReference, note: &str) {
        self.publish_warning(about, "RecordFound".into(), "Restore", note)
            .await;
    }

    /// Reports that a grant disappeared without having been revoked.
    pub async fn vanished(&self, about: &ObjectReference, note: &str) {
        self.publish_warning(about, "Vanished".into(), "Revoke", note)
            .await;
    }

    /// Reports that a grant's finalizer was removed by somebody else, and restored.
    pub async fn finalizer_restored(&self, about: &ObjectReference) {
        let note = "somebody removed the finalizer registrygrants.dev/revoke, and the operator restored it: without it, deleting the grant would leave its access in AWS";
        self.publish_warning(about, "FinalizerRestored".into(), "Reconcile", note)
            .await;
    }

    /// Reports orphans that a sweep found.
    pub async fn unclaimed(&self, about: &ObjectReference, note: &str) {
        self.publish_warning(about, "Unclaimed".into(), "Sweep", note)
            .await;
    }

    /// Reports orphans that a sweep removed.
    pub async fn swept(&self, about: &ObjectReference, removed: usize) {
        let note = format!(
            "removed {removed} roles, instance profiles or repository policy statements from this AWS account, because no grant claims them; the operator's log names them"
        );
        self.publish_normal(about, "Swept".into(), "Sweep", &note)
            .await;
    }

    /// Reports that a stored resource does not have the form that this version knows.
    pub async fn not_understood<K: Resource<DynamicType = ()>>(&self, invalid: &InvalidObject) {
        let about = ObjectReference {
            api_version: Some(K::api_version(&()).into()),
            kind: Some(K::kind(&()).into()),
            name: invalid.metadata.name.clone(),
            namespace: invalid.metadata.namespace.clone(),
            uid: invalid.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let note = format!(
            "this version of the operator cannot read this resource, and does not reconcile it: {}",
            invalid.error
        );
        tracing::error!(
            name = about.name,
            namespace = about.namespace,
            kind = about.kind,
            "{note}"
        );
        self.publish_warning(&about, Reason::Invalid.to_string(), "Read", &note)
            .await;
    }

    async fn publish_normal(
        &self,
        about: &ObjectReference,
        reason: String,
        action: &str,
        note: &str,
    ) {
        self.publish(about, event("Normal", reason, action, note))
            .await;
    }

    async fn publish_warning(
        &self,
        about: &ObjectReference,
        reason: String,
        action: &str,
        note: &str,
    ) {
        self.publish(about, event("Warning", reason, action, note))
            .await;
    }

    async fn publish(&self, about: &ObjectReference, event: Event) {
        let identity = Identity {
            uid: about.uid.clone(),
            reason: event.reason.clone(),
            note: event.note.clone(),
        };
        let published = match self.repeated(&identity) {
            Some(repeated) => match self.update(repeated).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    self.create(about, event).await
                }
                updated => updated,
            },
            None => self.create(about, event).await,
        };
        match published {
            Ok(event) => {
                let last = Instant::now();
                self.published().insert(identity, Published { event, last });
            }
            Err(error) => {
                tracing::warn!(name = about.name, namespace = about.namespace, %error, "failed to publish an Event");
            }
        }
    }

    /// Returns the Event to update if the same was published lately.
    fn repeated(&self, identity: &Identity) -> Option<K8sEvent> {
        let mut published = self.published();
        published.retain(|_, published| published.last.elapsed() < COUNTED_FOR);
        let mut event = published.get(identity)?.event.clone();
        let count = event.series.map_or(2, |series| series.count + 1);
        event.series = Some(EventSeries {
            count,
            last_observed_time: MicroTime(self.clock.now()),
        });
        Some(event)
    }

    async fn create(&self, about: &ObjectReference, event: Event) -> kube::Result<K8sEvent> {
        let event = self.named(about, event);
        self.api(about)
            .create(&PostParams::default(), &event)
            .await?;
        Ok(event)
    }

    async fn update(&self, event: K8sEvent) -> kube::Result<K8sEvent> {
        let about = event.regarding.clone().unwrap_or_default();
        self.api(&about)
            .patch(
                &event.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&event),
            )
            .await?;
        Ok(event)
    }

    /// Returns the Event as the API takes it.
    fn named(&self, about: &ObjectReference, event: Event) -> K8sEvent {
        let Event {
            type_,
            reason,
            note,
            action,
        } = event;
        let now = self.clock.now();
        let object = about.name.as_deref().unwrap_or(CONTROLLER);
        let suffix = format!("{:x}{:08x}", now.as_nanosecond(), self.random.number());
        K8sEvent {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{object}.{suffix}")),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(type_.into()),
            reason: Some(reason),
            note: Some(note),
            action: Some(action),
            regarding: Some(about.clone()),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..K8sEvent::default()
        }
    }

    /// Events on objects without a namespace are in the default one.
    fn api(&self, about: &ObjectReference) -> Api<K8sEvent> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.client.clone(), namespace)
    }

    fn published(&self) -> MutexGuard<'_, HashMap<Identity, Published>> {
        self.published.lock().expect("no panic while held")
    }
}

/// Creates an Event. A note that is too long for the API is cut.
fn event(type_: &'static str, reason: String, action: &str, note: &str) -> Event {
    let mut note = note.to_owned();
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    Event {
        type_,
        reason,
        note,
        action: action.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;
    use std::time::Duration;

    /// The requests that an API server got. It refuses to change Events while `is_empty` is set.
    #[derive(Clone, Default)]
    struct Server {
        requests: Arc<Mutex<Vec<(Method, Value)>>>,
        is_empty: Arc<Mutex<bool>>,
    }

    impl Server {
        fn events(&self) -> Events {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect_bytes().await.unwrap();
                    let is_lost = parts.method == Method::PATCH && *server.is_empty.lock().unwrap();
                    let content = serde_json::from_slice(&body).unwrap();
                    server
                        .requests
                        .lock()
                        .unwrap()
                        .push((parts.method, content));
                    let gone = r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"gone"}"#;
                    let (code, body) = if is_lost {
                        (404, gone.as_bytes().to_vec())
                    } else {
                        (201, body.to_vec())
                    };
                    let body = Body::from(body);
                    Ok::<_, std::convert::Infallible>(
                        Response::builder().status(code).body(body).unwrap(),
                    )
                }
            });
            let clock = WallClock::starting_at("2026-01-01T12:00:00Z".parse().unwrap());
            let client = Client::new(service, "registry-grants");
            Events::new(client, Some("pod-1".into()), clock, Random::seeded(1))
        }

        fn take(&self) -> Vec<(Method, Value)> {
            std::mem::take(&mut self.requests.lock().unwrap())
        }
    }

    fn grant() -> ObjectReference {
        ObjectReference {
            name: Some("a".into()),
            namespace: Some("team".into()),
            uid: Some("1".into()),
            ..ObjectReference::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_event_is_counted_at_the_clocks_time() {
        let server = Server::default();
        let events = server.events();
        events.granted(&grant(), "pull").await;
        tokio::time::advance(Duration::from_secs(90)).await;
        events.granted(&grant(), "pull").await;
        let requests = server.take();
        let [(created, first), (changed, second)] = &requests[..] else {
            panic!("{requests:?}")
        };
        assert_eq!((created, changed), (&Method::POST, &Method::PATCH));
        assert_eq!(first["eventTime"], "2026-01-01T12:00:00.000000Z");
        assert_eq!(first["reportingInstance"], "pod-1");
        assert_eq!(second["metadata"]["name"], first["metadata"]["name"]);
        assert_eq!(second["series"]["count"], 2);
        let last = &second["series"]["lastObservedTime"];
        assert_eq!(last, "2026-01-01T12:01:30.000000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn event_is_new_with_another_note_or_after_a_pause() {
        let server = Server::default();
        let events = server.events();
        events.granted(&grant(), "pull").await;
        events.granted(&grant(), "push").await;
        tokio::time::advance(COUNTED_FOR).await;
        events.granted(&grant(), "pull").await;
        let requests = server.take();
        assert!(requests.iter().all(|(method, _)| method == Method::POST));
        let names: std::collections::BTreeSet<_> = requests
            .iter()
            .map(|(_, event)| event["metadata"]["name"].to_string())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_event_is_created_again_if_it_was_deleted() {
        let server = Server::default();
        let events = server.events();
        events.granted(&grant(), "pull").await;
        *server.is_empty.lock().unwrap() = true;
        events.granted(&grant(), "pull").await;
        let methods: Vec<Method> = server
            .take()
            .into_iter()
            .map(|(method, _)| method)
            .collect();
        assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST]);
    }

    #[test]
    fn long_note_is_cut_between_characters() {
        let cut = event("Normal", "Granted".into(), "Reconcile", &"ä".repeat(600));
        assert_eq!(cut.note, "ä".repeat(500));
    }
}
