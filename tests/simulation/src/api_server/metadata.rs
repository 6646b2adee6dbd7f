//! Rules of `metadata`.

use super::kinds::Kind;
use super::schema::{Schema, complete};
use super::status::{Violation, ViolationKind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

const ANNOTATIONS_LIMIT: usize = 256 * 1024;

const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Brings an object into the form in which it is stored: metadata without unknown and empty fields,
/// and times in their usual notation.
pub(super) fn normalise(schema: &Schema, kind: Kind, object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if let Some(schema) = schema.properties.get("metadata") {
        complete::prune(schema, &mut object["metadata"]);
        set_times(schema, &mut object["metadata"]);
    }
    // Go keeps an empty list here, which resets the managers, for its own types only.
    let resets = !kind.is_custom() && object["metadata"]["managedFields"] == json!([]);
    drop_empty(&mut object["metadata"]);
    for map in ["annotations", "labels"] {
        if let Some(map) = object["metadata"].get_mut(map) {
            empty_nulls(map);
        }
    }
    if !kind.is_custom() {
        complete::prune(schema, object);
        set_times(schema, object);
        drop_nulls(object);
        for (name, least) in kind.skeleton().as_object().into_iter().flatten() {
            if object.get(name).is_none() {
                object[name] = least.clone();
            }
        }
        if kind == Kind::Event {
            drop_empty_texts(object);
        }
    }
    if resets {
        object["metadata"]["managedFields"] = json!([]);
    }
}

/// Drops the empty texts of an Event, whose fields are no pointers in Go.
fn drop_empty_texts(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| value != "");
    }
}

fn drop_empty(metadata: &mut Value) {
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|name, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(number) => {
                number.as_i64() != Some(0) || name == "deletionGracePeriodSeconds"
            }
            Value::Bool(_) => true,
        });
    }
}

fn empty_nulls(map: &mut Value) {
    for value in map.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if value.is_null() {
            *value = json!("");
        }
    }
}

/// Drops nulls and empty lists, which Go does not write.
fn drop_nulls(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value != &json!([]));
        fields.values_mut().for_each(drop_nulls);
    }
}

fn set_times(schema: &Schema, value: &mut Value) {
    match (schema.format.as_deref(), &mut *value) {
        (Some(format @ ("date-time" | "micro-time")), Value::String(text)) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                *text = match format {
                    "micro-time" => time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
                    _ => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                };
            }
        }
        (_, Value::Object(fields)) => {
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    set_times(schema, value);
                }
            }
        }
        _ => {}
    }
}

/// Returns the list of strings at this key of the metadata.
pub(super) fn list<'a>(object: &'a Value, key: &str) -> Vec<&'a str> {
    let items = object["metadata"][key].as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// Returns the text at this key of the metadata; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

/// Returns whether an object has finalizers.
pub(super) fn has_finalizers(object: &Value) -> bool {
    !list(object, "finalizers").is_empty()
}

/// Returns whether the object is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Returns what is wrong with the metadata of an object.
pub(super) fn violations(kind: Kind, object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = text(object, "name");
    let field = "metadata.name";
    if name.is_empty() {
        let why = "name or generateName is required";
        found.push(Violation::required(field, why));
    } else {
        for why in name_problems(kind, name) {
            found.push(Violation::invalid(field, &json!(name), &why));
        }
    }
    for (key, value) in object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let field = "metadata.labels";
        for why in qualified_problems(key) {
            found.push(Violation::invalid(field, &json!(key), &why));
        }
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            let why = "must be no more than 63 bytes";
            found.push(Violation::invalid(field, &json!(value), why));
        }
        if !value.is_empty() && !is_name_part(value) {
            found.push(Violation::invalid(field, &json!(value), VALUE));
        }
    }
    found.extend(annotation_violations(object));
    for (at, finalizer) in list(object, "finalizers").into_iter().enumerate() {
        let is_known = finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer);
        let problems = qualified_problems(finalizer);
        let is_checked = matches!(kind, Kind::Event | Kind::Namespace);
        if problems.is_empty() && !is_known && is_checked {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            let field = format!("metadata.finalizers[{at}]");
            found.push(Violation::invalid(&field, &json!(finalizer), why));
        }
        for why in problems {
            let field = "metadata.finalizers";
            found.push(Violation::invalid(field, &json!(finalizer), &why));
        }
    }
    found
}

fn annotation_violations(object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    let field = "metadata.annotations";
    let mut size = 0;
    for (key, value) in object["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
    {
        for why in qualified_problems(&key.to_lowercase()) {
            found.push(Violation::invalid(field, &json!(key), &why));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_LIMIT {
        let why = format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
        found.push(Violation::new(field, ViolationKind::TooLong, why));
    }
    found
}

/// Returns what is wrong with the metadata of an update.
pub(super) fn update_violations(new: &Value, old: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    if is_deleting(old) {
        let before = list(old, "finalizers");
        let added: Vec<String> = list(new, "finalizers")
            .into_iter()
            .filter(|finalizer| !before.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            let field = "metadata.finalizers";
            found.push(Violation::new(field, ViolationKind::Forbidden, why));
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (before, after) = (&old["metadata"][key], &new["metadata"][key]);
        if before != after {
            let why = "field is immutable";
            found.push(Violation::invalid(&format!("metadata.{key}"), after, why));
        }
    }
    found
}

fn name_problems(kind: Kind, name: &str) -> Vec<String> {
    let (limit, is_valid, why) = match kind {
        Kind::Namespace => (63, is_label(name), LABEL),
        Kind::Account | Kind::Event | Kind::Grant | Kind::Lease => {
            (253, name.split('.').all(is_label), SUBDOMAIN)
        }
    };
    let mut problems = Vec::new();
    if name.len() > limit {
        problems.push(format!("must be no more than {limit} bytes"));
    }
    if !is_valid {
        problems.push(why.to_owned());
    }
    problems
}

fn is_label(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_name_part(text: &str) -> bool {
    let is_outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    is_outer(text.chars().next()) && is_outer(text.chars().last()) && text.chars().all(is_inner)
}

/// Returns what is wrong with the name of a label, an annotation or a finalizer.
pub(super) fn qualified_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            return vec![format!(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            problems.push("prefix part must be non-empty".to_owned());
        } else if !prefix.split('.').all(is_label) || prefix.len() > 253 {
            problems.push(format!("prefix part {SUBDOMAIN}"));
        }
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name_part(name) {
        problems.push(QUALIFIED.to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(object: &Value) -> Vec<String> {
        let found = violations(Kind::Grant, object).into_iter();
        found.map(|violation| violation.field).collect()
    }

    #[test]
    fn malformed_names_labels_and_finalizers_are_refused() {
        assert_eq!(fields(&json!({"metadata": {"name": "a.b-c"}})), [""; 0]);
        assert_eq!(
            fields(&json!({"metadata": {"name": "A"}})),
            ["metadata.name"]
        );
        assert_eq!(fields(&json!({"metadata": {}})), ["metadata.name"]);
        let labels = json!({"metadata": {"name": "a", "labels": {"a/b/c": "x", "ok": "-"}}});
        assert_eq!(fields(&labels), ["metadata.labels", "metadata.labels"]);
        let finalizers = json!({"metadata": {"name": "a", "finalizers": ["ok/name", "/x"]}});
        assert_eq!(fields(&finalizers), ["metadata.finalizers"]);
    }

    #[test]
    fn deleted_object_gets_no_new_finalizer() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "t", "finalizers": ["x"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!([]);
        assert_eq!(update_violations(&new, &old), []);
        new["metadata"]["finalizers"] = json!(["x", "y"]);
        assert_eq!(
            update_violations(&new, &old)[0].field,
            "metadata.finalizers"
        );
    }
}
