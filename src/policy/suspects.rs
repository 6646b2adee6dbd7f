//! Other people's statements that may be why AWS refuses a document, and the one exception to leaving them alone: a unique ID of a deleted
//! principal is taken out where it alone keeps a revocation from being written.

use super::document::{Document, Statement};
use super::sid::Installation;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// A statement that is likely to be why AWS refuses the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspect {
    /// The statement, by its Sid or its place.
    pub statement: String,
    /// Why.
    pub why: Why,
}

/// What AWS refuses in a repository's policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The unique ID of a principal that was deleted.
    Gone(String),
    /// An action that a repository's policy cannot have.
    Action(String),
    /// An element that a repository's policy cannot have.
    Element(&'static str),
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statement, why } = self;
        let not_taken = "which ECR does not take in a repository's policy";
        match why {
            Why::Gone(id) => write!(f, "{statement} names {id}, a principal that was deleted"),
            Why::Action(action) => write!(f, "{statement} has {action}, {not_taken}"),
            Why::Element(element) => write!(f, "{statement} has a {element}, {not_taken}"),
        }
    }
}

/// The suspects among the statements of others, deleted principals first.
pub fn suspects(document: &Document, installation: &Installation) -> Vec<Suspect> {
    let mut found = Vec::new();
    for (at, statement) in document.statements.iter().enumerate().filter(|(_, s)| !installation.owns(s)) {
        let name = match statement.sid_text() {
            Some(sid) => format!("statement `{sid}`"),
            None => format!("statement {}", at + 1),
        };
        let ids = statement.aws_principals().into_iter().filter(|id| is_unique_id(id)).map(|id| Why::Gone(id.into()));
        let actions = actions(statement).into_iter().filter(|action| is_refused(action));
        let actions = actions.map(|action| Why::Action(action.into()));
        let elements = ["Resource", "NotResource"].into_iter().filter(|key| statement.0.contains_key(*key));
        found.extend(
            ids.chain(actions).chain(elements.map(Why::Element)).map(|why| Suspect { statement: name.clone(), why }),
        );
    }
    found.sort_by(|one, other| (&one.why, &one.statement).cmp(&(&other.why, &other.statement)));
    found
}

/// Whether this is the unique ID of a role (`AROA…`) or user (`AIDA…`), which AWS shows in a principal's place once it was deleted.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>.
pub fn is_unique_id(text: &str) -> bool {
    (text.starts_with("AROA") || text.starts_with("AIDA"))
        && text.len() >= 16
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Whether a repository's policy cannot have this action: one that is about no repository, or of another service.
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>.
fn is_refused(action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    action == "ecr:getauthorizationtoken" || action.split_once(':').is_some_and(|(service, _)| service != "ecr")
}

fn actions(statement: &Statement) -> Vec<&str> {
    texts(statement.0.get("Action"))
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    }
}

/// The unique IDs that the statements of others show.
pub fn foreign_ids(document: &Document, installation: &Installation) -> BTreeSet<String> {
    let foreign = document.statements.iter().filter(|statement| !installation.owns(statement));
    let ids = foreign.flat_map(|statement| statement.aws_principals()).filter(|id| is_unique_id(id));
    ids.map(String::from).collect()
}

/// Whether all unique IDs of others' statements are in the `Principal` of an `Allow` statement, which is where one may be taken out.
pub fn ids_are_removable(document: &Document, installation: &Installation) -> bool {
    let foreign = document.statements.iter().filter(|statement| !installation.owns(statement));
    let mut with_ids = foreign.filter(|statement| statement.aws_principals().into_iter().any(is_unique_id));
    with_ids.all(|statement| {
        let Statement(keys) = statement;
        keys.get("Effect").and_then(Value::as_str) == Some("Allow") && !keys.contains_key("NotPrincipal")
    })
}

impl Document {
    /// The document without these unique IDs in the `Principal` of its `Allow` statements; a statement that lets in nobody else is dropped. With
    /// the statements that this concerns, as they were.
    pub(super) fn without_ids(mut self, ids: &BTreeSet<String>) -> (Self, Vec<Statement>) {
        let mut before = Vec::new();
        if ids.is_empty() {
            return (self, before);
        }
        self.statements.retain_mut(|statement| {
            let original = statement.clone();
            let Some(stays) = statement.remove_ids(ids) else { return true };
            before.push(original);
            stays
        });
        (self, before)
    }
}

impl Statement {
    /// Takes the IDs out of the `Principal` of an `Allow` statement. `None`: there are none; else whether another principal is left.
    fn remove_ids(&mut self, ids: &BTreeSet<String>) -> Option<bool> {
        let is_allow = self.0.get("Effect").and_then(Value::as_str) == Some("Allow");
        let Some(Value::Object(principal)) = self.0.get_mut("Principal").filter(|_| is_allow) else { return None };
        let named: Vec<String> = texts(principal.get("AWS")).into_iter().map(String::from).collect();
        let left: Vec<String> = named.iter().filter(|name| !ids.contains(*name)).cloned().collect();
        if left.len() == named.len() {
            return None;
        }
        match left.as_slice() {
            [] => drop(principal.remove("AWS")),
            [one] => drop(principal.insert("AWS".into(), one.clone().into())),
            _ => drop(principal.insert("AWS".into(), left.into())),
        }
        Some(!principal.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ID: &str = "AROAEXAMPLEEXAMPLE12";
    const OTHER: &str = "AIDAEXAMPLEEXAMPLE34";

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn document(statement: &str) -> Document {
        Document::parse(&format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)).unwrap()
    }

    fn ids() -> BTreeSet<String> {
        [ID, OTHER].map(String::from).into()
    }

    #[test]
    fn a_statement_of_others_that_names_a_deleted_role_is_found() {
        let old = document(
            r#"{"Sid":"old","Effect":"Allow","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12"]},"Action":"ecr:BatchGetImage"}"#,
        );
        let found = suspects(&old, &installation());
        assert_eq!(found, [Suspect { statement: "statement `old`".into(), why: Why::Gone(ID.into()) }]);
    }

    /// Case 12 from the field.
    #[test]
    fn a_statement_of_others_with_an_action_that_ecr_no_longer_takes_is_found() {
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Old","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":["ecr:GetAuthorizationToken","ecr:BatchGetImage"]}]}"#;
        let found = suspects(&Document::parse(policy).unwrap(), &installation());
        let why = Why::Action("ecr:GetAuthorizationToken".into());
        assert_eq!(found, [Suspect { statement: "statement `Old`".into(), why }]);
    }

    #[rstest]
    #[case::beside_another(
        r#"{"Effect":"Allow","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12","222222222222"]},"Action":"ecr:x"}"#,
        Some(r#"{"Effect":"Allow","Principal":{"AWS":"222222222222"},"Action":"ecr:x"}"#)
    )]
    #[case::beside_a_service(
        r#"{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEEXAMPLE12","Service":"lambda.amazonaws.com"},"Action":"ecr:x"}"#,
        Some(r#"{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"ecr:x"}"#)
    )]
    #[case::alone(r#"{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEEXAMPLE12"},"Action":"ecr:x"}"#, None)]
    #[case::only_such(
        r#"{"Effect":"Allow","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12","AIDAEXAMPLEEXAMPLE34"]},"Action":"ecr:x"}"#,
        None
    )]
    fn an_id_is_taken_out_of_an_allow_statement(#[case] before: &str, #[case] after: Option<&str>) {
        let before = document(before);
        assert!(ids_are_removable(&before, &installation()));
        let (left, told) = before.clone().without_ids(&ids());
        assert_eq!(left.statements, after.map(document).into_iter().flat_map(|d| d.statements).collect::<Vec<_>>());
        assert_eq!(told, before.statements);
    }

    #[rstest]
    #[case::deny(r#"{"Effect":"Deny","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12","222222222222"]},"Action":"ecr:x"}"#)]
    #[case::not_principal(r#"{"Effect":"Allow","NotPrincipal":{"AWS":"AROAEXAMPLEEXAMPLE12"},"Action":"ecr:x"}"#)]
    fn elsewhere_an_id_stays(#[case] text: &str) {
        let before = document(text);
        assert!(!ids_are_removable(&before, &installation()));
        assert_eq!(before.clone().without_ids(&ids()), (before, Vec::new()));
    }

    #[test]
    fn an_id_in_a_condition_is_none_of_the_principals() {
        let before = document(
            r#"{"Effect":"Allow","Principal":"*","Action":"ecr:x","Condition":{"StringLike":{"aws:userId":"AROAEXAMPLEEXAMPLE12:*"}}}"#,
        );
        assert!(suspects(&before, &installation()).is_empty());
        assert_eq!(before.clone().without_ids(&ids()), (before, Vec::new()));
    }
}
