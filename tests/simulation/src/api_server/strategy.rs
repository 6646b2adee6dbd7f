//! What writes of each kind set, drop and keep.

use super::kinds::Kind;
use super::metadata::{is_deleting, text};
use serde_json::{Value, json};

/// Sets and drops what the creation of an object sets and drops.
pub(super) fn prepare_new(kind: Kind, object: &mut Value) {
    if let Some(fields) = object.as_object_mut()
        && kind.has_status()
    {
        fields.remove("status");
    }
    if kind.is_custom() {
        object["metadata"]["generation"] = json!(1);
    }
    match kind {
        Kind::Namespace => {
            object["status"] = json!({"phase": "Active"});
            let finalizers = &mut object["spec"]["finalizers"];
            if !finalizers.is_array() {
                *finalizers = json!([]);
            }
            if let Some(finalizers) = finalizers.as_array_mut()
                && !finalizers.contains(&json!("kubernetes"))
            {
                finalizers.push(json!("kubernetes"));
            }
        }
        Kind::Account | Kind::Event | Kind::Grant | Kind::Lease => {}
    }
}

/// Keeps of the old version what an update through this endpoint may not change.
pub(super) fn prepare_update(kind: Kind, is_status: bool, old: &Value, object: &mut Value) {
    let keep = |object: &mut Value, key: &str| match old.get(key) {
        Some(value) => object[key] = value.clone(),
        None => {
            if let Some(fields) = object.as_object_mut() {
                fields.remove(key);
            }
        }
    };
    let old_metadata = &old["metadata"];
    if kind.is_custom() && is_status {
        let managed = object["metadata"].get("managedFields").cloned();
        keep(object, "metadata");
        keep(object, "spec");
        match managed {
            Some(managed) => object["metadata"]["managedFields"] = managed,
            None => {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
            }
        }
        return;
    }
    object["metadata"]["generation"] = old_metadata["generation"].clone();
    match (kind, is_status) {
        (Kind::Namespace, true) => keep(object, "spec"),
        (Kind::Namespace, false) => {
            keep(object, "status");
            keep(object, "spec");
        }
        (kind, _) if kind.has_status() => keep(object, "status"),
        _ => {}
    }
    if kind.is_custom() && object["spec"] != old["spec"] {
        let generation = old_metadata["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    if text(object, "uid").is_empty() {
        object["metadata"]["uid"] = old_metadata["uid"].clone();
    }
    object["metadata"]["creationTimestamp"] = old_metadata["creationTimestamp"].clone();
    if is_deleting(old) {
        object["metadata"]["deletionTimestamp"] = old_metadata["deletionTimestamp"].clone();
        let grace = &mut object["metadata"]["deletionGracePeriodSeconds"];
        if grace.is_null() {
            *grace = old_metadata["deletionGracePeriodSeconds"].clone();
        }
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
}

/// Applies a merge patch (RFC 7386).
pub(super) fn merge_patch(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let Value::Object(fields) = value else {
        return;
    };
    for (name, patch) in patch {
        if patch.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name.clone()).or_insert(Value::Null), patch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(mut value: Value, patch: &Value) -> Value {
        merge_patch(&mut value, patch);
        value
    }

    #[test]
    fn merge_patch_follows_its_rfc() {
        let value = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": "x"});
        let patch = json!({"a": {"b": null, "f": {"g": null}}, "d": [3], "e": null});
        assert_eq!(
            patched(value, &patch),
            json!({"a": {"c": 2, "f": {}}, "d": [3]})
        );
        assert_eq!(
            patched(json!({"a": "b"}), &json!({"a": {"c": 1}})),
            json!({"a": {"c": 1}})
        );
    }

    #[test]
    fn generation_counts_changes_of_the_spec_alone() {
        let old = json!({"metadata": {"generation": 1}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut new = json!({"metadata": {"generation": 7}, "spec": {"a": 1}, "status": {"b": 2}});
        prepare_update(Kind::Grant, false, &old, &mut new);
        assert_eq!(new, old);
        new["spec"]["a"] = json!(2);
        prepare_update(Kind::Grant, false, &old, &mut new);
        assert_eq!(new["metadata"]["generation"], 2);
        let mut new = json!({"metadata": {"generation": 7}, "spec": {"a": 3}, "status": {"b": 2}});
        prepare_update(Kind::Grant, true, &old, &mut new);
        assert_eq!(new["status"]["b"], 2);
        assert_eq!(
            (&new["spec"], &new["metadata"]),
            (&old["spec"], &old["metadata"])
        );
    }
}
