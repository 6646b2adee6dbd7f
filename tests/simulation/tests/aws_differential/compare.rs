//! Compares two answers by their meaning: without times and texts for people, with unique IDs by
//! the order of their creation, documents as data, and lists in any order.

use super::calls::{Answer, Call};
use super::known::KNOWN;
use serde_json::Value;

/// The result of comparing two answers.
pub struct Comparison {
    /// The names of the listed differences that occur.
    pub known: Vec<&'static str>,
    /// A difference that is not listed.
    pub difference: Option<String>,
    /// Whether the two sides are in different states from now on.
    pub ends: bool,
}

impl Comparison {
    pub fn of(call: &Call, ours: &Answer, theirs: &Answer) -> Self {
        let mut contents = (meaning(ours), meaning(theirs));
        let mut known = Vec::new();
        let mut explained = false;
        for difference in KNOWN {
            if contents.0 == contents.1 && ours.status == theirs.status {
                break;
            }
            if (difference.erase)(call, &mut contents.0, &mut contents.1) {
                known.push(difference.name);
                explained |= difference.of_outcome;
            }
        }
        let is_same = explained || (contents.0 == contents.1 && ours.status == theirs.status);
        let difference = (!is_same).then(|| {
            format!(
                "ours   {} {}\ntheirs {} {}",
                ours.status,
                shown(ours, &contents.0),
                theirs.status,
                shown(theirs, &contents.1)
            )
        });
        Self {
            known,
            ends: difference.is_some() || (ours.status == 200) != (theirs.status == 200),
            difference,
        }
    }
}

fn shown(answer: &Answer, content: &Value) -> String {
    let text = if answer.status == 200 {
        content.to_string()
    } else {
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    text.chars().take(2000).collect()
}

fn meaning(answer: &Answer) -> Value {
    let mut content = answer.content();
    if let Some(code) = answer.code() {
        return Value::String(code);
    }
    if let Some(fields) = content.as_object_mut() {
        fields.remove("ResponseMetadata");
    }
    normalize("", &mut content, &answer.ids);
    content
}

fn normalize(name: &str, value: &mut Value, ids: &[String]) {
    match value {
        Value::String(text) => {
            if name.ends_with("Date") || name == "createdAt" {
                *text = "a time".into();
            }
            if name == "PolicyId" && !ids.contains(text) {
                *text = "of AWS's own policy".into();
            }
            for (number, id) in ids.iter().enumerate() {
                if text.contains(id.as_str()) {
                    *text = text.replace(id.as_str(), &format!("ID-{number}"));
                }
            }
            let is_document = name.ends_with("Document") || name == "policyText";
            if let Some(document) = is_document.then(|| document(text)).flatten() {
                *value = document;
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| normalize("", item, ids));
            items.sort_by_key(Value::to_string);
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                normalize(name, field, ids);
            }
        }
        _ => {}
    }
}

/// Parses a document, encoded or not, with every single value as a list.
fn document(text: &str) -> Option<Value> {
    let decoded = percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()?;
    let mut document: Value = serde_json::from_str(&decoded).ok()?;
    as_lists(&mut document);
    Some(document)
}

fn as_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in fields.values_mut() {
                as_lists(field);
                if !field.is_array() {
                    *field = Value::Array(vec![field.take()]);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(as_lists);
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}
