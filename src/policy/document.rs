//! A policy document as its statements. Whatever a document holds beyond what is understood here is kept as it is, for
//! other people's statements must survive being read and written again.

use serde_json::{Map, Value, json};
use std::fmt;

/// The policy language's version in documents that we begin.
pub const VERSION: &str = "2012-10-17";

/// An IAM policy document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `Version`, `Id`, and whatever else stands beside the statements.
    pub(super) fields: Map<String, Value>,
    /// The statements in their order.
    pub statements: Vec<Statement>,
}

/// One statement of a document, with all its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement(pub(super) Map<String, Value>);

/// Why a text is not a policy document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct Unreadable {
    /// Line of the text, from 1; 0 where the whole is meant.
    pub line: usize,
    /// Column in that line, from 1; 0 where the whole is meant.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl Unreadable {
    fn whole(problem: &str) -> Self {
        Self { line: 0, column: 0, problem: problem.into() }
    }
}

impl Document {
    /// A document of these statements.
    pub fn of(statements: impl IntoIterator<Item = Statement>) -> Self {
        let mut fields = Map::new();
        fields.insert("Version".into(), VERSION.into());
        Self { fields, statements: statements.into_iter().collect() }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When the text is not JSON, or not of a policy's shape: an object whose `Statement` is an object or a list of them.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let value: Value = serde_json::from_str(text).map_err(|e| Unreadable {
            line: e.line(),
            column: e.column(),
            problem: format!("not valid JSON ({:?})", e.classify()).to_lowercase(),
        })?;
        let Value::Object(mut fields) = value else {
            return Err(Unreadable::whole("a policy document must be a JSON object"));
        };
        let statements = match fields.remove("Statement") {
            Some(Value::Array(list)) => list,
            Some(one @ Value::Object(_)) => vec![one],
            Some(_) => return Err(Unreadable::whole("Statement must be an object or a list of objects")),
            None => return Err(Unreadable::whole("the document has no Statement")),
        };
        let statements = statements
            .into_iter()
            .map(|statement| match statement {
                Value::Object(keys) => Ok(Statement(keys)),
                _ => Err(Unreadable::whole("every statement must be a JSON object")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { fields, statements })
    }

    /// How many characters AWS will count: the minified document.
    pub fn characters(&self) -> usize {
        self.to_string().chars().count()
    }

    /// Whether `${` means a policy variable here; before 2012-10-17 it is plain text.
    pub(super) fn has_variables(&self) -> bool {
        self.fields.get("Version").and_then(Value::as_str) == Some(VERSION)
            && self.statements.iter().any(|s| Value::Object(s.0.clone()).to_string().contains("${"))
    }
}

/// Minified JSON: ECR and trust policies count white space against their limits.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = self.fields.clone();
        let statements = self.statements.iter().map(|s| Value::Object(s.0.clone())).collect();
        whole.insert("Statement".into(), Value::Array(statements));
        write!(f, "{}", Value::Object(whole))
    }
}

impl Statement {
    /// An `Allow` of these actions, without principal, resource or condition yet.
    pub fn allow<S: Into<String>>(actions: impl IntoIterator<Item = S>) -> Self {
        Self(Map::new()).with("Effect", "Allow".into()).with("Action", list(actions))
    }

    /// A `Deny` of these actions, likewise.
    pub fn deny<S: Into<String>>(actions: impl IntoIterator<Item = S>) -> Self {
        Self(Map::new()).with("Effect", "Deny".into()).with("Action", list(actions))
    }

    /// With a statement ID.
    pub fn sid(self, sid: impl Into<String>) -> Self {
        self.with("Sid", Value::String(sid.into()))
    }

    /// For these AWS principals (ARNs).
    pub fn to_principals<S: Into<String>>(self, arns: impl IntoIterator<Item = S>) -> Self {
        self.with("Principal", json!({ "AWS": list(arns) }))
    }

    /// For an AWS service.
    pub fn to_service(self, service: impl Into<String>) -> Self {
        self.with("Principal", json!({ "Service": service.into() }))
    }

    /// On these resources (ARNs).
    pub fn on<S: Into<String>>(self, resources: impl IntoIterator<Item = S>) -> Self {
        self.with("Resource", list(resources))
    }

    /// Only where `operator` holds for `key` and one of the values. A further condition is added to those there are.
    pub fn only_if<S: Into<String>>(mut self, operator: &str, key: &str, values: impl IntoIterator<Item = S>) -> Self {
        let conditions = self.0.entry("Condition").or_insert_with(|| json!({}));
        conditions[operator][key] = list(values);
        self
    }

    /// How many characters AWS will count for it.
    pub(super) fn characters(&self) -> usize {
        Value::Object(self.0.clone()).to_string().chars().count()
    }

    /// The AWS principals that it names, in `Principal` and `NotPrincipal`.
    pub(super) fn aws_principals(&self) -> Vec<&str> {
        let named = ["Principal", "NotPrincipal"].into_iter().filter_map(|key| self.0.get(key)?.get("AWS"));
        let texts = named.flat_map(|names| match names {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect::<Vec<_>>(),
        });
        texts.collect()
    }

    /// The statement's ID, if it has one.
    pub fn sid_text(&self) -> Option<&str> {
        self.0.get("Sid").and_then(Value::as_str)
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.into(), value);
        self
    }
}

/// One value as a string, several as a list: as people write it.
fn list<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Value {
    let mut values: Vec<String> = values.into_iter().map(Into::into).collect();
    if values.len() == 1 {
        return Value::String(values.remove(0));
    }
    values.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::not_json("{\"Statement\": [", "line 1, column 15")]
    #[case::not_an_object("[]", "must be a JSON object")]
    #[case::no_statement("{}", "no Statement")]
    #[case::statement_is_text(r#"{"Statement":"x"}"#, "object or a list")]
    #[case::a_statement_is_text(r#"{"Statement":["x"]}"#, "every statement")]
    fn an_unreadable_document_says_where_and_why(#[case] text: &str, #[case] expected: &str) {
        let error = Document::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let hostile = format!("{}{}", r#"{"Statement":"#, "[".repeat(100_000));
        assert!(Document::parse(&hostile).is_err());
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let text = r#"{"Id":"x","Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"*"},"Odd":[1,{"a":null}]}],"Version":"2008-10-17"}"#;
        assert_eq!(Document::parse(text).unwrap().to_string(), text);
    }
}
