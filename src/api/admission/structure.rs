//! The part of structural validation that our definitions use.

use serde_json::{Map, Value};

/// Returns what is wrong with a value, `field: why` each.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // The API server itself validates the fields other than spec and status.
    for part in ["spec", "status"] {
        match value.get(part) {
            Some(value) => check(&schema["properties"][part], value, part, &mut found),
            None if required(schema).any(|name| name == part) => {
                found.push(format!("{part}: required"))
            }
            None => {}
        }
    }
    found
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn check(schema: &Value, value: &Value, field: &str, found: &mut Vec<String>) {
    let has_type = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        // Our definitions have no other type; the tests of every field ensure this.
        _ => false,
    };
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if !has_type {
        found.push(format!("{field}: wrong type"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        found.push(format!("{field}: not one of the values allowed"));
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as f64;
            if is_outside(length, &schema["minLength"], &schema["maxLength"]) {
                found.push(format!("{field}: wrong length"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if is_outside(number, &schema["minimum"], &schema["maximum"]) {
                found.push(format!("{field}: out of range"));
            }
        }
        Value::Array(list) => check_items(schema, list, field, found),
        Value::Object(fields) => check_fields(schema, fields, field, found),
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_outside(number: f64, least: &Value, most: &Value) -> bool {
    least.as_f64().is_some_and(|least| number < least)
        || most.as_f64().is_some_and(|most| number > most)
}

fn check_items(schema: &Value, list: &[Value], field: &str, found: &mut Vec<String>) {
    if is_outside(list.len() as f64, &schema["minItems"], &schema["maxItems"]) {
        found.push(format!("{field}: wrong number of items"));
    }
    let has_duplicate = list
        .iter()
        .enumerate()
        .any(|(at, item)| list[..at].contains(item));
    if has_duplicate && schema["x-kubernetes-list-type"] == "set" {
        found.push(format!("{field}: twice the same item"));
    }
    for (at, item) in list.iter().enumerate() {
        check(&schema["items"], item, &format!("{field}[{at}]"), found);
    }
}

fn check_fields(schema: &Value, fields: &Map<String, Value>, field: &str, found: &mut Vec<String>) {
    for name in required(schema).filter(|name| !fields.contains_key(*name)) {
        found.push(format!("{field}.{name}: required"));
    }
    for (name, value) in fields {
        let field = format!("{field}.{name}");
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema)) => check(schema, value, &field, found),
            (None, None) => found.push(format!("{field}: unknown field")),
        }
    }
}
