//! A document's meaning, for comparing a document that AWS returns with the one that was sent. AWS
//! reorders lists, and turns single strings into lists and bare account numbers into root ARNs. The
//! text of documents is never compared.
//!
//! A document's meaning is its canonical form without the Sids. If it is not certain that two forms
//! mean the same, they count as different: that costs a write, but no access. So an element that
//! does not have the form IAM documents stays unchanged, letter by letter, and equals only itself.
//!
//! Certain equivalences, and where they are documented (below
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/>):
//!
//! | two forms of the same | source |
//! |---|---|
//! | a string, and a list of only that string; order and repetition in a list | `reference_policies_grammar.html` |
//! | actions that differ only in case | `reference_policies_elements_action.html` |
//! | condition keys that differ only in case | `reference_policies_elements_condition.html` |
//! | condition operators that differ only in case | not documented; IAM stores no operator that it does not know, and no two differ only in case |
//! | a boolean or a number as a condition's value, alone or in a list, and its string | `reference_policies_grammar.html` |
//! | `ArnEquals` and `ArnLike`, `ArnNotEquals` and `ArnNotLike` | `reference_policies_elements_condition_operators.html` |
//! | values of `Bool` that differ only in case | not documented; IAM accepts `True` for `true` |
//! | `"Principal": "*"` and `{"AWS": "*"}` | `reference_policies_elements_principal.html` |
//! | an account's number and its root's ARN | `reference_policies_elements_principal.html` |
//! | no `Version` and 2008-10-17; and 2012-10-17, if there is no `${` | `reference_policies_elements_version.html` |

use super::arn::{Arn, is_account_number};
use super::document::{Document, Statement, VERSION};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Version of a document that does not state one. It has no policy variables: `${` is plain text in
/// it.
const VERSION_WITHOUT_VARIABLES: &str = "2008-10-17";

/// A document's meaning. Two documents with equal meanings grant and deny the same access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    statements: BTreeSet<StatementMeaning>,
    /// The elements outside the statements.
    fields: String,
}

/// A statement's meaning: its canonical form, printed, without the Sid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementMeaning(String);

impl Document {
    /// Returns the document's meaning.
    pub fn meaning(&self) -> Meaning {
        let mut fields = self.canonical_fields();
        fields.remove("Id");
        Meaning {
            statements: self.statements.iter().map(Statement::meaning).collect(),
            fields: printed(&fields),
        }
    }

    /// Returns whether both documents grant and deny the same access.
    pub fn same_meaning(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }

    /// Returns the document in canonical form. Two documents with the same meaning have the same
    /// canonical form except for Id and Sids. The form is for comparing and showing, not for
    /// writing: IAM does not document lower-case names for its condition operators.
    pub fn canonical(&self) -> Self {
        let mut statements: Vec<_> = self.statements.iter().map(Canonical::of).collect();
        statements.sort_by(Canonical::order);
        statements.dedup_by(|one, other| one.order(other).is_eq());
        Self {
            fields: self.canonical_fields(),
            statements: statements.into_iter().map(Canonical::whole).collect(),
        }
    }

    /// Returns the version as written, or the default version if the document states none.
    pub(super) fn version(&self) -> Value {
        self.fields
            .get("Version")
            .cloned()
            .unwrap_or_else(|| VERSION_WITHOUT_VARIABLES.into())
    }

    /// Returns the elements outside the statements, with the version in canonical form.
    pub(super) fn canonical_fields(&self) -> Map<String, Value> {
        let mut fields = sorted_map(&self.fields);
        if self.version() == VERSION_WITHOUT_VARIABLES {
            let version = if self.has_dollar_brace() {
                VERSION_WITHOUT_VARIABLES
            } else {
                VERSION
            };
            fields.insert("Version".into(), version.into());
            // An inserted key comes last if serde_json keeps the order of insertion.
            fields = sorted_map(&fields);
        }
        fields
    }

    /// Returns whether any element that affects the meaning contains `${`. Variables are replaced
    /// in resources and in condition values. It is not documented that a version affects nothing
    /// else, so every place counts.
    fn has_dollar_brace(&self) -> bool {
        let fields = self
            .fields
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "Id" | "Version"));
        let statements = self
            .statements
            .iter()
            .flat_map(|s| &s.0)
            .filter(|(key, _)| *key != "Sid");
        fields
            .chain(statements)
            .any(|(key, value)| key.contains("${") || dollar_brace(value))
    }
}

impl Statement {
    /// Returns the statement's meaning.
    pub fn meaning(&self) -> StatementMeaning {
        Canonical::of(self).meaning
    }

    /// Returns whether this statement has the other's effect, actions and resources, and every
    /// value of its principals and conditions. Such a statement allows every principal that the
    /// other allows, because values of one key are alternatives.
    pub(super) fn covers_values_of(&self, other: &Self) -> bool {
        let own = Canonical::of(self).keys;
        let others = Canonical::of(other).keys;
        ["Effect", "Action", "Resource"]
            .into_iter()
            .all(|key| own.get(key) == others.get(key))
            && has_values_of(own.get("Principal"), others.get("Principal"))
            && has_values_of(own.get("Condition"), others.get("Condition"))
    }
}

/// Compares objects by key and lists as sets; a single value counts as a list of one.
fn has_values_of(own: Option<&Value>, other: Option<&Value>) -> bool {
    match (own, other) {
        (Some(Value::Object(own)), Some(Value::Object(other))) => {
            own.len() == other.len()
                && other
                    .iter()
                    .all(|(key, value)| has_values_of(own.get(key), Some(value)))
        }
        (Some(Value::Array(own)), Some(Value::Array(other))) => {
            other.iter().all(|value| own.contains(value))
        }
        (Some(Value::Array(own)), Some(Value::String(text))) => {
            own.iter().any(|value| value == text)
        }
        (own, other) => own == other,
    }
}

/// A statement in canonical form.
pub(super) struct Canonical {
    pub(super) meaning: StatementMeaning,
    /// All keys except the Sid.
    pub(super) keys: Map<String, Value>,
    sid: Option<Value>,
}

impl Canonical {
    pub(super) fn of(statement: &Statement) -> Self {
        let mut keys = Map::new();
        for (key, value) in sorted(&statement.0) {
            let understood = match key.as_str() {
                "Sid" => continue,
                "Action" | "NotAction" => {
                    set(value, |action| action.as_str().map(str::to_ascii_lowercase))
                }
                "Resource" | "NotResource" => set(value, text),
                "Principal" if value == "*" => Some(everyone()),
                "Principal" | "NotPrincipal" => principals(value),
                "Condition" if value.as_object().is_some_and(Map::is_empty) => continue,
                "Condition" => conditions(value),
                _ => None,
            };
            keys.insert(
                key.clone(),
                understood.unwrap_or_else(|| sorted_value(value)),
            );
        }
        Self {
            meaning: StatementMeaning(printed(&keys)),
            keys,
            sid: statement.0.get("Sid").map(sorted_value),
        }
    }

    /// Orders by meaning, then by Sid.
    fn order(&self, other: &Self) -> Ordering {
        self.meaning
            .cmp(&other.meaning)
            .then_with(|| self.printed_sid().cmp(&other.printed_sid()))
    }

    fn printed_sid(&self) -> Option<String> {
        self.sid.as_ref().map(Value::to_string)
    }

    fn whole(self) -> Statement {
        let Self { mut keys, sid, .. } = self;
        if let Some(sid) = sid {
            keys.insert("Sid".into(), sid);
            // An inserted key comes last if serde_json keeps the order of insertion.
            keys = sorted_map(&keys);
        }
        Statement(keys)
    }
}

/// Canonicalises a Principal of the documented form: kinds of principals, each with a string or a
/// list of strings.
fn principals(value: &Value) -> Option<Value> {
    let mut canonical = Map::new();
    for (kind, names) in sorted(value.as_object()?) {
        let read = if kind == "AWS" {
            set(names, |name| name.as_str().map(root_arn))
        } else {
            set(names, text)
        };
        canonical.insert(kind.clone(), read?);
    }
    Some(Value::Object(canonical))
}

/// Returns the canonical form of the Principal `"*"`, which names everyone, as does `{"AWS": "*"}`.
/// No other bare string is a principal, and the equivalence is not documented for NotPrincipal.
fn everyone() -> Value {
    Value::Object(Map::from_iter([("AWS".to_owned(), "*".into())]))
}

/// Returns the root ARN for a bare account number, and any other principal unchanged. The number
/// names the account's root, and IAM and ECR return it as an ARN. In partitions other than `aws`
/// the two forms stay distinct here, because the number does not identify the partition.
fn root_arn(principal: &str) -> String {
    if is_account_number(principal) {
        Arn::root("aws", principal)
    } else {
        principal.to_owned()
    }
}

/// Canonicalises a Condition of the documented form. Returns `None` in these cases:
/// - The condition has another form.
/// - An operator has no key: it is not documented whether it then holds.
/// - Two operators or keys differ only in case: it is not certain whether both must hold or only
///   one is evaluated.
///
/// If the values of a key are not understood, those values stay unchanged.
fn conditions(value: &Value) -> Option<Value> {
    let mut canonical: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (operator, keys) in by_lowercase(value.as_object()?)? {
        let mut operands = Map::new();
        for (key, values) in by_lowercase(keys.as_object()?)? {
            let read = if is_boolean(&operator) {
                set(values, |value| {
                    operand(value).map(|text| text.to_ascii_lowercase())
                })
            } else {
                set(values, operand)
            };
            operands.insert(key, read.unwrap_or_else(|| sorted_value(values)));
        }
        if operands.is_empty() {
            return None;
        }
        canonical.insert(operator, operands);
    }
    type Operators = BTreeMap<String, Map<String, Value>>;
    let (named, aliases): (Operators, Operators) = canonical
        .into_iter()
        .partition(|(operator, _)| canonical_operator(operator) == *operator);
    let operators = aliases.into_iter().fold(named, under_one_name);
    Some(Value::Object(
        operators
            .into_iter()
            .map(|(operator, keys)| (operator, Value::Object(keys)))
            .collect(),
    ))
}

/// Adds an operator under its canonical name. If that name already has one of the operator's keys,
/// adds it under its own name instead, because then both must hold.
fn under_one_name(
    mut operators: BTreeMap<String, Map<String, Value>>,
    (operator, keys): (String, Map<String, Value>),
) -> BTreeMap<String, Map<String, Value>> {
    let name = canonical_operator(&operator);
    let clashes = operators
        .get(&name)
        .is_some_and(|known| keys.keys().any(|key| known.contains_key(key)));
    operators
        .entry(if clashes { operator } else { name })
        .or_default()
        .extend(keys);
    operators
}

/// Returns an operator's canonical name in lower case. The two ARN operators compare alike, with or
/// without wildcards, so they share one name.
pub(super) fn canonical_operator(operator: &str) -> String {
    operator
        .to_ascii_lowercase()
        .replace("arnequals", "arnlike")
        .replace("arnnotequals", "arnnotlike")
}

fn is_boolean(operator: &str) -> bool {
    let behind_set = operator.rsplit(':').next().unwrap_or_default();
    matches!(behind_set, "bool" | "boolifexists")
}

/// Maps the entries by lower-case key; returns `None` if two keys differ only in case. Only ASCII
/// is folded, here and for actions: in other scripts, distinct letters can have the same lower-case
/// letter.
fn by_lowercase(map: &Map<String, Value>) -> Option<BTreeMap<String, &Value>> {
    let folded: BTreeMap<String, &Value> = map
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect();
    (folded.len() == map.len()).then_some(folded)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(String::from)
}

/// Returns a condition value as text. IAM writes `true` and `"true"`, and `1` and `"1"`, for the
/// same value; the same goes for fractions (`s3:TlsVersion` is 1.2). It is not documented whether
/// it writes `1.0` as `1`, so such a number is not understood.
fn operand(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
            Some(number.to_string())
        }
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns a value or a list of values as a set: one as a string, several sorted and without
/// repetition. Returns `None` if one of them does not have the expected form.
fn set(value: &Value, read: impl Fn(&Value) -> Option<String>) -> Option<Value> {
    let Value::Array(values) = value else {
        return read(value).map(Value::String);
    };
    let mut texts: Vec<String> = values.iter().map(read).collect::<Option<_>>()?;
    texts.sort_unstable();
    texts.dedup();
    match texts.len() {
        1 => texts.pop().map(Value::String),
        _ => Some(Value::Array(texts.into_iter().map(Value::String).collect())),
    }
}

fn printed(keys: &Map<String, Value>) -> String {
    serde_json::to_string(keys).expect("a map of strings to values is always JSON")
}

fn dollar_brace(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(values) => values.iter().any(dollar_brace),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains("${") || dollar_brace(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns the entries sorted by key. With its feature `preserve_order`, serde_json itself does not
/// sort them.
fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn sorted_map(map: &Map<String, Value>) -> Map<String, Value> {
    sorted(map)
        .into_iter()
        .map(|(key, value)| (key.clone(), sorted_value(value)))
        .collect()
}

fn sorted_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(sorted_map(map)),
        Value::Array(values) => Value::Array(values.iter().map(sorted_value).collect()),
        scalar => scalar.clone(),
    }
}
