//! A document as AWS stores it: each role or user that it names by its unique ID, each account by
//! its root's ARN. It shows the ARN while the role exists, and the ID afterwards.

use super::grammar::{Kind, Malformed, check};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::sync::Arc;

/// A stored document.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The text that was sent.
    pub sent: Arc<str>,
    /// The document, with roles and users by their unique IDs; `None` for a planted text that is
    /// no document.
    pub document: Option<Arc<Value>>,
    /// The printed document, if it names no role or user.
    plain: Option<Arc<str>>,
}

/// A principal that does not exist, or cannot be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPrincipal(pub String);

/// The reason that a document was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// AWS refuses the document.
    Malformed(Malformed),
    /// A principal does not exist.
    Unknown(UnknownPrincipal),
}

/// How a document is printed.
pub struct Print<'a> {
    /// Returns the ARN of a unique ID; `None` if its role or user is deleted.
    pub arn_of: &'a dyn Fn(&str) -> Option<String>,
    /// If given, lists get another order, and a list of one becomes its element or the reverse.
    pub reworded: Option<&'a mut fastrand::Rng>,
}

impl Policy {
    /// Checks a document and stores its principals.
    ///
    /// # Errors
    /// When AWS refuses it.
    pub(in super::super) fn write(
        kind: Kind,
        text: &str,
        stored_as: &dyn Fn(&str) -> Result<String, UnknownPrincipal>,
    ) -> Result<Self, Written> {
        let mut document = check(kind, text).map_err(Written::Malformed)?;
        let mut names_ids = false;
        let mut changed = false;
        map_principals(&mut document, &mut |principal| {
            let stored = stored_as(principal)?;
            names_ids |= is_unique_id(&stored);
            changed |= stored != principal;
            Ok(stored)
        })
        .map_err(Written::Unknown)?;
        let plain = match kind {
            _ if names_ids => None,
            Kind::Repository | Kind::Registry => Some(pretty(&unwrapped(document.clone())).into()),
            Kind::Identity | Kind::Trust if changed => Some(document.to_string().into()),
            Kind::Identity | Kind::Trust => Some(text.into()),
        };
        Ok(Self {
            sent: text.into(),
            document: Some(Arc::new(document)),
            plain,
        })
    }

    /// Stores a text as it is, even if it is no document.
    pub(in super::super) fn planted(text: &str) -> Self {
        Self {
            sent: text.into(),
            document: serde_json::from_str(text).ok().map(Arc::new),
            plain: Some(text.into()),
        }
    }

    /// Returns the unique IDs and ARNs of the AWS principals in the stored document.
    pub fn principals(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(document) = &self.document {
            let mut copy = Value::clone(document);
            let _ = map_principals(&mut copy, &mut |principal| {
                found.push(principal.to_owned());
                Ok(principal.to_owned())
            });
        }
        found
    }

    /// Returns the document with ARNs instead of the unique IDs of what exists.
    pub fn shown(&self, arn_of: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
        let mut document = Value::clone(self.document.as_ref()?);
        let _ = map_principals(&mut document, &mut |principal| {
            Ok(arn_of(principal).unwrap_or_else(|| principal.to_owned()))
        });
        Some(document)
    }

    /// Prints the document as IAM does.
    pub fn minified(&self, print: Print<'_>) -> String {
        self.printed(print, |document| document, Value::to_string)
    }

    /// Prints the document as ECR does: indented, and a list of one as its only element.
    pub fn pretty(&self, print: Print<'_>) -> String {
        self.printed(print, unwrapped, pretty)
    }

    fn printed(
        &self,
        print: Print<'_>,
        form: impl Fn(Value) -> Value,
        by: impl Fn(&Value) -> String,
    ) -> String {
        if let (Some(plain), None) = (&self.plain, &print.reworded) {
            return plain.to_string();
        }
        match (self.shown(print.arn_of), print.reworded) {
            (Some(mut document), Some(rng)) => {
                reword_document(&mut document, rng);
                by(&document)
            }
            (Some(document), None) => by(&form(document)),
            (None, _) => self.sent.to_string(),
        }
    }
}

/// Returns whether a stored principal is the unique ID of a role or user.
pub fn is_unique_id(principal: &str) -> bool {
    principal.starts_with("AROA") || principal.starts_with("AIDA")
}

fn map_principals(
    document: &mut Value,
    change: &mut dyn FnMut(&str) -> Result<String, UnknownPrincipal>,
) -> Result<(), UnknownPrincipal> {
    let statements = match document.get_mut("Statement") {
        Some(Value::Array(list)) => list.as_mut_slice(),
        Some(one) => std::slice::from_mut(one),
        None => return Ok(()),
    };
    for statement in statements {
        for field in ["Principal", "NotPrincipal"] {
            let names = statement
                .get_mut(field)
                .and_then(|kinds| kinds.get_mut("AWS"));
            let names = match names {
                Some(Value::Array(list)) => list.as_mut_slice(),
                Some(one) => std::slice::from_mut(one),
                None => continue,
            };
            for name in names {
                if let Value::String(text) = name {
                    *text = change(text)?;
                }
            }
        }
    }
    Ok(())
}

/// Replaces each list of one by its element, except for the list of statements.
fn unwrapped(mut document: Value) -> Value {
    if let Some(one @ Value::Object(_)) = document.get_mut("Statement") {
        *one = Value::Array(vec![one.take()]);
    }
    let statements = document.get_mut("Statement").and_then(Value::as_array_mut);
    statements.into_iter().flatten().for_each(unwrap_within);
    document
}

fn unwrap_within(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(unwrap_within),
        Value::Array(list) if list.len() == 1 => *value = list.remove(0),
        _ => {}
    }
}

fn pretty(document: &Value) -> String {
    let mut text = String::with_capacity(1024);
    write_pretty(document, 0, &mut text);
    text
}

fn write_pretty(value: &Value, depth: usize, into: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => into.push_str("{ }"),
        Value::Object(map) => {
            into.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                begin_line(index, depth + 1, into);
                write!(into, "{} : ", Value::String(key.clone())).expect("a string takes any text");
                write_pretty(value, depth + 1, into);
            }
            end_lines(depth, into);
            into.push('}');
        }
        Value::Array(list) => {
            into.push('[');
            for (index, item) in list.iter().enumerate() {
                begin_line(index, depth + 1, into);
                write_pretty(item, depth + 1, into);
            }
            end_lines(depth, into);
            into.push(']');
        }
        plain => write!(into, "{plain}").expect("a string takes any text"),
    }
}

fn begin_line(index: usize, depth: usize, into: &mut String) {
    if index > 0 {
        into.push(',');
    }
    end_lines(depth, into);
}

fn end_lines(depth: usize, into: &mut String) {
    into.push('\n');
    into.extend(std::iter::repeat_n("  ", depth));
}

/// Gives the lists of a document's statements another order, and another form to lists of one. The
/// order of the statements stays.
fn reword_document(document: &mut Value, rng: &mut fastrand::Rng) {
    if let Some(one @ Value::Object(_)) = document.get_mut("Statement") {
        *one = Value::Array(vec![one.take()]);
    }
    let Some(statements) = document.get_mut("Statement").and_then(Value::as_array_mut) else {
        return;
    };
    for value in statements
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut)
    {
        reword(value, rng);
    }
    // `Sid` and `Effect` are texts, never lists.
    for statement in statements {
        for key in ["Sid", "Effect"] {
            if let Some(value) = statement.get_mut(key)
                && let Value::Array(list) = value
                && list.len() == 1
            {
                *value = list.remove(0);
            }
        }
        if let Some(value) = statement.get_mut("Principal")
            && value.as_array().is_some_and(|list| list.len() == 1)
        {
            *value = Value::String("*".into());
        }
    }
}

fn reword(value: &mut Value, rng: &mut fastrand::Rng) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|inner| reword(inner, rng)),
        Value::Array(list) => {
            rng.shuffle(list);
            if list.len() == 1 && rng.bool() {
                *value = list.remove(0);
            }
        }
        Value::String(_) if rng.bool() => *value = Value::Array(vec![value.take()]),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "AROAAAAAAAAAAAAAAAAAA";
    const ROLE: &str = "arn:aws:iam::111111111111:role/app";

    fn stored(text: &str) -> Policy {
        let as_id = |principal: &str| match principal {
            ROLE | ID => Ok(ID.to_owned()),
            "222222222222" => Ok("arn:aws:iam::222222222222:root".into()),
            other => Err(UnknownPrincipal(other.to_owned())),
        };
        Policy::write(Kind::Repository, text, &as_id).expect("a valid document")
    }

    fn with_principal(principal: Value) -> String {
        json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Principal": {"AWS": principal}, "Action": ["ecr:BatchGetImage"],
        }})
        .to_string()
    }

    fn print(policy: &Policy, arn: Option<&str>, rng: Option<&mut fastrand::Rng>) -> Value {
        let arn_of = |id: &str| arn.filter(|_| id == ID).map(String::from);
        let print = Print {
            arn_of: &arn_of,
            reworded: rng,
        };
        serde_json::from_str(&policy.pretty(print)).expect("JSON")
    }

    #[test]
    fn role_is_shown_by_its_arn_until_it_is_deleted() {
        let policy = stored(&with_principal(json!([ROLE, "222222222222"])));
        let principals =
            |arn| print(&policy, arn, None)["Statement"][0]["Principal"]["AWS"].clone();
        let root = "arn:aws:iam::222222222222:root";
        assert_eq!(principals(Some(ROLE)), json!([ROLE, root]));
        assert_eq!(principals(None), json!([ID, root]));
        assert_eq!(policy.principals(), [ID, root]);
    }

    #[test]
    fn ecr_prints_a_list_of_one_as_its_element() {
        let policy = stored(&with_principal(json!(["222222222222"])));
        let arn_of = |_: &str| None;
        let text = policy.pretty(Print {
            arn_of: &arn_of,
            reworded: None,
        });
        let expected = "{\n  \"Statement\" : [\n    {\n      \"Action\" : \"ecr:BatchGetImage\",\n      \"Effect\" : \"Allow\",\n      \"Principal\" : {\n        \"AWS\" : \"arn:aws:iam::222222222222:root\"\n      }\n    }\n  ],\n  \"Version\" : \"2012-10-17\"\n}";
        assert_eq!(text, expected);
    }

    #[test]
    fn rewording_keeps_the_meaning() {
        let policy = stored(&with_principal(json!([ROLE, "222222222222"])));
        let mut forms = std::collections::BTreeSet::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let document = print(&policy, Some(ROLE), Some(&mut rng));
            let statement = &document["Statement"][0];
            assert_eq!(statement["Effect"], "Allow");
            let mut names: Vec<&str> = super::super::as_list(statement["Principal"].get("AWS"))
                .iter()
                .filter_map(Value::as_str)
                .collect();
            names.sort_unstable();
            assert_eq!(names, [ROLE, "arn:aws:iam::222222222222:root"]);
            forms.insert(document.to_string());
        }
        assert!(forms.len() > 2, "{forms:?}");
    }
}
