//! Objects and parts of objects. About one in four is invalid.

use fastrand::Rng;
use serde_json::{Value, json};

fn one_of<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(..list.len())]
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with /");
    if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
        fields.insert(key.to_owned(), value);
    }
}

/// Returns a spec of a grant.
pub fn grant_spec(rng: &mut Rng) -> Value {
    let mut spec = json!({
        "access": "Pull",
        "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
        "consumer": {"accountID": "222222222222", "wholeAccount": true},
    });
    for _ in 0..rng.usize(..3) {
        let (pointer, value) = if rng.u8(..5) > 0 {
            valid_change(rng)
        } else {
            invalid_change(rng)
        };
        set(&mut spec, pointer, value);
    }
    spec
}

fn valid_change(rng: &mut Rng) -> (&'static str, Value) {
    let changes = [
        ("/access", json!("PullPush")),
        ("/paths", json!(["Direct"])),
        ("/suspend", json!(true)),
        ("/mode", json!("Observe")),
        ("/mode", Value::Null),
        ("/deletionPolicy", json!("Retain")),
        ("/registry/repositories", json!(["app", "lib/*", "other"])),
        ("/registry/repositories", json!(["other", "app"])),
        ("/registry/regions", json!(["us-east-1", "eu-west-1"])),
        ("/registry/role", json!({"name": "ci"})),
        (
            "/registry/role",
            json!({"managedPolicies": ["AmazonEC2ContainerRegistryReadOnly"]}),
        ),
        ("/registry/role", Value::Null),
        ("/registry/unknown", json!({"a": [1]})),
        ("/unknown", json!("x")),
        ("/registry/replaceSids", json!(["old statement"])),
        ("/consumer/instanceRole", json!({"name": "nodes"})),
        ("/consumer/lambda", json!(true)),
        (
            "/consumer",
            json!({"accountID": "222222222222", "roles": ["ci/*"]}),
        ),
    ];
    one_of(rng, &changes).clone()
}

fn invalid_change(rng: &mut Rng) -> (&'static str, Value) {
    let changes = [
        ("/access", json!("Everything")),
        ("/access", json!(7)),
        ("/access", Value::Null),
        ("/registry/accountID", json!("12")),
        ("/registry/accountID", json!("222222222222")),
        ("/registry/accountID", json!("3".repeat(13))),
        ("/registry/repositories", json!([])),
        ("/registry/repositories", json!(["app", "app"])),
        ("/registry/repositories", json!(["Upper"])),
        ("/registry/repositories", json!("app")),
        ("/registry/regions", Value::Null),
        ("/paths", json!(["Direct", "Direct"])),
        ("/paths", json!([])),
        ("/consumer", json!({})),
        ("/consumer/organization", json!({"id": "o-abcdefghij"})),
        ("/registry/role", json!({"maxSessionSeconds": 1})),
        ("/registry/role", json!({"path": "/x/"})),
        ("/suspend", json!("yes")),
    ];
    one_of(rng, &changes).clone()
}

/// Returns a spec of an account.
pub fn account_spec(rng: &mut Rng, name: &str) -> Value {
    let specs = [
        json!({}),
        json!({"alias": "registry"}),
        json!({"alias": null, "partition": "aws"}),
        json!({"partition": "mars"}),
        json!({"alias": "x".repeat(64)}),
        json!({"credentials": {"assumeRole": {"roleARN": format!("arn:aws:iam::{name}:role/a")}}}),
        json!({"credentials": {"assumeRole": {"roleARN": "arn:aws:iam::999999999999:role/a"}}}),
        json!({"registry": {}}),
        json!({"registry": {"rules": [{"namespaces": {"names": ["a"]}, "maxAccess": "Pull", "repositories": ["*"]}]}}),
        json!({"consumer": {"rules": [{"namespaces": {"selector": {}}}]}}),
    ];
    one_of(rng, &specs).clone()
}

/// Returns changes of metadata, as a merge patch has them.
pub fn metadata_patch(rng: &mut Rng) -> Value {
    let patches = [
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"a": null, "b": "2"}}),
        json!({"labels": null}),
        json!({"labels": {"-bad": "1"}}),
        json!({"labels": {"a": "-bad"}}),
        json!({"labels": {"a": 1}}),
        json!({"annotations": {"registrygrants.dev/reconcile": "now"}}),
        json!({"annotations": {"registrygrants.dev/reconcile": "later"}}),
        json!({"annotations": {}}),
        json!({"finalizers": ["registrygrants.dev/revoke"]}),
        json!({"finalizers": ["other.dev/one", "registrygrants.dev/revoke"]}),
        json!({"finalizers": []}),
        json!({"finalizers": null}),
        json!({"finalizers": ["not/qualified/name"]}),
        json!({"generation": 77}),
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        json!({"creationTimestamp": "2020-01-01T00:00:00Z"}),
        json!({"uid": "00000000-0000-4000-8000-000000000000"}),
        json!({"name": "other"}),
        json!({"namespace": "other"}),
        json!({"unknown": {"a": 1}}),
        json!({"managedFields": []}),
        json!({}),
    ];
    one_of(rng, &patches).clone()
}

/// Returns metadata of a new object, without its name.
pub fn new_metadata(rng: &mut Rng) -> Value {
    let all = [
        json!({}),
        json!({}),
        json!({"labels": {"a": "1"}, "annotations": {"b": "2"}}),
        json!({"finalizers": ["registrygrants.dev/revoke"]}),
        json!({"finalizers": ["registrygrants.dev/revoke"], "labels": {}}),
        json!({"uid": "00000000-0000-4000-8000-000000000000", "generation": 9}),
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "creationTimestamp": null}),
        json!({"resourceVersion": "99999999"}),
        json!({"finalizers": ["UPPER_case"], "labels": {"a": "b c"}}),
        json!({"labels": "none"}),
        json!({"annotations": {"a": null}}),
    ];
    one_of(rng, &all).clone()
}

fn condition(rng: &mut Rng, type_: &str) -> Value {
    json!({
        "type": type_,
        "status": one_of(rng, &["True", "False"]),
        "reason": one_of(rng, &["Granted", "Waiting", "Denied"]),
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn conditions(rng: &mut Rng) -> Value {
    let mut types = vec!["Ready", "AccountsReady", "RoleReady", "Stalled"];
    rng.shuffle(&mut types);
    types.truncate(rng.usize(..4));
    types
        .into_iter()
        .map(|type_| condition(rng, type_))
        .collect()
}

/// Returns a status of a grant.
pub fn grant_status(rng: &mut Rng) -> Value {
    let mut status = json!({});
    for _ in 0..rng.usize(..5) {
        let (pointer, value) = match rng.u8(..14) {
            0 => ("/observedGeneration", json!(rng.u8(..3))),
            1 | 2 => ("/conditions", conditions(rng)),
            3 => ("/registry", json!({"roleARN": "arn", "hosts": ["a", "b"]})),
            4 => ("/registry", json!({"hosts": ["b"]})),
            5 => (
                "/applied",
                json!({"registryRoles": ["one", "two"], "spec": {"a": {"b": 1}}}),
            ),
            6 => (
                "/applied",
                json!({
                    "registryRoles": ["two"],
                    "repositories": [{"region": "us-east-1", "patterns": ["app", "lib"]}],
                    "spec": {"a": {"c": [1, 2]}, "d": null},
                }),
            ),
            7 => (
                "/applied",
                json!({"repositories": [
                    {"region": "eu-west-1", "patterns": ["app"]},
                    {"region": "us-east-1", "patterns": ["lib"]},
                ]}),
            ),
            8 => ("/applied", Value::Null),
            9 => ("/pending", json!({"changes": 2, "items": ["a", "b"]})),
            10 => (
                "/repositories",
                json!({
                    "failed": 0, "granted": 1, "summary": "1/1", "waiting": 0,
                    "items": [{"name": "app", "reason": "Granted", "region": "us-east-1"}],
                }),
            ),
            11 => ("/lastHandledReconcile", json!("now")),
            12 => ("/conditions", json!([])),
            _ => invalid_status(rng),
        };
        set(&mut status, pointer, value);
    }
    status
}

fn invalid_status(rng: &mut Rng) -> (&'static str, Value) {
    let ready = condition(rng, "Ready");
    let changes = [
        ("/observedGeneration", json!("one")),
        ("/unknown", json!(1)),
        ("/conditions", json!([ready, ready])),
        ("/conditions", json!([{"type": "Ready"}])),
        ("/conditions", json!("none")),
        ("/pending", json!({"items": []})),
        (
            "/access",
            json!([{"action": "Look", "path": "Direct", "principal": "p", "verdict": "Allowed"}]),
        ),
    ];
    one_of(rng, &changes).clone()
}

/// Returns a status of an account.
pub fn account_status(rng: &mut Rng) -> Value {
    let statuses = [
        json!({}),
        json!({"observedGeneration": 1}),
        json!({"grants": {"consumer": 1, "registry": 2}}),
        json!({"grants": null, "warnings": ["w"]}),
        json!({"secondWriter": {"evidence": ["seen"], "since": "2026-01-01T00:00:00Z"}}),
        json!({"secondWriter": null}),
        json!({"sweep": {"found": 1, "kept": 0, "message": "m", "mode": "Report", "items": [{"arn": "a"}]}}),
        json!({"recentlyRevoked": [{"region": "r", "repository": "a", "time": "2026-01-01T00:00:00Z"}]}),
        json!({"lastError": {"message": "m", "reason": "r", "time": "yesterday"}}),
        json!({"conditions": [{"type": "Ready"}]}),
    ];
    one_of(rng, &statuses).clone()
}

/// Returns a spec of a Lease.
pub fn lease_spec(rng: &mut Rng) -> Value {
    let specs = [
        json!({}),
        json!({"holderIdentity": "one", "leaseDurationSeconds": 15}),
        json!({"holderIdentity": "two", "leaseTransitions": 3, "renewTime": "2026-01-01T00:00:00.000001Z"}),
        json!({"holderIdentity": null, "acquireTime": "2026-01-01T00:00:00.500000Z"}),
        json!({"holderIdentity": "", "unknown": 1}),
        json!({"leaseDurationSeconds": 0}),
        json!({"leaseTransitions": -1}),
        json!({"leaseDurationSeconds": "15"}),
        json!({"renewTime": "2026-01-01T00:00:00Z"}),
    ];
    one_of(rng, &specs).clone()
}

/// Returns an Event about something in a namespace, without its name.
pub fn event(rng: &mut Rng, namespace: &str) -> Value {
    let mut event = json!({
        "metadata": {},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "X", "name": "y", "namespace": namespace},
        "reportingController": "registry-grants",
        "reportingInstance": "pod",
        "action": "Reconcile",
        "reason": "Granted",
        "type": "Normal",
        "note": "text",
    });
    if rng.bool() {
        let changes = [
            ("/eventTime", Value::Null),
            ("/note", json!("x".repeat(1025))),
            ("/note", json!("")),
            ("/action", json!("")),
            ("/type", json!("Odd")),
            ("/regarding/namespace", json!("other")),
            ("/regarding", json!({"kind": "X"})),
            ("/reportingController", json!("not qualified")),
            ("/series", json!({"count": 1})),
            ("/reason", json!("r".repeat(129))),
        ];
        let (pointer, value) = one_of(rng, &changes).clone();
        set(&mut event, pointer, value);
    }
    event
}

/// Returns changes of an Event.
pub fn event_patch(rng: &mut Rng) -> Value {
    let patches = [
        json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}),
        json!({"series": {"count": 5, "lastObservedTime": "2026-01-01T00:00:02.000000Z"}}),
        json!({"series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:02.000000Z"}}),
        json!({"note": "other"}),
        json!({"reason": "Other"}),
    ];
    one_of(rng, &patches).clone()
}
