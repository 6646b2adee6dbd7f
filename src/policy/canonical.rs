//! What a document means, so that what AWS returns can be compared with what was sent: AWS reorders lists, turns single
//! strings into lists and bare account numbers into root ARNs. Text is never compared.
//!
//! Where it is not certain that two forms mean the same, they count as different: that costs a write, not an access.

use super::document::{Document, Statement};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A document's meaning: two documents with equal meanings grant and deny the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    statements: BTreeSet<StatementMeaning>,
    variables: bool,
    other: BTreeMap<String, String>,
}

/// A statement's meaning. The Sid is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementMeaning {
    sets: BTreeMap<&'static str, BTreeSet<String>>,
    principals: BTreeMap<String, BTreeSet<String>>,
    conditions: BTreeMap<(String, String), BTreeSet<String>>,
    /// Keys that are not understood, or not of the expected form, by their text.
    other: BTreeMap<String, String>,
}

impl Document {
    /// What the document means.
    pub fn meaning(&self) -> Meaning {
        let other = self.fields.iter().filter(|(key, _)| !matches!(key.as_str(), "Version" | "Id"));
        Meaning {
            statements: self.statements.iter().map(Statement::meaning).collect(),
            variables: self.has_variables(),
            other: other.map(|(key, value)| (key.clone(), value.to_string())).collect(),
        }
    }

    /// Whether both grant and deny the same.
    pub fn same_meaning(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Statement {
    /// What the statement means.
    pub fn meaning(&self) -> StatementMeaning {
        let mut meaning = StatementMeaning {
            sets: BTreeMap::new(),
            principals: BTreeMap::new(),
            conditions: BTreeMap::new(),
            other: BTreeMap::new(),
        };
        for (key, value) in &self.0 {
            let understood = match key.as_str() {
                "Sid" => true,
                "Effect" => meaning.set("Effect", strings(value)),
                // Actions are compared without regard to case, resources with it:
                // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html
                "Action" => meaning.set("Action", strings(value).map(lowercase)),
                "NotAction" => meaning.set("NotAction", strings(value).map(lowercase)),
                "Resource" => meaning.set("Resource", strings(value)),
                "NotResource" => meaning.set("NotResource", strings(value)),
                "Principal" => meaning.principals(value),
                "Condition" => meaning.conditions(value),
                _ => false,
            };
            if !understood {
                meaning.other.insert(key.clone(), value.to_string());
            }
        }
        meaning
    }
}

impl StatementMeaning {
    fn set(&mut self, key: &'static str, values: Option<BTreeSet<String>>) -> bool {
        values.map(|values| self.sets.insert(key, values)).is_some()
    }

    fn principals(&mut self, value: &Value) -> bool {
        let Value::Object(kinds) = value else { return false };
        let read: Option<BTreeMap<_, _>> = kinds
            .iter()
            .map(|(kind, values)| {
                let values = strings(values)?;
                let values = if kind == "AWS" { values.into_iter().map(root_arn).collect() } else { values };
                Some((kind.clone(), values))
            })
            .collect();
        read.map(|principals| self.principals = principals).is_some()
    }

    fn conditions(&mut self, value: &Value) -> bool {
        let Value::Object(operators) = value else { return false };
        let Some(conditions) = conditions_of(operators) else { return false };
        self.conditions = conditions;
        true
    }
}

/// Operators and keys without regard to case, values with it. `None` where a block is not of the usual form, or where two keys
/// differ by case alone: both must then hold, which one entry could not say.
fn conditions_of(operators: &Map<String, Value>) -> Option<BTreeMap<(String, String), BTreeSet<String>>> {
    let mut conditions = BTreeMap::new();
    for (operator, keys) in operators {
        for (key, values) in keys.as_object()? {
            let place = (operator.to_lowercase(), key.to_lowercase());
            if conditions.insert(place, strings(values)?).is_some() {
                return None;
            }
        }
    }
    Some(conditions)
}

/// A string, number or boolean, or a list of them, as a set: IAM writes `true` and `"true"` for the same.
fn strings(value: &Value) -> Option<BTreeSet<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(list) => list.iter().map(scalar).collect(),
        one => scalar(one).map(|text| BTreeSet::from([text])),
    }
}

fn lowercase(values: BTreeSet<String>) -> BTreeSet<String> {
    values.into_iter().map(|value| value.to_lowercase()).collect()
}

/// A bare account number names the account's root; IAM and ECR return it as an ARN. In other partitions than `aws` the two
/// are left distinct here, for the number alone does not tell the partition.
fn root_arn(principal: String) -> String {
    if principal.len() == 12 && principal.bytes().all(|b| b.is_ascii_digit()) {
        return format!("arn:aws:iam::{principal}:root");
    }
    principal
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn statement(keys: &str) -> Document {
        Document::parse(&format!(r#"{{"Version":"2012-10-17","Statement":[{{{keys}}}]}}"#)).unwrap()
    }

    #[rstest]
    #[case::order_of_keys(r#""Effect":"Allow","Action":"a:B""#, r#""Action":"a:B","Effect":"Allow""#)]
    #[case::list_of_one(r#""Action":["a:B"]"#, r#""Action":"a:B""#)]
    #[case::order_and_duplicates(r#""Action":["a:C","a:B","a:B"]"#, r#""Action":["a:B","a:C"]"#)]
    #[case::case_of_actions(r#""Action":"ECR:putimage""#, r#""Action":"ecr:PutImage""#)]
    #[case::account_number(
        r#""Principal":{"AWS":"222222222222"}"#,
        r#""Principal":{"AWS":"arn:aws:iam::222222222222:root"}"#
    )]
    #[case::empty_condition(r#""Action":"a:B","Condition":{}"#, r#""Action":"a:B""#)]
    #[case::case_of_condition_keys(
        r#""Condition":{"bool":{"AWS:SecureTransport":true}}"#,
        r#""Condition":{"Bool":{"aws:securetransport":"true"}}"#
    )]
    #[case::sid(r#""Sid":"x","Action":"a:B""#, r#""Action":"a:B""#)]
    fn the_same_meaning_in_other_words(#[case] one: &str, #[case] other: &str) {
        assert!(statement(one).same_meaning(&statement(other)));
    }

    #[rstest]
    #[case::case_of_resources(r#""Resource":"arn:x""#, r#""Resource":"arn:X""#)]
    #[case::case_of_values(r#""Condition":{"StringEquals":{"k":"v"}}"#, r#""Condition":{"StringEquals":{"k":"V"}}"#)]
    #[case::not_action(r#""NotAction":"a:B""#, r#""Action":"a:B""#)]
    #[case::not_principal(r#""NotPrincipal":{"AWS":"x"}"#, r#""Principal":{"AWS":"x"}"#)]
    #[case::service_or_account(r#""Principal":{"AWS":"x"}"#, r#""Principal":{"Service":"x"}"#)]
    #[case::effect(r#""Effect":"Deny""#, r#""Effect":"Allow""#)]
    #[case::fewer_conditions(r#""Condition":{"StringEquals":{"k":"v"}}"#, r#""Condition":{}"#)]
    #[case::unknown_key(r#""Action":"a:B","Odd":1"#, r#""Action":"a:B""#)]
    #[case::other_partition(
        r#""Principal":{"AWS":"222222222222"}"#,
        r#""Principal":{"AWS":"arn:aws-cn:iam::222222222222:root"}"#
    )]
    #[case::keys_that_differ_by_case(r#""Condition":{"Bool":{"K":"a","k":"b"}}"#, r#""Condition":{"Bool":{"k":"b"}}"#)]
    fn a_difference_in_meaning_is_seen(#[case] one: &str, #[case] other: &str) {
        assert!(!statement(one).same_meaning(&statement(other)));
    }

    #[test]
    fn the_version_matters_only_where_a_variable_stands() {
        let document = |version, resource| {
            Document::parse(&format!(r#"{{"Version":"{version}","Statement":{{"Resource":"{resource}"}}}}"#)).unwrap()
        };
        assert!(document("2008-10-17", "x").same_meaning(&document("2012-10-17", "x")));
        assert!(!document("2008-10-17", "${aws:username}").same_meaning(&document("2012-10-17", "${aws:username}")));
    }
}
