//! Publishes Events on the resources, which `kubectl describe` shows.

use crate::api::conditions::Reason;
use crate::grant::change::Change;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1_000;

/// How long repetitions of a note are counted in one Event: a little longer than in a recorder.
const COUNTED_FOR: Duration = Duration::from_secs(600);

/// Publisher of Events. An Event that cannot be published is logged, and never stops the work that
/// it reports.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    told: Arc<Mutex<HashMap<Told, (Recorder, Instant)>>>,
}

/// Identity of an Event: its object, reason and note.
#[derive(PartialEq, Eq, Hash)]
struct Told {
    uid: Option<String>,
    reason: String,
    note: String,
}

impl Events {
    /// Creates a publisher. `pod` is the name of this replica's Pod.
    pub fn new(client: Client, pod: Option<String>) -> Self {
        let reporter = Reporter {
            controller: "registry-grants".into(),
            instance: pod,
        };
        Self {
            client,
            reporter,
            told: Arc::default(),
        }
    }

    /// Returns the recorder for one note. A recorder counts Events by their reason alone and keeps
    /// the first one's note, so that another note would never be read. Therefore each note has its
    /// own recorder.
    fn recorder(&self, told: Told) -> Recorder {
        let mut recorders = self.told.lock().expect("no panic while held");
        recorders.retain(|_, (_, last)| last.elapsed() < COUNTED_FOR);
        let new = || {
            (
                Recorder::new(self.client.clone(), self.reporter.clone()),
                Instant::now(),
            )
        };
        let (recorder, last) = recorders.entry(told).or_insert_with(new);
        *last = Instant::now();
        recorder.clone()
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
        self.publish(about, event(EventType::Normal, reason, action, note))
            .await;
    }

    async fn publish_warning(
        &self,
        about: &ObjectReference,
        reason: String,
        action: &str,
        note: &str,
    ) {
        self.publish(about, event(EventType::Warning, reason, action, note))
            .await;
    }

    async fn publish(&self, about: &ObjectReference, event: Event) {
        let told = Told {
            uid: about.uid.clone(),
            reason: event.reason.clone(),
            note: event.note.clone().unwrap_or_default(),
        };
        if let Err(error) = self.recorder(told).publish(&event, about).await {
            tracing::warn!(name = about.name, namespace = about.namespace, %error, "failed to publish an Event");
        }
    }
}

/// Creates an Event. A note that is too long for the API is cut.
fn event(type_: EventType, reason: String, action: &str, note: &str) -> Event {
    let mut note = note.to_owned();
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    Event {
        type_,
        reason,
        note: Some(note),
        action: action.into(),
        secondary: None,
    }
}
