//! Policy documents, compared by their meaning. The harness has its own comparison, separate from
//! the operator's: a test that used the operator's code to check the operator would prove nothing.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A policy document. Equal to another one when both have the same statements (Sids included) in
/// any order and wording.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub Value);

impl Document {
    /// Parses JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(
            serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?,
        ))
    }

    /// Parses JSON as IAM returns it: percent-encoded.
    pub(crate) fn parse_encoded(text: &str) -> Result<Self> {
        Self::parse(&percent_encoding::percent_decode_str(text).decode_utf8()?)
    }

    /// Returns whether both documents allow and deny the same. Sids do not matter, and the version
    /// does not matter if there is no variable.
    pub fn same_meaning(&self, other: &Self) -> bool {
        self.normal(Sids::Dropped) == other.normal(Sids::Dropped)
    }

    /// Returns the document without role paths (`role/some/path/name`) in the ARNs of roles.
    pub fn without_role_paths(&self) -> Self {
        fn walk(value: &mut Value) {
            match value {
                Value::String(text) => {
                    if let Some((account, name)) = text.split_once(":role/") {
                        let name = name.rsplit('/').next().unwrap_or(name);
                        *text = format!("{account}:role/{name}");
                    }
                }
                Value::Array(values) => values.iter_mut().for_each(walk),
                Value::Object(keys) => keys.values_mut().for_each(walk),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let mut copy = self.clone();
        walk(&mut copy.0);
        copy
    }

    /// Returns the statements, always as a list.
    pub fn statements(&self) -> Vec<Value> {
        match &self.0["Statement"] {
            Value::Array(statements) => statements.clone(),
            Value::Null => vec![],
            one => vec![one.clone()],
        }
    }

    /// Returns the document with this statement, which replaces the one with the same Sid.
    pub fn with_statement(&self, statement: Value) -> Self {
        let mut statements = self
            .without_statement(statement["Sid"].as_str().unwrap_or_default())
            .statements();
        statements.push(statement);
        self.with_statements(statements)
    }

    /// Returns the document without the statement of this Sid.
    pub fn without_statement(&self, sid: &str) -> Self {
        self.with_statements(
            self.statements()
                .into_iter()
                .filter(|statement| statement["Sid"] != sid)
                .collect(),
        )
    }

    /// Returns the document with other statements.
    pub fn with_statements(&self, statements: Vec<Value>) -> Self {
        let mut copy = self.clone();
        copy.0["Statement"] = Value::Array(statements);
        copy
    }

    fn normal(&self, sids: Sids) -> Value {
        let mut statements: Vec<Value> = self
            .statements()
            .iter()
            .map(|statement| normal_statement(statement, sids))
            .collect();
        statements.sort_by_cached_key(Value::to_string);
        statements.dedup();
        let mut document = self.0.as_object().cloned().unwrap_or_default();
        document.remove("Id");
        if !self.0.to_string().contains("${") {
            document.remove("Version");
        }
        document.insert("Statement".into(), statements.into());
        document.into()
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.normal(Sids::Kept) == other.normal(Sids::Kept)
    }
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sids {
    Kept,
    Dropped,
}

fn normal_statement(statement: &Value, sids: Sids) -> Value {
    let mut normal = Map::new();
    for (key, value) in statement.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "Sid" if sids == Sids::Dropped => continue,
            "Action" | "NotAction" => set(value, str::to_lowercase),
            "Resource" | "NotResource" => set(value, str::to_owned),
            "Principal" | "NotPrincipal" => each(
                value,
                |kind| kind.to_owned(),
                |of_kind| set(of_kind, account_root),
            ),
            "Condition" => conditions(value),
            _ => value.clone(),
        };
        if value != Value::Object(Map::new()) {
            normal.insert(key.clone(), value);
        }
    }
    normal.into()
}

fn conditions(value: &Value) -> Value {
    each(value, str::to_lowercase, |keys| {
        each(keys, str::to_lowercase, |values| set(values, str::to_owned))
    })
}

/// Returns an object with its keys and values changed, and any other value as it is.
fn each(value: &Value, key: impl Fn(&str) -> String, change: impl Fn(&Value) -> Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| (key(name), change(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Returns one value or a list of values as a sorted list of texts.
fn set(value: &Value, change: impl Fn(&str) -> String) -> Value {
    let text = |value: &Value| change(value.as_str().unwrap_or(&value.to_string()));
    let mut texts: Vec<String> = match value {
        Value::Array(values) => values.iter().map(text).collect(),
        one => vec![text(one)],
    };
    texts.sort();
    texts.dedup();
    texts.into()
}

fn account_root(principal: &str) -> String {
    match principal.len() == 12 && principal.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("arn:aws:iam::{principal}:root"),
        false => principal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(statement: Value) -> Document {
        Document(json!({"Version": "2012-10-17", "Statement": statement}))
    }

    #[test]
    fn equal_meaning_ignores_wording_and_order() {
        let one = of(
            json!({"Sid": "x", "Effect": "Allow", "Principal": {"AWS": "222222222222"}, "Action": ["a:C", "a:B"], "Condition": {}}),
        );
        let other = of(
            json!([{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::222222222222:root"]}, "Action": ["A:b", "a:c"]}]),
        );
        assert!(one.same_meaning(&other));
        assert_ne!(one, other, "a Sid is part of a document");
    }

    #[test]
    fn condition_or_other_principal_makes_a_difference() {
        let plain = of(json!({"Principal": {"AWS": "x"}, "Action": "a:B"}));
        assert!(!plain.same_meaning(&of(json!({"Principal": {"Service": "x"}, "Action": "a:B"}))));
        let narrowed =
            json!({"Principal": {"AWS": "x"}, "Action": "a:B", "Condition": {"Bool": {"k": true}}});
        assert!(!plain.same_meaning(&of(narrowed)));
    }

    #[test]
    fn role_principal_ignores_its_path() {
        let with =
            of(json!({"Principal": {"AWS": ["arn:aws:iam::111111111111:role/registry-grants/x"]}}));
        assert!(with.without_role_paths().same_meaning(&of(
            json!({"Principal": {"AWS": "arn:aws:iam::111111111111:role/x"}})
        )));
    }
}
