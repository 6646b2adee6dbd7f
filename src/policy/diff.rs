//! Differences in meaning between two documents, statement by statement, as data.
//!
//! Statements are matched by meaning first, then by Sid. The remaining ones are in only one
//! document. The [`Difference`] of two documents is empty exactly if [`Document::same_meaning`]
//! holds.

use super::canonical::{Canonical, StatementMeaning, canonical_operator};
use super::document::{Document, Statement};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The difference between two documents, the left one and the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Elements outside the statements; the version only if it changes the meaning of a statement.
    pub document: Vec<DiffPart>,
    /// Statements with the same Sid and different meanings, in the left document's order.
    pub changed: Vec<Changed>,
    /// Statements that only the left document has.
    pub only_left: Vec<Alone>,
    /// Statements that only the right document has.
    pub only_right: Vec<Alone>,
    /// Statements that mean the same in both, which are not a difference.
    pub same: Vec<Same>,
}

/// Name of a statement, for people to find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The statement's position in its document, from 1.
    pub position: usize,
    /// The statement's Sid; as JSON if it is not a string.
    pub sid: Option<String>,
}

/// Statements with the same meaning: usually one in each document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Same {
    /// Statements of the left document.
    pub left: Vec<Name>,
    /// Statements of the right document.
    pub right: Vec<Name>,
}

/// A statement whose meaning changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The statement's name in the left document.
    pub left: Name,
    /// The statement's name in the right document.
    pub right: Name,
    /// The parts that changed; never empty.
    pub parts: Vec<DiffPart>,
}

/// A statement that only one document has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// The statement's name.
    pub name: Name,
    /// All parts of the statement: removed if it is in the left document, added if it is in the
    /// right one.
    pub parts: Vec<DiffPart>,
}

/// An element, or a part of one that is compared separately: an operator and key of a condition, or
/// a kind of principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffPart {
    /// Path of the part: `["Condition", "StringLike", "aws:SourceArn"]`.
    pub place: Vec<String>,
    /// Values that only the left document has there.
    pub removed: BTreeSet<Term>,
    /// Values that only the right document has there.
    pub added: BTreeSet<Term>,
}

/// A value of an element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// A string.
    Text(String),
    /// Any value that is neither a string nor a list of strings, as JSON.
    Json(String),
}

impl Difference {
    /// Computes the difference between two documents.
    pub fn between(left: &Document, right: &Document) -> Self {
        let mut difference = Self {
            document: beside_the_statements(left, right),
            ..Self::default()
        };
        let mut lefts = by_meaning(left);
        let mut rights = by_meaning(right);
        lefts.retain(|meaning, of_left| {
            let of_right = rights.remove(meaning);
            if let Some(of_right) = &of_right {
                difference.same.push(Same {
                    left: names(of_left),
                    right: names(of_right),
                });
            }
            of_right.is_none()
        });
        let unmatched = in_order(rights);
        let mut namesakes: BTreeMap<&str, VecDeque<&Named>> = BTreeMap::new();
        for right in &unmatched {
            if let Some(sid) = &right.name.sid {
                namesakes.entry(sid).or_default().push_back(right);
            }
        }
        let mut matched = BTreeSet::new();
        for left in in_order(lefts) {
            match left
                .name
                .sid
                .as_deref()
                .and_then(|sid| namesakes.get_mut(sid)?.pop_front())
            {
                Some(right) => {
                    matched.insert(right.name.position);
                    let parts = parts(Some(&left), Some(right));
                    difference.changed.push(Changed {
                        left: left.name,
                        right: right.name.clone(),
                        parts,
                    });
                }
                None => difference.only_left.push(Alone {
                    parts: parts(Some(&left), None),
                    name: left.name,
                }),
            }
        }
        difference.only_right = unmatched
            .iter()
            .filter(|right| !matched.contains(&right.name.position))
            .map(|right| Alone {
                name: right.name.clone(),
                parts: parts(None, Some(right)),
            })
            .collect();
        difference.same.sort_by(|a, b| a.left.cmp(&b.left));
        difference
    }

    /// Returns whether both documents mean the same.
    pub fn is_empty(&self) -> bool {
        let Self {
            document,
            changed,
            only_left,
            only_right,
            same: _,
        } = self;
        document.is_empty() && changed.is_empty() && only_left.is_empty() && only_right.is_empty()
    }
}

impl Same {
    /// Returns whether the Sids differ, which is not a difference in meaning.
    pub fn is_renamed(&self) -> bool {
        sids(&self.left) != sids(&self.right)
    }
}

fn sids(names: &[Name]) -> BTreeSet<Option<&str>> {
    names.iter().map(|name| name.sid.as_deref()).collect()
}

/// A statement, as written and in canonical form.
struct Named<'a> {
    name: Name,
    statement: &'a Statement,
    canonical: Map<String, Value>,
}

fn by_meaning(document: &Document) -> BTreeMap<StatementMeaning, Vec<Named<'_>>> {
    let mut found: BTreeMap<StatementMeaning, Vec<Named>> = BTreeMap::new();
    for (at, statement) in document.statements.iter().enumerate() {
        let sid = statement
            .0
            .get("Sid")
            .map(|sid| sid.as_str().map_or_else(|| sid.to_string(), String::from));
        let name = Name {
            position: at + 1,
            sid,
        };
        let Canonical {
            meaning,
            keys: canonical,
            ..
        } = Canonical::of(statement);
        found.entry(meaning).or_default().push(Named {
            name,
            statement,
            canonical,
        });
    }
    found
}

fn in_order(statements: BTreeMap<StatementMeaning, Vec<Named<'_>>>) -> Vec<Named<'_>> {
    let mut all: Vec<Named> = statements.into_values().flatten().collect();
    all.sort_by_key(|named| named.name.position);
    all
}

fn names(statements: &[Named]) -> Vec<Name> {
    statements.iter().map(|named| named.name.clone()).collect()
}

fn beside_the_statements(left: &Document, right: &Document) -> Vec<DiffPart> {
    let mut of_left = left.canonical_fields();
    let mut of_right = right.canonical_fields();
    of_left.remove("Id");
    of_right.remove("Id");
    // In canonical form, the version also depends on whether there are variables. If only that
    // differs, the difference already shows in the statements.
    if of_left.get("Version") == of_right.get("Version") || left.version() == right.version() {
        of_left.remove("Version");
        of_right.remove("Version");
    } else {
        of_left.insert("Version".into(), left.version());
        of_right.insert("Version".into(), right.version());
    }
    compared(&terms_by_place(&of_left), &terms_by_place(&of_right))
}

/// Order in which people read a statement. Other elements follow.
const ORDER: [&str; 8] = [
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// Returns the parts that differ between two statements, or all parts if only one is given.
fn parts(left: Option<&Named>, right: Option<&Named>) -> Vec<DiffPart> {
    let of_left = left.map(|named| terms_by_place(&named.canonical));
    let of_right = right.map(|named| terms_by_place(&named.canonical));
    let mut parts = compared(&of_left.unwrap_or_default(), &of_right.unwrap_or_default());
    parts.sort_by_key(|part| {
        ORDER
            .iter()
            .position(|element| part.place.first().is_some_and(|first| first == element))
            .unwrap_or(ORDER.len())
    });
    let spelling = Spelling::of(
        [right, left]
            .into_iter()
            .flatten()
            .map(|named| named.statement),
    );
    parts.iter_mut().for_each(|part| spelling.restore(part));
    parts
}

type Places = BTreeMap<Vec<String>, BTreeSet<Term>>;

fn compared(left: &Places, right: &Places) -> Vec<DiffPart> {
    let none = BTreeSet::new();
    let places: BTreeSet<&Vec<String>> = left.keys().chain(right.keys()).collect();
    let mut parts = Vec::new();
    for place in places {
        let of_left = left.get(place).unwrap_or(&none);
        let of_right = right.get(place).unwrap_or(&none);
        if of_left != of_right {
            parts.push(DiffPart {
                place: place.clone(),
                removed: of_left - of_right,
                added: of_right - of_left,
            });
        }
    }
    parts
}

/// Returns every place of a canonical object with its values. The object could be rebuilt from the
/// result, so no difference is lost.
fn terms_by_place(keys: &Map<String, Value>) -> Places {
    let mut places = Places::new();
    for (key, value) in keys {
        let levels = match key.as_str() {
            "Principal" | "NotPrincipal" => 1,
            "Condition" => 2,
            _ => 0,
        };
        insert(&mut places, vec![key.clone()], value, levels);
    }
    places
}

fn insert(places: &mut Places, place: Vec<String>, value: &Value, levels: usize) {
    match value.as_object() {
        Some(entries) if levels > 0 && !entries.is_empty() => {
            for (key, value) in entries {
                let further = place.iter().chain([key]).cloned().collect();
                insert(places, further, value, levels - 1);
            }
        }
        _ => drop(places.insert(place, terms(value))),
    }
}

fn terms(value: &Value) -> BTreeSet<Term> {
    if let Value::String(text) = value {
        return BTreeSet::from([Term::Text(text.clone())]);
    }
    let texts: Option<Vec<&str>> = value
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect());
    match texts {
        // Only a list in canonical form is compared as a set. In an unknown element, the order may
        // matter.
        Some(texts) if texts.len() > 1 && texts.is_sorted_by(|a, b| a < b) => texts
            .into_iter()
            .map(|text| Term::Text(text.to_owned()))
            .collect(),
        _ => BTreeSet::from([Term::Json(value.to_string())]),
    }
}

/// Original spelling of the words that the canonical form lower-cases, so that people recognise
/// them.
struct Spelling(BTreeMap<String, String>);

impl Spelling {
    fn of<'a>(statements: impl Iterator<Item = &'a Statement>) -> Self {
        let mut words: Vec<&String> = Vec::new();
        for statement in statements {
            for (key, value) in &statement.0 {
                match (key.as_str(), value) {
                    ("Condition", Value::Object(operators)) => {
                        words.extend(operators.keys());
                        words.extend(
                            operators
                                .values()
                                .filter_map(Value::as_object)
                                .flat_map(Map::keys),
                        );
                    }
                    ("Action" | "NotAction", Value::String(action)) => words.push(action),
                    ("Action" | "NotAction", Value::Array(actions)) => {
                        words.extend(actions.iter().filter_map(|action| match action {
                            Value::String(action) => Some(action),
                            _ => None,
                        }));
                    }
                    _ => {}
                }
            }
        }
        let mut spelling = BTreeMap::new();
        for word in words {
            spelling
                .entry(word.to_ascii_lowercase())
                .or_insert_with(|| word.clone());
            spelling
                .entry(canonical_operator(word))
                .or_insert_with(|| word.clone());
        }
        Self(spelling)
    }

    fn restore(&self, part: &mut DiffPart) {
        match part.place.first().map(String::as_str) {
            Some("Condition") => part
                .place
                .iter_mut()
                .skip(1)
                .for_each(|name| *name = self.word(name)),
            Some("Action" | "NotAction") => {
                part.removed = self.terms(&part.removed);
                part.added = self.terms(&part.added);
            }
            _ => {}
        }
    }

    fn terms(&self, canonical: &BTreeSet<Term>) -> BTreeSet<Term> {
        canonical
            .iter()
            .map(|term| match term {
                Term::Text(text) => Term::Text(self.word(text)),
                Term::Json(json) => Term::Json(json.clone()),
            })
            .collect()
    }

    fn word(&self, canonical: &String) -> String {
        self.0.get(canonical).unwrap_or(canonical).clone()
    }
}
