//! CEL rules of the custom resources, evaluated by kube's evaluator. Differences from the API
//! server that are known:
//! - Costs are not counted.
//! - Items of lists are compared with the old item at the same position, not with the same key.

use super::super::status::{Violation, ViolationKind};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Map, Value, json};

/// Compiled rules of one kind.
pub(in super::super) struct Rules {
    compiled: CompiledSchema,
    validator: Validator,
}

impl Rules {
    /// Compiles the rules of a schema, which are rules on the spec and on the name of an object.
    ///
    /// # Panics
    /// When a rule cannot be compiled.
    pub(in super::super) fn of(schema: &Value) -> Self {
        let mut schema = schema.clone();
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.remove("status");
        }
        let compiled = compile_schema(&schema);
        let errors = compiled.compilation_errors();
        assert!(errors.is_empty(), "rules cannot be compiled: {errors:?}");
        Self {
            compiled,
            validator: Validator::new(),
        }
    }

    /// Returns the rules that an object violates. With `old`, the object is an update of it, and
    /// rules on unchanged parts are not evaluated.
    pub(in super::super) fn violations(&self, new: &Value, old: Option<&Value>) -> Vec<Violation> {
        let new = ruled(new);
        let old = old.map(ruled);
        if old.as_ref() == Some(&new) {
            return Vec::new();
        }
        let result = self
            .validator
            .validate_compiled(&self.compiled, &new, old.as_ref());
        let errors = result.err().map(|errors| errors.into_vec());
        let violations = errors.into_iter().flatten().filter_map(|error| {
            let path = pointer(&error.field_path);
            let value = new.pointer(&path)?;
            if old.as_ref().and_then(|old| old.pointer(&path)) == Some(value) {
                return None;
            }
            let shown = match value {
                Value::Object(_) => json!("object"),
                Value::Array(_) => json!("array"),
                scalar => scalar.clone(),
            };
            let message = format!("Invalid value: {shown}: {}", error.message);
            let field = if error.field_path.is_empty() {
                "<nil>"
            } else {
                error.field_path.as_str()
            };
            Some(Violation::new(field, ViolationKind::Invalid, message))
        });
        violations.collect()
    }
}

/// Returns the parts of an object that rules can refer to. A field that is null counts as missing.
fn ruled(object: &Value) -> Value {
    let metadata: Map<String, Value> = ["name", "generateName"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), object["metadata"].get(key)?.clone())))
        .collect();
    let mut ruled = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": metadata,
    });
    if let Some(spec) = object.get("spec") {
        ruled["spec"] = without_nulls(spec);
    }
    ruled
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}

/// Returns the JSON pointer of a field: `/spec/names/0` for `spec.names[0]`.
fn pointer(field: &str) -> String {
    let parts = field.split(['.', '[']).filter(|part| !part.is_empty());
    parts
        .map(|part| format!("/{}", part.trim_end_matches(']')))
        .collect()
}
