//! The part of structural validation that our definitions use.

use serde_json::{Map, Value};

/// What is wrong with a value, `field: why` each.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // What stands beside spec and status in an object is the API server's own.
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
    let mut refuse = |wrong: bool, why: &str| {
        if wrong {
            found.push(format!("{field}: {why}"));
        }
    };
    let limit = |name: &str| schema[name].as_f64();
    let outside = |least: &str, most: &str, is: f64| {
        limit(least).is_some_and(|least| is < least) || limit(most).is_some_and(|most| is > most)
    };
    let length = |length: usize| length as f64;
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        // Our definitions have no other, which the tests of every field hold.
        _ => false,
    };
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    refuse(!fits, "wrong type");
    refuse(
        schema["enum"]
            .as_array()
            .is_some_and(|all| !all.contains(value)),
        "not one of the values allowed",
    );
    match value {
        Value::String(text) => refuse(
            outside("minLength", "maxLength", length(text.chars().count())),
            "wrong length",
        ),
        Value::Number(number) => refuse(
            outside("minimum", "maximum", number.as_f64().unwrap_or_default()),
            "out of range",
        ),
        Value::Array(list) => {
            refuse(
                outside("minItems", "maxItems", length(list.len())),
                "wrong number of items",
            );
            let twice = list
                .iter()
                .enumerate()
                .any(|(at, item)| list[..at].contains(item));
            refuse(
                twice && schema["x-kubernetes-list-type"] == "set",
                "twice the same item",
            );
            for (at, item) in list.iter().enumerate() {
                check(&schema["items"], item, &format!("{field}[{at}]"), found);
            }
        }
        Value::Object(fields) => check_fields(schema, fields, field, found),
        Value::Null | Value::Bool(_) => {}
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
