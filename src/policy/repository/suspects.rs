//! Foreign statements that may cause AWS to refuse a document. [`crate::policy::dead_ids`] handles
//! unique IDs of deleted principals.

use crate::policy::dead_ids::{DeadId, is_unique_id, place, shown};
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;
use serde_json::Value;
use std::fmt;

/// A statement that is likely to cause AWS to refuse the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspect {
    /// The statement, by its Sid or its position.
    pub statement: String,
    /// The reason.
    pub why: Why,
}

/// A part of a repository policy that AWS refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The unique ID of a deleted principal.
    Gone(String),
    /// An action that a repository policy cannot have.
    Action(String),
    /// An element that a repository policy cannot have.
    Element(&'static str),
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statement, why } = self;
        let not_taken = "which ECR does not accept in a repository policy";
        match why {
            Why::Gone(id) => write!(
                f,
                "{statement} names {id}, the unique ID of a deleted principal"
            ),
            Why::Action(action) => write!(f, "{statement} has {action}, {not_taken}"),
            Why::Element(element) => write!(f, "{statement} has a {element}, {not_taken}"),
        }
    }
}

/// Returns the suspects among the foreign statements, deleted principals first.
pub fn suspects(document: &Document, installation: &Installation) -> Vec<Suspect> {
    let mut found: Vec<Suspect> = shown(document, installation)
        .into_iter()
        .map(|DeadId { statement, id }| Suspect {
            statement,
            why: Why::Gone(id),
        })
        .collect();
    for (at, statement) in document
        .statements
        .iter()
        .enumerate()
        .filter(|(_, s)| !installation.owns(s))
    {
        let refused = actions(statement)
            .into_iter()
            .filter(|action| is_refused(action))
            .map(|action| Why::Action(action.into()));
        let elements = ["Resource", "NotResource"]
            .into_iter()
            .filter(|key| statement.0.contains_key(*key))
            .map(Why::Element);
        found.extend(refused.chain(elements).map(|why| Suspect {
            statement: place(at, statement),
            why,
        }));
    }
    found.sort_by(|one, other| (&one.why, &one.statement).cmp(&(&other.why, &other.statement)));
    found
}

/// Returns whether a repository policy cannot have this action: an action that does not apply to
/// repositories, or one of another service. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>.
fn is_refused(action: &str) -> bool {
    let lowercase = action.to_ascii_lowercase();
    lowercase == "ecr:getauthorizationtoken"
        || lowercase
            .split_once(':')
            .is_some_and(|(service, _)| service != "ecr")
}

fn actions(statement: &Statement) -> Vec<&str> {
    match statement.0.get("Action") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    }
}

/// Returns whether all unique IDs in foreign statements are in the `Principal` of an `Allow`
/// statement, from which they may be removed.
pub fn ids_are_removable(document: &Document, installation: &Installation) -> bool {
    let foreign = document
        .statements
        .iter()
        .filter(|statement| !installation.owns(statement));
    let mut with_ids =
        foreign.filter(|statement| statement.aws_principals().into_iter().any(is_unique_id));
    with_ids.all(|statement| {
        let Statement(keys) = statement;
        keys.get("Effect").and_then(Value::as_str) == Some("Allow")
            && !keys.contains_key("NotPrincipal")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::dead_ids::{Cleaned, without};
    use rstest::rstest;
    use std::collections::BTreeSet;

    const ID: &str = "AROAEXAMPLEEXAMPLE12";
    const OTHER: &str = "AIDAEXAMPLEEXAMPLE34";

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn document(statement: &str) -> Document {
        Document::parse(&format!(
            r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#
        ))
        .unwrap()
    }

    fn ids() -> BTreeSet<String> {
        [ID, OTHER].map(String::from).into()
    }

    #[test]
    fn foreign_statement_with_deleted_role_is_a_suspect() {
        let old = document(
            r#"{"Sid":"old","Effect":"Allow","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12"]},"Action":"ecr:BatchGetImage"}"#,
        );
        let found = suspects(&old, &installation());
        assert_eq!(
            found,
            [Suspect {
                statement: "statement `old`".into(),
                why: Why::Gone(ID.into())
            }]
        );
    }

    /// Case 12 from the field.
    #[test]
    fn foreign_statement_with_refused_action_is_a_suspect() {
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Old","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":["ecr:GetAuthorizationToken","ecr:BatchGetImage"]}]}"#;
        let found = suspects(&Document::parse(policy).unwrap(), &installation());
        let why = Why::Action("ecr:GetAuthorizationToken".into());
        assert_eq!(
            found,
            [Suspect {
                statement: "statement `Old`".into(),
                why
            }]
        );
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
    #[case::alone(
        r#"{"Effect":"Allow","Principal":{"AWS":"AROAEXAMPLEEXAMPLE12"},"Action":"ecr:x"}"#,
        None
    )]
    #[case::only_such(
        r#"{"Effect":"Allow","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12","AIDAEXAMPLEEXAMPLE34"]},"Action":"ecr:x"}"#,
        None
    )]
    fn id_in_an_allow_is_removed(#[case] before: &str, #[case] after: Option<&str>) {
        let before = document(before);
        assert!(ids_are_removable(&before, &installation()));
        let Cleaned {
            document: left,
            originals,
        } = without(&before, &ids(), &installation());
        match after.map(document) {
            Some(after) => assert!(left.same_meaning(&after), "{left}"),
            None => assert!(left.statements.is_empty(), "{left}"),
        }
        assert_eq!(originals, before.statements);
    }

    #[rstest]
    #[case::deny(r#"{"Effect":"Deny","Principal":{"AWS":["AROAEXAMPLEEXAMPLE12","222222222222"]},"Action":"ecr:x"}"#)]
    #[case::not_principal(
        r#"{"Effect":"Allow","NotPrincipal":{"AWS":"AROAEXAMPLEEXAMPLE12"},"Action":"ecr:x"}"#
    )]
    fn id_outside_of_an_allow_is_kept(#[case] text: &str) {
        let before = document(text);
        assert!(!ids_are_removable(&before, &installation()));
        let unchanged = Cleaned {
            document: before.clone(),
            originals: Vec::new(),
        };
        assert_eq!(without(&before, &ids(), &installation()), unchanged);
    }

    #[test]
    fn id_in_a_condition_is_not_a_principal() {
        let before = document(
            r#"{"Effect":"Allow","Principal":"*","Action":"ecr:x","Condition":{"StringLike":{"aws:userId":"AROAEXAMPLEEXAMPLE12:*"}}}"#,
        );
        assert!(suspects(&before, &installation()).is_empty());
        let unchanged = Cleaned {
            document: before.clone(),
            originals: Vec::new(),
        };
        assert_eq!(without(&before, &ids(), &installation()), unchanged);
    }
}
