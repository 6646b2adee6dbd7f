//! Completes an object before its validation: drops unknown fields and superfluous nulls, and sets
//! defaults.

use super::Schema;
use serde_json::Value;

/// Drops fields that the schema does not have.
pub(in super::super) fn prune(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_open = schema.keeps_unknown || schema.additional.is_some();
            fields.retain(|name, _| is_open || schema.properties.contains_key(name));
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    prune(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| prune(schema, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Sets defaults of missing fields, and of fields that are null and may not be. Drops nulls that
/// have no default.
pub(in super::super) fn set_defaults(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let field = schema.field(name);
                let must_have_value =
                    field.is_some_and(|field| !field.is_nullable && field.default.is_none());
                !(value.is_null() && must_have_value)
            });
            for (name, field) in &schema.properties {
                let Some(default) = &field.default else {
                    continue;
                };
                let is_missing = fields
                    .get(name)
                    .is_none_or(|value| value.is_null() && !field.is_nullable);
                if is_missing {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    set_defaults(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| set_defaults(schema, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::of(&json!({
            "type": "object",
            "properties": {
                "mode": {"type": "string", "default": "Enforce"},
                "role": {
                    "type": "object", "nullable": true,
                    "properties": {"hours": {"type": "integer", "default": 3}},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "items": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                },
            },
        }))
    }

    #[test]
    fn unknown_fields_are_dropped_at_every_depth() {
        let mut value = json!({
            "mode": "x", "unknown": 1, "role": {"hours": 1, "unknown": 2},
            "free": {"any": {"thing": 1}}, "labels": {"a": "b"}, "items": [{"a": "1", "b": "2"}],
        });
        prune(&schema(), &mut value);
        let expected = json!({
            "mode": "x", "role": {"hours": 1}, "free": {"any": {"thing": 1}},
            "labels": {"a": "b"}, "items": [{"a": "1"}],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn defaults_replace_missing_fields_and_forbidden_nulls() {
        let mut value = json!({"mode": null, "role": {}, "labels": null});
        set_defaults(&schema(), &mut value);
        assert_eq!(value, json!({"mode": "Enforce", "role": {"hours": 3}}));
        let mut value = json!({"role": null});
        set_defaults(&schema(), &mut value);
        assert_eq!(value, json!({"mode": "Enforce", "role": null}));
    }
}
