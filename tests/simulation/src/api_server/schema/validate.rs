//! Structural validation, with the messages of the API server.

use super::super::status::{Violation, ViolationKind};
use super::{ListType, Schema, ValueType};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

/// Returns what is wrong with a value. With `old`, unchanged parts are not validated again.
pub(in super::super) fn violations(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    field: &str,
) -> Vec<Violation> {
    let mut found = Vec::new();
    check(schema, value, old, field, &mut found);
    found
}

fn check(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    field: &str,
    found: &mut Vec<Violation>,
) {
    if old == Some(value) || (value.is_null() && schema.is_nullable) {
        return;
    }
    if !schema.kind.admits(value) {
        let expected = schema.kind.name();
        let given = type_of(value);
        let why = format!(
            "Invalid value: {given:?}: {field} in body must be of type {expected}: {given:?}"
        );
        found.push(Violation::new(field, ViolationKind::WrongType, why));
        check_enumeration(schema, value, field, found);
        return;
    }
    check_enumeration(schema, value, field, found);
    check_bounds(schema, value, field, found);
    check_format(schema, value, field, found);
    match value {
        Value::Array(items) => check_items(schema, items, old, field, found),
        Value::Object(fields) => check_fields(schema, fields, old, field, found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_enumeration(schema: &Schema, value: &Value, field: &str, found: &mut Vec<Violation>) {
    if schema.allowed.is_empty() || schema.allowed.contains(value) {
        return;
    }
    let supported: Vec<String> = schema.allowed.iter().map(ToString::to_string).collect();
    let why = format!(
        "Unsupported value: {value}: supported values: {}",
        supported.join(", ")
    );
    found.push(Violation::new(field, ViolationKind::NotSupported, why));
}

fn check_bounds(schema: &Schema, value: &Value, field: &str, found: &mut Vec<Violation>) {
    let bounds = schema.bounds;
    let (size, too_small, too_large) = match value {
        Value::String(text) => (
            text.chars().count() as f64,
            "should be at least {} chars long",
            "may not be more than {} bytes",
        ),
        Value::Number(number) => (
            number.as_f64().unwrap_or_default(),
            "should be greater than or equal to {}",
            "should be less than or equal to {}",
        ),
        Value::Array(items) => (
            items.len() as f64,
            "should have at least {} items",
            "must have at most {} items",
        ),
        Value::Null | Value::Bool(_) | Value::Object(_) => return,
    };
    if let Some(least) = bounds.least.filter(|least| size < *least) {
        let why = too_small.replace("{}", &least.to_string());
        found.push(Violation::invalid(
            field,
            value,
            &format!("{field} in body {why}"),
        ));
    }
    let Some(most) = bounds.most.filter(|most| size > *most) else {
        return;
    };
    let why = too_large.replace("{}", &most.to_string());
    found.push(match value {
        Value::String(_) => {
            Violation::new(field, ViolationKind::TooLong, format!("Too long: {why}"))
        }
        Value::Array(_) => {
            let why = format!("Too many: {size}: {why}");
            Violation::new(field, ViolationKind::TooMany, why)
        }
        _ => Violation::invalid(field, value, &format!("{field} in body {why}")),
    });
}

fn check_format(schema: &Schema, value: &Value, field: &str, found: &mut Vec<Violation>) {
    let (Some(format), Value::String(text)) = (&schema.format, value) else {
        return;
    };
    if format == "date-time" && text.parse::<Timestamp>().is_err() {
        let why =
            format!("Invalid value: {text:?}: {field} in body must be of type date-time: {text:?}");
        found.push(Violation::new(field, ViolationKind::WrongType, why));
    }
}

fn check_items(
    schema: &Schema,
    items: &[Value],
    old: Option<&Value>,
    field: &str,
    found: &mut Vec<Violation>,
) {
    let old_items = old.and_then(Value::as_array);
    let Some(item_schema) = schema.items.as_deref() else {
        return;
    };
    for (at, item) in items.iter().enumerate() {
        let previous = match &schema.list {
            ListType::Map(keys) => old_items
                .into_iter()
                .flatten()
                .find(|previous| keys.iter().all(|key| previous[key] == item[key])),
            ListType::Set => old_items.into_iter().flatten().find(|old| *old == item),
            ListType::Atomic => None,
        };
        check(
            item_schema,
            item,
            previous,
            &format!("{field}[{at}]"),
            found,
        );
    }
}

fn check_fields(
    schema: &Schema,
    fields: &Map<String, Value>,
    old: Option<&Value>,
    field: &str,
    found: &mut Vec<Violation>,
) {
    let place = |name: &str| match field {
        "" => name.to_owned(),
        _ => format!("{field}.{name}"),
    };
    for name in schema
        .required
        .iter()
        .filter(|name| !fields.contains_key(*name))
    {
        found.push(Violation::required(&place(name), ""));
    }
    for (name, value) in fields {
        if let Some(schema) = schema.field(name) {
            let old = old.and_then(|old| old.get(name));
            check(schema, value, old, &place(name), found);
        }
    }
}

/// Returns duplicates in sets and maps, and items of maps without a key.
pub(in super::super) fn list_violations(
    schema: &Schema,
    value: &Value,
    field: &str,
) -> Vec<Violation> {
    let mut found = Vec::new();
    check_lists(schema, value, field, &mut found);
    found
}

fn check_lists(schema: &Schema, value: &Value, field: &str, found: &mut Vec<Violation>) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let place = format!("{field}[{at}]");
                if let Some(identity) = duplicate(&schema.list, &items[..at], item) {
                    let why = format!("Duplicate value: {identity}");
                    found.push(Violation::new(&place, ViolationKind::Duplicate, why));
                }
                if let Some(schema) = schema.items.as_deref() {
                    check_lists(schema, item, &place, found);
                }
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    let place = match field {
                        "" => name.clone(),
                        _ => format!("{field}.{name}"),
                    };
                    check_lists(schema, value, &place, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the identity of an item if an earlier item has the same one.
fn duplicate(list: &ListType, earlier: &[Value], item: &Value) -> Option<Value> {
    match list {
        ListType::Atomic => None,
        ListType::Set => earlier.contains(item).then(|| item.clone()),
        ListType::Map(keys) => {
            let identity = |item: &Value| -> Value {
                let fields = keys.iter().map(|key| (key.clone(), item[key].clone()));
                fields.collect::<Map<_, _>>().into()
            };
            let own = identity(item);
            earlier
                .iter()
                .any(|item| identity(item) == own)
                .then_some(own)
        }
    }
}

/// Returns whether these violations keep the API server from evaluating CEL rules.
pub(in super::super) fn block_rules(violations: &[Violation]) -> bool {
    violations.iter().any(|violation| {
        matches!(
            violation.reason,
            ViolationKind::NotSupported
                | ViolationKind::Required
                | ViolationKind::TooLong
                | ViolationKind::TooMany
                | ViolationKind::WrongType
        )
    })
}

/// Returns the first field whose type Go's decoder would refuse, with the expected type.
pub(in super::super) fn undecodable(
    schema: &Schema,
    value: &Value,
    field: &str,
) -> Option<(String, ValueType)> {
    if value.is_null() {
        return None;
    }
    if !schema.kind.admits(value) {
        return Some((field.to_owned(), schema.kind));
    }
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let place = match field {
                "" => name.clone(),
                _ => format!("{field}.{name}"),
            };
            undecodable(schema.field(name)?, value, &place)
        }),
        Value::Array(items) => {
            let schema = schema.items.as_deref()?;
            items
                .iter()
                .find_map(|item| undecodable(schema, item, field))
        }
        Value::String(text) => {
            let is_wrong = match schema.format.as_deref() {
                Some("date-time") => text.parse::<Timestamp>().is_err(),
                Some("micro-time") => !has_microseconds(text) || text.parse::<Timestamp>().is_err(),
                _ => false,
            };
            is_wrong.then(|| (field.to_owned(), schema.kind))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Returns whether a time has exactly six digits after the point, as Go requires it.
fn has_microseconds(text: &str) -> bool {
    let Some((_, fraction)) = text.split_once('.') else {
        return false;
    };
    fraction.find(|c: char| !c.is_ascii_digit()) == Some(6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::of(&json!({
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 2, "maxLength": 3},
                "mode": {"type": "string", "enum": ["A", "B"]},
                "count": {"type": "integer", "minimum": 1},
                "names": {
                    "type": "array", "x-kubernetes-list-type": "set", "maxItems": 2,
                    "items": {"type": "string"},
                },
            },
        }))
    }

    fn messages(value: &Value) -> Vec<String> {
        violations(&schema(), value, None, "spec")
            .into_iter()
            .chain(list_violations(&schema(), value, "spec"))
            .map(|violation| format!("{}: {}", violation.field, violation.message))
            .collect()
    }

    #[test]
    fn violations_have_the_words_of_the_api_server() {
        let value = json!({"name": "abcd", "mode": "C", "count": 0, "names": ["a", "b", "a"]});
        let expected = [
            "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1",
            "spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\"",
            "spec.name: Too long: may not be more than 3 bytes",
            "spec.names: Too many: 3: must have at most 2 items",
            "spec.names[2]: Duplicate value: \"a\"",
        ];
        assert_eq!(messages(&value), expected);
        assert_eq!(messages(&json!({})), ["spec.name: Required value"]);
        let wrong = [
            "spec.name: Invalid value: \"integer\": spec.name in body must be of type string: \"integer\"",
        ];
        assert_eq!(messages(&json!({"name": 7})), wrong);
    }

    #[test]
    fn unchanged_parts_are_not_validated_again() {
        let old = json!({"name": "abcd", "mode": "A"});
        let new = json!({"name": "abcd", "mode": "B"});
        assert_eq!(violations(&schema(), &new, Some(&old), "spec"), []);
    }
}
