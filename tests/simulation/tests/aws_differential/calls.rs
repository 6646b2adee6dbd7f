//! A call that both sides get, and the answer of one side.

use registry_grants::aws::answer::tree::Tree;
use serde_json::{Map, Value, json};
use std::fmt;

/// A call. In its texts, `{0}` stands for the number of the first account, and `{id:N}` for the
/// unique ID of the N-th role that was created.
#[derive(Clone, Debug)]
pub struct Call {
    /// The account whose root calls: 0 or 1.
    pub account: usize,
    pub region: &'static str,
    /// `iam` or `ecr`.
    pub service: &'static str,
    pub operation: &'static str,
    pub parameters: Vec<(&'static str, Value)>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} by {}", self.service, self.operation, self.account)?;
        for (name, value) in &self.parameters {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

impl Call {
    pub fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(given, _)| *given == name)
    }

    /// Returns the body of the request, with its texts filled in.
    pub fn body(&self, fill: &dyn Fn(&str) -> String) -> String {
        if self.service == "ecr" {
            let fields: Map<String, Value> = self
                .parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), filled(value, fill)))
                .collect();
            return Value::Object(fields).to_string();
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", self.operation)
            .append_pair("Version", "2010-05-08");
        for (name, value) in &self.parameters {
            append(&mut form, name, &filled(value, fill));
        }
        form.finish()
    }
}

fn filled(value: &Value, fill: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => fill(text).into(),
        Value::Array(list) => list.iter().map(|item| filled(item, fill)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| (fill(key), filled(item, fill)))
            .collect(),
        other => other.clone(),
    }
}

/// Appends a parameter: a list as `Name.member.1`, an object as the list of its keys and values.
fn append(form: &mut form_urlencoded::Serializer<'_, String>, name: &str, value: &Value) {
    match value {
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                append(form, &format!("{name}.member.{}", index + 1), item);
            }
        }
        Value::Object(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                let item = format!("{name}.member.{}", index + 1);
                append(form, &format!("{item}.Key"), &json!(key));
                append(form, &format!("{item}.Value"), value);
            }
        }
        Value::String(text) => drop(form.append_pair(name, text)),
        other => drop(form.append_pair(name, &other.to_string())),
    }
}

/// The answer of one side.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The number of each unique ID that was created, in the order of creation.
    pub ids: Vec<String>,
}

impl Answer {
    /// Returns the answer's content: the fields of a result, or the code of an error.
    pub fn content(&self) -> Value {
        let tree = match Tree::of_xml(&self.body) {
            Some((_, tree)) => tree,
            None => match Tree::of_json(&self.body) {
                Some(tree) => tree,
                None => return json!({"unreadable": String::from_utf8_lossy(&self.body)}),
            },
        };
        value(&tree)
    }

    /// Returns the code of an error.
    pub fn code(&self) -> Option<String> {
        let content = self.content();
        let code = content
            .pointer("/Error/Code")
            .or_else(|| content.get("__type"))?;
        Some(code.as_str()?.to_owned())
    }

    pub fn outcome(&self) -> String {
        self.code().unwrap_or_else(|| self.status.to_string())
    }
}

fn value(tree: &Tree) -> Value {
    match tree {
        Tree::Text(text) => json!(text),
        Tree::List(items) => items.iter().map(value).collect(),
        Tree::Fields(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), value(field)))
            .collect(),
    }
}
