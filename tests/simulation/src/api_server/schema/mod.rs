//! Schemas of resources, in the form of a CustomResourceDefinition's structural schema.
//!
//! - [`complete`]: drops unknown fields, and sets defaults.
//! - [`validate`]: checks types, bounds, enumerations and lists.
//! - [`rules`]: evaluates the CEL rules.

pub(super) mod complete;
pub(super) mod rules;
pub(super) mod validate;

use serde_json::Value;
use std::collections::BTreeMap;

/// Schema of one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    pub(super) kind: ValueType,
    pub(super) is_nullable: bool,
    pub(super) default: Option<Value>,
    pub(super) allowed: Vec<Value>,
    pub(super) format: Option<String>,
    pub(super) bounds: Bounds,
    pub(super) required: Vec<String>,
    pub(super) properties: BTreeMap<String, Schema>,
    /// The schema of the values of a map.
    pub(super) additional: Option<Box<Schema>>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) list: ListType,
    pub(super) is_atomic_map: bool,
    pub(super) keeps_unknown: bool,
}

/// Type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ValueType {
    #[default]
    Any,
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

/// How the items of a list are identified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Each item is its own identity.
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

/// Limits of a string's length, a number, or the number of items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) least: Option<f64>,
    pub(super) most: Option<f64>,
}

impl Schema {
    /// Reads a schema in the notation of a CustomResourceDefinition.
    pub(super) fn of(json: &Value) -> Self {
        let strings = |key: &str| -> Vec<String> {
            let list = json[key].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(String::from).collect()
        };
        let kind = ValueType::of(json["type"].as_str());
        let (least, most) = match kind {
            ValueType::Array => ("minItems", "maxItems"),
            ValueType::String => ("minLength", "maxLength"),
            _ => ("minimum", "maximum"),
        };
        let nested = |key: &str| {
            let schema = json.get(key).filter(|schema| schema.is_object())?;
            Some(Box::new(Self::of(schema)))
        };
        let properties = json["properties"].as_object().into_iter().flatten();
        Self {
            kind,
            is_nullable: json["nullable"] == true,
            default: json.get("default").cloned(),
            allowed: json["enum"].as_array().cloned().unwrap_or_default(),
            format: json["format"].as_str().map(String::from),
            bounds: Bounds {
                least: json[least].as_f64(),
                most: json[most].as_f64(),
            },
            required: strings("required"),
            properties: properties
                .map(|(name, schema)| (name.clone(), Self::of(schema)))
                .collect(),
            additional: nested("additionalProperties"),
            items: nested("items"),
            list: match json["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(strings("x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            is_atomic_map: json["x-kubernetes-map-type"] == "atomic",
            keeps_unknown: json["x-kubernetes-preserve-unknown-fields"] == true,
        }
    }

    /// Returns the schema of a field. `None`: it has none.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

impl ValueType {
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("array") => Self::Array,
            Some("boolean") => Self::Boolean,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("object") => Self::Object,
            Some("string") => Self::String,
            _ => Self::Any,
        }
    }

    /// Returns the name in a schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Array => "array",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Object => "object",
            Self::String => "string",
        }
    }

    /// Returns whether a value has this type. `null` has none.
    pub(super) fn admits(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Array => value.is_array(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Object => value.is_object(),
            Self::String => value.is_string(),
        }
    }
}
