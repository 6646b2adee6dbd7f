//! JSON in the order in which people write policies and templates: a `Sid` before its actions,
//! parameters before resources.

use crate::policy::Document;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// Keys in their order. Other keys follow in alphabetical order.
const ORDER: [&str; 17] = [
    "AWSTemplateFormatVersion",
    "Type",
    "Description",
    "Parameters",
    "Resources",
    "Outputs",
    "Version",
    "trust",
    "permissions",
    "boundary",
    "operator",
    "Sid",
    "Effect",
    "Principal",
    "Action",
    "Resource",
    "Condition",
];

/// Returns a policy document as a value. (It prints itself as JSON.)
pub fn document(document: &Document) -> Value {
    document.to_string().parse().unwrap_or_default()
}

/// Prints a value for people: indented, with a newline at the end.
pub fn pretty(value: &Value) -> String {
    // Printing strings, lists and maps of strings cannot fail.
    serde_json::to_string_pretty(&Ordered(value)).unwrap_or_default() + "\n"
}

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| {
                    ORDER
                        .iter()
                        .position(|known| known == key)
                        .unwrap_or(ORDER.len())
                });
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Ordered(item))?;
                }
                list.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}
