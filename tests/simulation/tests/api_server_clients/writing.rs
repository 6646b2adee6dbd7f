use super::{grant, grants, key, server};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Error, Resource, ResourceExt};
use registry_grants::api::CrossAccountRegistryGrant;
use serde_json::{Value, json};
use simulation::api_server::{Key, Kind};

type Grant = CrossAccountRegistryGrant;

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.reason),
        other => panic!("no failure of the API: {other:?}"),
    }
}

fn status(observed: i64, conditions: &Value) -> Value {
    json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "CrossAccountRegistryGrant",
        "status": {"observedGeneration": observed, "conditions": conditions},
    })
}

#[tokio::test(start_paused = true)]
async fn grant_lives_until_its_finalizer_is_removed() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let api = grants(&server, "operator");
    let read = api.get("web").await.unwrap();
    let patch = |grant: &Grant, finalizers: Value| {
        Patch::Merge(json!({"metadata": {
            "resourceVersion": grant.resource_version(),
            "uid": grant.uid(),
            "finalizers": finalizers,
        }}))
    };
    let parameters = PatchParams::default();
    let with = patch(&read, json!(["registrygrants.dev/revoke"]));
    let added = api.patch("web", &parameters, &with).await.unwrap();
    assert_eq!(added.finalizers(), ["registrygrants.dev/revoke"]);
    // Of the version that was read first.
    let conflict = api.patch("web", &parameters, &with).await;
    assert_eq!(code(conflict), (409, "Conflict".to_owned()));
    server.delete(&key("web")).unwrap();
    let deleted = api.get("web").await.unwrap();
    assert!(deleted.meta().deletion_timestamp.is_some());
    assert_eq!(deleted.meta().generation, Some(2));
    let without = patch(&deleted, json!([]));
    api.patch("web", &parameters, &without).await.unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn status_belongs_to_its_field_manager() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let api = grants(&server, "operator");
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Granted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let parameters = PatchParams::apply("registry-grants").force();
    let first = status(1, &json!([ready]));
    let applied = api
        .patch_status("web", &parameters, &Patch::Apply(&first))
        .await
        .unwrap();
    let again = api
        .patch_status("web", &parameters, &Patch::Apply(&first))
        .await
        .unwrap();
    // Nothing changed, so nothing was written.
    assert_eq!(applied.resource_version(), again.resource_version());
    assert_eq!(applied.meta().generation, Some(1));
    let second = status(2, &json!([]));
    api.patch_status("web", &parameters, &Patch::Apply(&second))
        .await
        .unwrap();
    let stored = server.get(&key("web")).unwrap();
    assert_eq!(stored["status"]["observedGeneration"], 2);
    assert_eq!(stored["status"]["conditions"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn status_endpoint_ignores_the_spec_and_the_reverse() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let api = grants(&server, "operator");
    let both = json!({"spec": {"access": "PullPush"}, "status": {"observedGeneration": 5}});
    let parameters = PatchParams::default();
    api.patch_status("web", &parameters, &Patch::Merge(&both))
        .await
        .unwrap();
    let stored = server.get(&key("web")).unwrap();
    assert_eq!(stored["spec"]["access"], "Pull");
    assert_eq!(stored["status"]["observedGeneration"], 5);
    let other = json!({"spec": {"access": "PullPush"}, "status": {"observedGeneration": 6}});
    let changed = api
        .patch("web", &parameters, &Patch::Merge(&other))
        .await
        .unwrap();
    assert_eq!(changed.meta().generation, Some(2));
    assert_eq!(
        server.get(&key("web")).unwrap()["status"]["observedGeneration"],
        5
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_one_takes_the_lease() {
    let server = server();
    let leases = |replica: &str| -> Api<Lease> {
        Api::default_namespaced(server.connect(replica).client("team"))
    };
    let held_by = |holder: &str| LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        ..LeaseSpec::default()
    };
    let new = Lease {
        metadata: ObjectMeta {
            name: Some("lease".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(held_by("")),
    };
    let (one, other) = (leases("one"), leases("other"));
    let created = one.create(&PostParams::default(), &new).await.unwrap();
    let twice = other.create(&PostParams::default(), &new).await;
    assert_eq!(code(twice), (409, "AlreadyExists".to_owned()));
    let take = |holder: &str| Lease {
        spec: Some(held_by(holder)),
        ..created.clone()
    };
    let parameters = PostParams::default();
    let taken = one.replace("lease", &parameters, &take("one")).await;
    assert_eq!(taken.unwrap().spec, Some(held_by("one")));
    let lost = other.replace("lease", &parameters, &take("other")).await;
    assert_eq!(code(lost), (409, "Conflict".to_owned()));
    server.remove_unchecked(&Key::new(Kind::Lease, "team", "lease"));
    // An update creates a Lease, but not one with the UID of another.
    let gone = one.replace("lease", &parameters, &take("one")).await;
    assert_eq!(code(gone), (409, "Conflict".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn recorder_counts_repeated_events() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let api = grants(&server, "operator");
    let about = api.get("web").await.unwrap().object_ref(&());
    let reporter = Reporter {
        controller: "registry-grants".into(),
        instance: Some("pod".into()),
    };
    let recorder = Recorder::new(api.into_client(), reporter);
    let event = Event {
        type_: EventType::Normal,
        reason: "Granted".into(),
        note: Some("everything is in place".into()),
        action: "Reconcile".into(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&event, &about).await.unwrap();
    }
    let events = server.list(Kind::Event);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["series"]["count"], 3);
    assert_eq!(events[0]["regarding"]["name"], "web");
    let long = Event {
        note: Some("x".repeat(1025)),
        reason: "Other".into(),
        ..event
    };
    let refused = recorder.publish(&long, &about).await;
    assert_eq!(code(refused), (422, "Invalid".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn invalid_grants_are_refused_with_all_reasons() {
    let server = server();
    let mut wrong = grant("web");
    wrong["spec"]["access"] = json!("Everything");
    wrong["spec"]["registry"]["repositories"] = json!([]);
    let refused = server.create(Kind::Grant, wrong).unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    let fields: Vec<String> = refused
        .details
        .unwrap()
        .causes
        .into_iter()
        .map(|cause| cause.field)
        .collect();
    assert!(fields.contains(&"spec.access".to_owned()), "{fields:?}");
    assert!(
        fields.contains(&"spec.registry.repositories".to_owned()),
        "{fields:?}"
    );
    let mut wrong = grant("web");
    wrong["spec"]["consumer"]["accountID"] = json!("111111111111");
    let refused = server.create(Kind::Grant, wrong).unwrap_err();
    assert!(
        refused.message.contains("must differ from"),
        "{}",
        refused.message
    );
}

#[tokio::test(start_paused = true)]
async fn rules_compare_with_the_old_version() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let refused = server.edit(&key("web"), |grant| {
        grant["spec"]["registry"]["accountID"] = json!("333333333333");
    });
    assert_eq!(refused.unwrap_err().code, 422);
    let stored = server.get(&key("web")).unwrap();
    assert_eq!(stored["spec"]["mode"], "Enforce", "a default");
    assert_eq!(stored["metadata"]["generation"], 1);
}

#[tokio::test(start_paused = true)]
async fn list_in_pages_shows_one_revision() {
    let server = server();
    for name in ["a", "b", "c"] {
        server.create(Kind::Grant, grant(name)).unwrap();
    }
    let api = grants(&server, "operator");
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(1));
    server.delete(&key("c")).unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = ListParams::default().limit(2).continue_token(&token);
    let second = api.list(&rest).await.unwrap();
    let names: Vec<String> = second.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(
        second.metadata.resource_version,
        first.metadata.resource_version
    );
    server.compact(server.revision());
    assert_eq!(code(api.list(&rest).await), (410, "Expired".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn deleted_namespace_takes_its_contents_along() {
    let server = server();
    let mut finalized = grant("web");
    finalized["metadata"]["finalizers"] = json!(["registrygrants.dev/revoke"]);
    server.create(Kind::Grant, finalized).unwrap();
    server.create(Kind::Grant, grant("free")).unwrap();
    let team = Key::new(Kind::Namespace, "", "team");
    server.delete(&team).unwrap();
    let refused = server.create(Kind::Grant, grant("late")).unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    server.run_namespace_controller();
    assert_eq!(server.list(Kind::Grant).len(), 1);
    assert!(server.get(&team).is_some());
    server.remove_finalizers(&key("web")).unwrap();
    server.run_namespace_controller();
    assert!(server.get(&team).is_none() && server.list(Kind::Grant).is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_metadata_is_sent_on_request() {
    let server = server();
    server.create(Kind::Grant, grant("web")).unwrap();
    let api = grants(&server, "operator");
    let one = api.get_metadata("web").await.unwrap();
    assert_eq!(one.name_any(), "web");
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 1);
    assert!(api.get_metadata_opt("other").await.unwrap().is_none());
}
