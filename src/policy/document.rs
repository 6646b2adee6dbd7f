//! A policy document as a list of statements. Keys that this module does not interpret are kept
//! unchanged, because foreign statements must survive being read and written again.

use super::parse;
use super::parse_error::ParseError;
use serde_json::{Map, Value};
use std::fmt;

/// Version of the policy language in documents that we create.
pub const VERSION: &str = "2012-10-17";

/// Maximum length of a text that is parsed, in bytes. AWS has no policy of more than 20,480
/// characters; even percent-encoded and with all its white space, such a policy is far shorter.
pub const MAX_BYTES: usize = 1 << 20;

/// An IAM policy document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Document {
    /// `Version`, `Id`, and any other element outside the statements.
    pub(super) fields: Map<String, Value>,
    /// The statements in document order.
    pub statements: Vec<Statement>,
}

/// A statement of a document, with all its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement(pub(super) Map<String, Value>);

impl Document {
    /// Creates a document of these statements.
    pub fn of(statements: impl IntoIterator<Item = Statement>) -> Self {
        let mut fields = Map::new();
        fields.insert("Version".into(), VERSION.into());
        Self {
            fields,
            statements: statements.into_iter().collect(),
        }
    }

    /// Parses a document, percent-encoded or not: IAM returns documents encoded, every other
    /// service returns them plain. A plain document begins with `{`, so a leading `%` identifies an
    /// encoded one.
    ///
    /// # Errors
    /// When the text is not a policy document, or is one that could not be written again unchanged.
    /// Such a document must not be written. This covers a text of more than [`MAX_BYTES`], one that
    /// is not JSON or is nested too deeply, a duplicate key in an object, a number with more digits
    /// than a float holds, and any shape other than an object whose `Statement` is an object or a
    /// list of objects.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            let problem = format!(
                "the document has {} bytes, more than the limit of {}",
                text.len(),
                MAX_BYTES
            );
            return Err(ParseError::whole(problem));
        }
        let mut fields = if text.trim_start().starts_with('%') {
            parse::read(&parse::percent_decoded(text)?)?
        } else {
            parse::read(text)?
        };
        let list = match fields.remove("Statement") {
            Some(Value::Array(list)) => list,
            one => Vec::from_iter(one),
        };
        let statements = list
            .into_iter()
            .map(|statement| match statement {
                Value::Object(keys) => Ok(Statement(keys)),
                _ => Err(ParseError::whole("every statement must be a JSON object")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { statements, fields })
    }

    /// Parses a document from bytes that should be UTF-8.
    ///
    /// # Errors
    /// When the bytes are not UTF-8, or as described for [`Document::parse`].
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => Err(ParseError::at(
                bytes,
                error.valid_up_to(),
                "the document is not UTF-8 here",
            )),
        }
    }

    /// Appends statements to the document.
    pub fn with(mut self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.statements.extend(statements);
        self
    }

    /// Returns the number of characters that AWS counts: those of the minified document.
    pub fn characters(&self) -> usize {
        self.to_string().chars().count()
    }
}

/// Prints minified JSON: ECR and trust policies count white space against their limits.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = self.fields.clone();
        let statements = self
            .statements
            .iter()
            .map(|s| Value::Object(s.0.clone()))
            .collect();
        whole.insert("Statement".into(), Value::Array(statements));
        write!(f, "{}", Value::Object(whole))
    }
}

/// Prints minified JSON, as in the document.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Value::Object(self.0.clone()))
    }
}

impl Statement {
    /// Creates an `Allow` of these actions, without principal, resource or condition yet.
    pub fn allow<S: Into<String>>(actions: impl IntoIterator<Item = S>) -> Self {
        Self(Map::new())
            .with("Effect", "Allow".into())
            .with("Action", list(actions))
    }

    /// Creates a `Deny` of these actions, without principal, resource or condition yet.
    pub fn deny<S: Into<String>>(actions: impl IntoIterator<Item = S>) -> Self {
        Self(Map::new())
            .with("Effect", "Deny".into())
            .with("Action", list(actions))
    }

    /// Sets the statement ID.
    pub fn sid(self, sid: impl Into<String>) -> Self {
        self.with("Sid", Value::String(sid.into()))
    }

    /// Sets these AWS principals (ARNs).
    pub fn to_principals<S: Into<String>>(self, arns: impl IntoIterator<Item = S>) -> Self {
        self.with("Principal", serde_json::json!({ "AWS": list(arns) }))
    }

    /// Sets an AWS service as the principal.
    pub fn to_service(self, service: impl Into<String>) -> Self {
        self.with(
            "Principal",
            serde_json::json!({ "Service": service.into() }),
        )
    }

    /// Sets these resources (ARNs).
    pub fn on<S: Into<String>>(self, resources: impl IntoIterator<Item = S>) -> Self {
        self.with("Resource", list(resources))
    }

    /// Adds the condition that `operator` holds for `key` and one of the values. Conditions that
    /// the statement already has stay.
    pub fn only_if<S: Into<String>>(
        mut self,
        operator: &str,
        key: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Self {
        let conditions = self
            .0
            .entry("Condition")
            .or_insert_with(|| serde_json::json!({}));
        conditions[operator][key] = list(values);
        self
    }

    /// Returns the number of characters that AWS counts for the statement.
    pub(super) fn characters(&self) -> usize {
        Value::Object(self.0.clone()).to_string().chars().count()
    }

    /// Returns the AWS principals that the statement names in `Principal` and `NotPrincipal`.
    pub(super) fn aws_principals(&self) -> Vec<&str> {
        let named = ["Principal", "NotPrincipal"]
            .into_iter()
            .filter_map(|key| self.0.get(key)?.get("AWS"));
        let texts = named.flat_map(|names| match names {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect::<Vec<_>>(),
        });
        texts.collect()
    }

    /// Returns the value that `operator` requires of `key`, as written in the document.
    pub fn condition(&self, operator: &str, key: &str) -> Option<&Value> {
        self.0.get("Condition")?.get(operator)?.get(key)
    }

    /// Returns whether the statement is a `Deny`.
    pub fn is_deny(&self) -> bool {
        self.0.get("Effect").and_then(Value::as_str) == Some("Deny")
    }

    /// Returns whether the statement names only AWS principals (accounts, roles, users, or `*`).
    pub fn is_for_aws_principals_alone(&self) -> bool {
        let Some(names) = self.0.get("Principal") else {
            return false;
        };
        let only_aws = names
            .as_object()
            .is_none_or(|kinds| kinds.keys().all(|kind| kind == "AWS"));
        only_aws && !self.0.contains_key("NotPrincipal")
    }

    /// Returns the statement's ID, if it has one.
    pub fn sid_text(&self) -> Option<&str> {
        self.0.get("Sid").and_then(Value::as_str)
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.into(), value);
        self
    }
}

/// Returns one value as a string and several as a list, as people write it.
fn list<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Value {
    let mut texts: Vec<String> = values.into_iter().map(Into::into).collect();
    if texts.len() == 1 {
        return Value::String(texts.remove(0));
    }
    texts.into()
}
