//! Checks every answer of AWS before anything is read from it.
//!
//! - [`table`]: every operation that is called, and every field of its answer that is read.
//! - [`tree`]: an answer's body as one kind of tree, for JSON and XML.
//!
//! **A resource is absent only if the answer says so.** An answer is a transient error, and does
//! not mean that a resource is absent, if it lacks a field that AWS always sends, if it is about
//! another resource than the request, or if it is not an answer of that operation at all (an empty
//! body, or an error with status 200). The operator writes and forgets nothing because of it. The
//! client itself calls [`check`] for every successful answer, so no reader can leave it out.

pub mod table;
pub mod tree;

use self::table::{ANSWERS, Answer, Field, Presence, Protocol};
use self::tree::Tree;

/// The reason that an answer is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// The body is not an answer of this operation.
    NoAnswer(String),
    /// A field that AWS always sends is missing or empty.
    Missing(String),
    /// A field names another resource than the request.
    OfAnother(String),
    /// The operation is not in [`ANSWERS`].
    Unlisted(String),
}

impl std::fmt::Display for Incomplete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAnswer(operation) => {
                write!(f, "the response body is not a response of {operation}")
            }
            Self::Missing(field) => {
                write!(f, "the response lacks {field}, which AWS always sends")
            }
            Self::OfAnother(field) => {
                write!(f, "{field} in the response does not match the request")
            }
            Self::Unlisted(operation) => {
                write!(f, "responses of {operation} cannot be checked")
            }
        }
    }
}

impl std::error::Error for Incomplete {}

/// Checks the body of a successful answer against [`ANSWERS`] and the body of the request.
///
/// # Errors
/// When the answer is incomplete, or belongs to another request.
pub fn check(operation: &str, request: &[u8], answer: &[u8]) -> Result<(), Incomplete> {
    let known = ANSWERS
        .iter()
        .find(|known| known.operation == operation)
        .ok_or_else(|| Incomplete::Unlisted(operation.to_owned()))?;
    let data = data(known, answer).ok_or_else(|| Incomplete::NoAnswer(operation.to_owned()))?;
    known
        .fields
        .iter()
        .try_for_each(|field| check_field(known.protocol, field, request, &data))
}

/// Parses the answer; for XML, without the elements around the result.
fn data(
    Answer {
        operation,
        protocol,
        fields,
    }: &Answer,
    answer: &[u8],
) -> Option<Tree> {
    match protocol {
        Protocol::Json => Tree::of_json(answer).filter(|data| matches!(data, Tree::Fields(_))),
        Protocol::Query => {
            let (root, whole) = Tree::of_xml(answer)?;
            if root.strip_suffix("Response") != Some(*operation) {
                return None;
            }
            if fields.is_empty() {
                Some(whole)
            } else {
                whole.field(&format!("{operation}Result")).cloned()
            }
        }
    }
}

fn check_field(
    protocol: Protocol,
    (path, presence): &Field,
    request: &[u8],
    data: &Tree,
) -> Result<(), Incomplete> {
    let missing = Incomplete::Missing((*path).to_owned());
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let Some(places) = places(data, parent) else {
        return Err(missing);
    };
    for place in places {
        let value = place.field(name);
        match presence {
            Presence::Always if value.is_none_or(is_empty) => return Err(missing),
            Presence::Text | Presence::Truncated if !matches!(value, Some(Tree::Text(_))) => {
                return Err(missing);
            }
            Presence::List if value.and_then(items).is_none() => return Err(missing),
            Presence::Truncated
                if is_text(value, "true") && place.field("Marker").is_none_or(is_empty) =>
            {
                return Err(Incomplete::Missing("Marker".into()));
            }
            Presence::Repeats(parameter) => match (value, asked(protocol, request, parameter)) {
                (None, _) => return Err(missing),
                (Some(Tree::Text(named)), Some(asked)) if is_same(protocol, named, &asked) => {}
                (Some(_), _) => return Err(Incomplete::OfAnother((*path).to_owned())),
            },
            Presence::Always
            | Presence::Text
            | Presence::List
            | Presence::Truncated
            | Presence::MayBeAbsent(_) => {}
        }
    }
    Ok(())
}

/// Returns the trees that may contain the last part of a path. A list that is absent has no items;
/// `None` if the path does not exist.
fn places<'a>(data: &'a Tree, path: &str) -> Option<Vec<&'a Tree>> {
    let mut places = vec![data];
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut inside = Vec::new();
        for place in places {
            match part.strip_suffix("[]") {
                None => inside.push(place.field(part)?),
                Some(list) => match place.field(list) {
                    None => {}
                    Some(list) => inside.extend(items(list)?),
                },
            }
        }
        places = inside;
    }
    Some(places)
}

/// Returns the items of a list. In XML, an empty list is an empty element.
fn items(list: &Tree) -> Option<&[Tree]> {
    match list {
        Tree::List(items) => Some(items),
        Tree::Text(text) if text.is_empty() => Some(&[]),
        Tree::Text(_) | Tree::Fields(_) => None,
    }
}

fn is_empty(value: &Tree) -> bool {
    matches!(value, Tree::Text(text) if text.is_empty())
}

fn is_text(value: Option<&Tree>, expected: &str) -> bool {
    matches!(value, Some(Tree::Text(text)) if text.eq_ignore_ascii_case(expected))
}

fn is_same(protocol: Protocol, named: &str, asked: &str) -> bool {
    match protocol {
        Protocol::Json => named == asked,
        Protocol::Query => named.eq_ignore_ascii_case(asked),
    }
}

/// Reads a parameter of the request.
fn asked(protocol: Protocol, request: &[u8], parameter: &str) -> Option<String> {
    match protocol {
        Protocol::Json => match Tree::of_json(request)?.field(parameter)? {
            Tree::Text(text) => Some(text.clone()),
            Tree::List(_) | Tree::Fields(_) => None,
        },
        Protocol::Query => form_urlencoded::parse(request)
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.into_owned()),
    }
}

#[cfg(test)]
mod tests;
