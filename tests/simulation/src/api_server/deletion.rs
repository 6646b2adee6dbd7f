//! Deletion: preconditions, finalizers, and namespaces.

use super::core::FIRST_NAMESPACES;
use super::fields::managers::seconds;
use super::kinds::Kind;
use super::metadata::{has_finalizers, is_deleting, text};
use super::status::Failure;
use super::store::Key;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// Refuses to delete the namespaces that every cluster has.
pub(super) fn check_immortal(key: &Key) -> Result<(), Failure> {
    let is_mortal = key.name == "kube-node-lease" || !FIRST_NAMESPACES.contains(&key.name.as_str());
    if key.kind != Kind::Namespace || is_mortal {
        return Ok(());
    }
    let why = "this namespace may not be deleted";
    Err(Failure::forbidden(
        Kind::Namespace.resource(),
        &key.name,
        why,
    ))
}

/// Checks the UID and the resource version that a deletion expects.
pub(super) fn check_preconditions(
    kind: Kind,
    object: &Value,
    preconditions: &Value,
) -> Result<(), Failure> {
    let name = text(object, "name");
    for (field, label, hint) in [
        (
            "uid",
            "UID",
            "The object might have been deleted and then recreated",
        ),
        (
            "resourceVersion",
            "ResourceVersion",
            "The object might have been modified",
        ),
    ] {
        let Some(expected) = preconditions[field].as_str() else {
            continue;
        };
        let actual = text(object, field);
        if expected != actual {
            let why = format!(
                "the {label} in the precondition ({expected}) does not match the {label} in record ({actual}). {hint}"
            );
            // The server stores Events as those of the core group.
            let group = if kind == Kind::Event {
                ""
            } else {
                kind.group()
            };
            return Err(Failure::conflict((group, kind.name()), name, &why));
        }
    }
    Ok(())
}

/// Returns the object marked as deleted, if something must happen before it disappears.
pub(super) fn marked(kind: Kind, object: &Value, now: Timestamp) -> Option<Value> {
    let waits = has_finalizers(object) || has_namespace_finalizers(kind, object);
    if !waits {
        return None;
    }
    let mut marked = object.clone();
    if is_deleting(object) {
        return Some(marked);
    }
    let metadata = &mut marked["metadata"];
    metadata["deletionTimestamp"] = json!(seconds(now));
    if let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = json!(generation + 1);
    }
    if kind == Kind::Namespace {
        marked["status"]["phase"] = json!("Terminating");
    } else {
        metadata["deletionGracePeriodSeconds"] = json!(0);
    }
    Some(marked)
}

fn has_namespace_finalizers(kind: Kind, object: &Value) -> bool {
    let finalizers = object["spec"]["finalizers"].as_array();
    kind == Kind::Namespace && finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

/// Returns whether an update of a deleted object was the last thing that its deletion waited for.
pub(super) fn completes(kind: Kind, old: &Value, new: &Value) -> bool {
    is_deleting(old) && !has_finalizers(new) && !has_namespace_finalizers(kind, new)
}

/// Returns the answer to a deletion that is complete.
pub(super) fn success(kind: Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": text(object, "name"),
        "kind": kind.plural(),
        "uid": text(object, "uid"),
    });
    if !kind.group().is_empty() {
        details["group"] = json!(kind.group());
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
