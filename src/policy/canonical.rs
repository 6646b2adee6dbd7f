//! What a document means, so that what AWS returns can be compared with what was sent: AWS reorders lists, turns single
//! strings into lists and bare account numbers into root ARNs. Text is never compared.
//!
//! A document's meaning is its canonical form without the Sids. Where it is not certain that two forms mean the same, they count
//! as different: that costs a write, not an access. So an element that is not of the form IAM documents is left as it stands,
//! letter by letter, and equals only itself.
//!
//! What is certain, and where it is written (below <https://docs.aws.amazon.com/IAM/latest/UserGuide/>):
//!
//! | two forms of the same | source |
//! |---|---|
//! | a string, and a list of that string alone; order and repetition in a list | `reference_policies_grammar.html` |
//! | actions, whatever the case of their letters | `reference_policies_elements_action.html` |
//! | condition keys, whatever the case of their letters | `reference_policies_elements_condition.html` |
//! | condition operators, likewise | not written; IAM stores no operator that it does not know, and no two differ by case alone |
//! | a boolean or an integer as a condition's value, and its string | `reference_policies_grammar.html` |
//! | `"Principal": "*"` and `{"AWS": "*"}` | `reference_policies_elements_principal.html` |
//! | an account's number and its root's ARN | `reference_policies_elements_principal.html` |
//! | no `Version` and 2008-10-17; and 2012-10-17, where no `${` stands | `reference_policies_elements_version.html` |

use super::document::{Document, Statement, VERSION};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The version that a document without one has. It knows no policy variables: `${` is plain text in it.
const VERSION_WITHOUT_VARIABLES: &str = "2008-10-17";

/// A document's meaning: two documents with equal meanings grant and deny the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    statements: BTreeSet<StatementMeaning>,
    /// What stands beside the statements.
    fields: String,
}

/// A statement's meaning: its canonical form, printed. The Sid is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementMeaning(String);

impl Document {
    /// What the document means.
    pub fn meaning(&self) -> Meaning {
        let mut fields = self.canonical_fields();
        fields.remove("Id");
        Meaning {
            statements: self.statements.iter().map(Statement::meaning).collect(),
            fields: Value::Object(fields).to_string(),
        }
    }

    /// Whether both grant and deny the same.
    pub fn same_meaning(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }

    /// The document in canonical form: of two documents that mean the same, the same but for Id and Sids. It is for comparing and
    /// for showing, not for writing: IAM documents no lower-case names for its condition operators.
    pub fn canonical(&self) -> Self {
        let mut statements: Vec<(StatementMeaning, String, Statement)> =
            self.statements.iter().map(|s| (s.meaning(), s.sid_json(), s.canonical())).collect();
        statements.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        statements.dedup_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1));
        let statements = statements.into_iter().map(|(_, _, statement)| statement).collect();
        Self { fields: self.canonical_fields(), statements }
    }

    /// The version as it stands, or the one that a document without it has.
    pub(super) fn version(&self) -> Value {
        self.fields.get("Version").cloned().unwrap_or_else(|| VERSION_WITHOUT_VARIABLES.into())
    }

    /// What stands beside the statements, with the version that means the same.
    pub(super) fn canonical_fields(&self) -> Map<String, Value> {
        let mut fields = sorted_map(&self.fields);
        if self.version() == VERSION_WITHOUT_VARIABLES {
            let version = if self.has_dollar_brace() { VERSION_WITHOUT_VARIABLES } else { VERSION };
            fields.insert("Version".into(), version.into());
            // An inserted key stands last where serde_json keeps the order of insertion.
            fields = sorted_map(&fields);
        }
        fields
    }

    /// Whether there is a `${` in anything that has a meaning. Variables are replaced in resources and in conditions' values; that a
    /// version touches nothing else is not documented, so every place counts.
    fn has_dollar_brace(&self) -> bool {
        let fields = self.fields.iter().filter(|(key, _)| !matches!(key.as_str(), "Id" | "Version"));
        let statements = self.statements.iter().flat_map(|s| &s.0).filter(|(key, _)| *key != "Sid");
        fields.chain(statements).any(|(key, value)| key.contains("${") || dollar_brace(value))
    }
}

impl Statement {
    /// What the statement means.
    pub fn meaning(&self) -> StatementMeaning {
        let mut keys = self.canonical().0;
        keys.remove("Sid");
        StatementMeaning(Value::Object(keys).to_string())
    }

    /// The statement in canonical form, with its Sid.
    pub(super) fn canonical(&self) -> Self {
        let mut canonical = Map::new();
        for (key, value) in sorted(&self.0) {
            let understood = match key.as_str() {
                "Action" | "NotAction" => strings(value).map(|actions| list(actions.into_iter().map(lowercase))),
                "Resource" | "NotResource" => strings(value).map(list),
                "Principal" if value == "*" => Some(everyone()),
                "Principal" | "NotPrincipal" => principals(value),
                "Condition" if value.as_object().is_some_and(Map::is_empty) => continue,
                "Condition" => conditions(value),
                _ => None,
            };
            canonical.insert(key.clone(), understood.unwrap_or_else(|| sorted_value(value)));
        }
        Self(canonical)
    }

    /// The Sid as it stands, also where it is no string.
    fn sid_json(&self) -> String {
        self.0.get("Sid").map(Value::to_string).unwrap_or_default()
    }
}

/// A Principal of the documented form: kinds of principals with a string or a list of them each.
fn principals(value: &Value) -> Option<Value> {
    let mut canonical = Map::new();
    for (kind, names) in sorted(value.as_object()?) {
        let names = strings(names)?;
        let names = if kind == "AWS" { list(names.into_iter().map(root_arn)) } else { list(names) };
        canonical.insert(kind.clone(), names);
    }
    Some(Value::Object(canonical))
}

/// A Principal that is `"*"` names everyone, as does `{"AWS": "*"}`. No other bare string is a principal, and of NotPrincipal the
/// equivalence is not documented.
fn everyone() -> Value {
    Value::Object(Map::from_iter([("AWS".to_owned(), "*".into())]))
}

/// A bare account number names the account's root; IAM and ECR return it as an ARN. In other partitions than `aws` the two
/// are left distinct here, for the number alone does not tell the partition.
fn root_arn(principal: String) -> String {
    if principal.len() == 12 && principal.bytes().all(|b| b.is_ascii_digit()) {
        return format!("arn:aws:iam::{principal}:root");
    }
    principal
}

/// A Condition of the documented form. `None` where it is of another, where an operator has no key (whether it then holds is not
/// documented), and where two operators or keys differ by case alone: both must then hold, or only one is looked at.
fn conditions(value: &Value) -> Option<Value> {
    let mut canonical = Map::new();
    for (operator, keys) in by_lowercase(value.as_object()?)? {
        let mut operands = Map::new();
        for (key, values) in by_lowercase(keys.as_object()?)? {
            operands.insert(key, list(operands_of(values)?));
        }
        if operands.is_empty() {
            return None;
        }
        canonical.insert(operator, Value::Object(operands));
    }
    Some(Value::Object(canonical))
}

fn by_lowercase(map: &Map<String, Value>) -> Option<BTreeMap<String, &Value>> {
    let folded: BTreeMap<String, &Value> = map.iter().map(|(key, value)| (lowercase(key.clone()), value)).collect();
    (folded.len() == map.len()).then_some(folded)
}

/// A string or a list of strings, as a set.
fn strings(value: &Value) -> Option<BTreeSet<String>> {
    set(value, |value| value.as_str().map(String::from))
}

/// The values of a condition. IAM writes `true` and `"true"`, `1` and `"1"` for the same; how it writes a fraction is not
/// documented.
fn operands_of(value: &Value) -> Option<BTreeSet<String>> {
    set(value, |value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    })
}

fn set(value: &Value, text: impl Fn(&Value) -> Option<String>) -> Option<BTreeSet<String>> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        one => text(one).map(|text| BTreeSet::from([text])),
    }
}

/// One value as a string, several in order and each of them once.
fn list(values: impl IntoIterator<Item = String>) -> Value {
    let mut values: BTreeSet<String> = values.into_iter().collect();
    match values.len() {
        1 => values.pop_first().into(),
        _ => Value::Array(values.into_iter().map(Value::String).collect()),
    }
}

/// ASCII alone: in other scripts there are letters that differ and have the same small one.
fn lowercase(mut text: String) -> String {
    text.make_ascii_lowercase();
    text
}

fn dollar_brace(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(values) => values.iter().any(dollar_brace),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains("${") || dollar_brace(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The entries by key, whether or not serde_json keeps them so (its feature `preserve_order` does not).
fn sorted(map: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    map.iter().collect()
}

fn sorted_map(map: &Map<String, Value>) -> Map<String, Value> {
    sorted(map).into_iter().map(|(key, value)| (key.clone(), sorted_value(value))).collect()
}

fn sorted_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(sorted_map(map)),
        Value::Array(values) => Value::Array(values.iter().map(sorted_value).collect()),
        scalar => scalar.clone(),
    }
}
