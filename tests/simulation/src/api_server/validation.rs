//! Validation of new and changed objects.

use super::kinds::Kind;
use super::metadata::{self, text};
use super::schema::Schema;
use super::schema::validate::{block_rules, list_violations, violations};
use super::status::{Violation, ViolationKind};
use serde_json::{Value, json};

/// The longest note of an Event, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The longest reason, action and reporter of an Event, in bytes.
const LONGEST_WORD: usize = 128;

/// Returns what is wrong with a new object.
pub(super) fn of_new(kind: Kind, object: &Value) -> Vec<Violation> {
    let mut found = metadata::violations(kind, object);
    match kind {
        Kind::Account | Kind::Grant => {
            let schema = &kind.definition().schema;
            found.extend(violations(schema, object, None, ""));
            found.extend(list_violations(schema, object, ""));
            add_rule_violations(kind, object, None, &mut found);
        }
        Kind::Event => found.extend(new_event_violations(object)),
        Kind::Lease => found.extend(lease_violations(object)),
        Kind::Namespace => {}
    }
    found
}

/// Returns what is wrong with the new version of an object.
pub(super) fn of_update(kind: Kind, is_status: bool, new: &Value, old: &Value) -> Vec<Violation> {
    let mut found = metadata::violations(kind, new);
    found.extend(metadata::update_violations(new, old));
    match kind {
        Kind::Account | Kind::Grant => {
            let schema = &kind.definition().schema;
            if !is_status {
                found.extend(violations(schema, new, Some(old), ""));
            } else if let (Some(schema), Some(status)) =
                (schema.properties.get("status"), new.get("status"))
            {
                found.extend(status_violations(schema, status, old.get("status")));
            }
            if list_violations(schema, old, "").is_empty() {
                found.extend(list_violations(schema, new, ""));
            }
            add_rule_violations(kind, new, Some(old), &mut found);
        }
        Kind::Event => found.extend(event_update_violations(new, old)),
        Kind::Lease => found.extend(lease_violations(new)),
        Kind::Namespace if is_status => found.extend(phase_violation(new)),
        Kind::Namespace => {}
    }
    found
}

fn phase_violation(namespace: &Value) -> Option<Violation> {
    let (expected, when) = match metadata::is_deleting(namespace) {
        true => ("Terminating", "is not empty"),
        false => ("Active", "is empty"),
    };
    let phase = &namespace["status"]["phase"];
    let why = format!("may only be '{expected}' if `deletionTimestamp` {when}");
    (phase != expected).then(|| Violation::invalid("status.Phase", phase, &why))
}

/// Validates a status by itself. The messages name its fields as seen from the status.
fn status_violations(schema: &Schema, status: &Value, old: Option<&Value>) -> Vec<Violation> {
    let found = violations(schema, status, old, "").into_iter();
    let found = found.map(|violation| Violation {
        field: match violation.field.as_str() {
            "" => "status".to_owned(),
            field => format!("status.{field}"),
        },
        ..violation
    });
    found.collect()
}

fn add_rule_violations(kind: Kind, new: &Value, old: Option<&Value>, found: &mut Vec<Violation>) {
    if block_rules(found) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        found.push(Violation::invalid("<nil>", &Value::Null, why));
    } else {
        found.extend(kind.rule_violations(new, old));
    }
}

fn lease_violations(lease: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let spec = &lease["spec"];
    for (field, least, why) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if spec[field].as_i64().is_some_and(|number| number < least) {
            let place = format!("spec.{field}");
            found.push(Violation::invalid(&place, &spec[field], why));
        }
    }
    found
}

/// Returns what is wrong with an Event, new or changed.
fn event_violations(event: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let field = |name: &str| event[name].as_str().unwrap_or_default();
    let regarding = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let own = text(event, "namespace");
    let is_timed = !event["eventTime"].is_null();
    let fits = match (regarding.is_empty(), is_timed) {
        (true, false) => own == "default",
        (true, true) => own == "default" || own == "kube-system",
        (false, false) => regarding == own,
        (false, true) => true,
    };
    if !fits {
        let why = "does not match event.namespace";
        let place = "involvedObject.namespace";
        found.push(Violation::invalid(place, &json!(regarding), why));
    }
    if !is_timed {
        return found;
    }
    for name in [
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if field(name).is_empty() {
            found.push(Violation::required(name, ""));
        }
    }
    for why in metadata::qualified_problems(field("reportingController")) {
        let place = "reportingController";
        found.push(Violation::invalid(place, &json!(field(place)), &why));
    }
    for (name, place, limit) in [
        ("reportingInstance", "reportingInstance", LONGEST_WORD),
        ("action", "action", LONGEST_WORD),
        ("reason", "reason", LONGEST_WORD),
        ("note", "message", LONGEST_NOTE),
    ] {
        if field(name).len() > limit {
            let why = format!("can have at most {limit} characters");
            found.push(Violation::invalid(place, &json!(""), &why));
        }
    }
    found
}

fn new_event_violations(event: &Value) -> Vec<Violation> {
    let mut found = event_violations(event);
    found.extend(series_violations(event));
    if event["eventTime"].is_null() {
        found.push(Violation::required("eventTime", ""));
    }
    let type_ = event["type"].as_str().unwrap_or_default();
    if !["Normal", "Warning"].contains(&type_) {
        let why = format!("has invalid value: {type_}");
        found.push(Violation::invalid("type", &json!(""), &why));
    }
    found
}

fn series_violations(event: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let series = &event["series"];
    if !series.is_object() {
        return found;
    }
    if series["count"].as_i64().unwrap_or_default() < 2 {
        let why = "should be at least 2";
        found.push(Violation::invalid("series.count", &json!(""), why));
    }
    if series["lastObservedTime"].is_null() {
        found.push(Violation::required("series.lastObservedTime", ""));
    }
    found
}

fn event_update_violations(new: &Value, old: &Value) -> Vec<Violation> {
    let mut found = event_violations(new);
    if new["series"] != old["series"] {
        found.extend(series_violations(new));
    }
    for (field, place) in [
        ("action", "action"),
        ("deprecatedCount", "count"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedSource", "source"),
        ("eventTime", "eventTime"),
        ("note", "message"),
        ("reason", "reason"),
        ("regarding", "involvedObject"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("type", "type"),
    ] {
        if new[field] != old[field] {
            let why = format!("Invalid value: {}: field is immutable", new[field]);
            found.push(Violation::new(place, ViolationKind::Invalid, why));
        }
    }
    found
}
