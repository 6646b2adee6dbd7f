//! Reads repository policies, as AWS's documentation describes them.

use crate::aws::{Policy, glob};
use serde_json::Value;
use std::collections::BTreeSet;

/// Who asks for access to a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The account of the identity.
    pub account: String,
    /// The ARN of its role.
    pub arn: String,
}

/// Returns the statements of a policy whose principals are shown as ARNs.
pub fn statements(policy: &Policy, arn_of: &dyn Fn(&str) -> Option<String>) -> Vec<Value> {
    let document = policy.shown(arn_of).unwrap_or(Value::Null);
    match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        Value::Object(_) => vec![document["Statement"].clone()],
        _ => Vec::new(),
    }
}

/// Returns whether an operator wrote the statement: its Sid begins with `RegistryGrants`.
pub fn is_operators(statement: &Value) -> bool {
    statement["Sid"]
        .as_str()
        .is_some_and(|sid| sid.starts_with("RegistryGrants"))
}

/// Returns whether a statement names the unique ID of a principal that is gone.
pub fn names_dead_principal(statement: &Value) -> bool {
    principals(statement)
        .iter()
        .any(|principal| principal.starts_with("AROA") || principal.starts_with("AIDA"))
}

/// Returns one text for all statements with the same meaning: the order of lists, and lists with
/// one element, do not matter.
pub fn normal(statement: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(items) if items.len() == 1 => sorted(&items[0]),
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(sorted).collect();
                items.sort_by_key(Value::to_string);
                items.into()
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| *name);
                let fields = fields.into_iter();
                fields
                    .map(|(name, value)| (name.clone(), sorted(value)))
                    .collect()
            }
            value => value.clone(),
        }
    }
    sorted(statement).to_string()
}

/// Returns whether a statement allows an identity an action. Only the conditions that the operator
/// and the simulated foreign writers use are known; any other does not hold.
pub fn allows(statement: &Value, identity: &Identity, action: &str) -> bool {
    let root = format!("arn:aws:iam::{}:root", identity.account);
    let is_named = principals(statement)
        .iter()
        .any(|principal| *principal == root || *principal == identity.arn);
    let is_action = list(&statement["Action"])
        .iter()
        .any(|pattern| glob(&pattern.to_lowercase(), &action.to_lowercase()));
    let holds = conditions(statement).iter().all(|(operator, key, values)| {
        let is_arn_of_principal = key.eq_ignore_ascii_case("aws:PrincipalArn")
            && ["ArnLike", "ArnEquals", "StringLike"].contains(&operator.as_str());
        is_arn_of_principal && values.iter().any(|value| glob(value, &identity.arn))
    });
    statement["Effect"] == "Allow" && is_named && is_action && holds
}

fn principals(statement: &Value) -> BTreeSet<String> {
    list(&statement["Principal"]["AWS"]).into_iter().collect()
}

fn conditions(statement: &Value) -> Vec<(String, String, Vec<String>)> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    operators
        .flat_map(|(operator, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            keys.map(move |(key, values)| (operator.clone(), key.clone(), list(values)))
        })
        .collect()
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(String::from)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identity(role: &str) -> Identity {
        Identity {
            account: "222222222222".into(),
            arn: format!("arn:aws:iam::222222222222:role/{role}"),
        }
    }

    #[test]
    fn statement_for_a_root_allows_its_roles_as_far_as_conditions_hold() {
        let mut statement = json!({
            "Effect": "Allow", "Action": "ecr:BatchGetImage",
            "Principal": {"AWS": "arn:aws:iam::222222222222:root"},
        });
        assert!(allows(&statement, &identity("ci"), "ecr:BatchGetImage"));
        assert!(!allows(&statement, &identity("ci"), "ecr:PutImage"));
        statement["Condition"] = json!({"ArnLike": {
            "aws:PrincipalArn": ["arn:aws:iam::222222222222:role/ci*"]}});
        assert!(allows(&statement, &identity("ci-1"), "ecr:BatchGetImage"));
        assert!(!allows(&statement, &identity("node"), "ecr:BatchGetImage"));
        statement["Condition"]["Bool"] = json!({"aws:SecureTransport": "true"});
        assert!(!allows(&statement, &identity("ci-1"), "ecr:BatchGetImage"));
    }

    #[test]
    fn wording_does_not_change_the_normal_form() {
        let one = json!({"Action": ["b", "a"], "Principal": {"AWS": ["x"]}});
        let other = json!({"Principal": {"AWS": "x"}, "Action": ["a", "b"]});
        assert_eq!(normal(&one), normal(&other));
        let different = json!({"Principal": {"AWS": "y"}, "Action": ["a", "b"]});
        assert_ne!(normal(&one), normal(&different));
    }
}
