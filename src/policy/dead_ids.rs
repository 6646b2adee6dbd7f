//! Unique IDs (`AROA…`, `AIDA…`) that AWS shows in place of a deleted principal. AWS refuses to
//! write a document that names one, regardless of the statement's author. This module decides when
//! such an ID is proven dead, and removes it from foreign statements. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>.

use super::document::{Document, Statement};
use super::installation::Installation;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Minimum time between two refused writes before an ID that both reads showed is proven dead: an
/// ID also shows briefly after its role was created.
pub const PROVEN_AFTER: Duration = Duration::from_secs(300);

/// A unique ID in a foreign statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadId {
    /// The statement, for people: its Sid, or its position in the document.
    pub statement: String,
    /// The ID.
    pub id: String,
}

/// A document without IDs that are proven dead.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleaned {
    /// The document.
    pub document: Document,
    /// The statements that were changed or dropped, as they were.
    pub originals: Vec<Statement>,
}

/// Returns the unique IDs that foreign statements of the document name as principals.
pub fn shown(document: &Document, installation: &Installation) -> Vec<DeadId> {
    let mut found: Vec<DeadId> = Vec::new();
    for (at, statement) in document.statements.iter().enumerate() {
        if installation.owns(statement) {
            continue;
        }
        let name = place(at, statement);
        let ids = statement
            .aws_principals()
            .into_iter()
            .filter(|principal| is_unique_id(principal));
        found.extend(ids.map(|id| DeadId {
            statement: name.clone(),
            id: id.to_owned(),
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// Describes a statement for people: by its Sid, or by its position in the document.
pub(super) fn place(at: usize, statement: &Statement) -> String {
    match statement.sid_text() {
        Some(sid) => format!("statement `{sid}`"),
        None => format!("statement {}", at + 1),
    }
}

/// Returns the document without these IDs. An ID is only removed from the `Principal` of a foreign
/// `Allow`, and the statement is dropped if its `Principal` names only dead IDs. `Deny`,
/// `NotPrincipal` and conditions are never changed.
pub fn without(
    document: &Document,
    dead: &BTreeSet<String>,
    installation: &Installation,
) -> Cleaned {
    let mut cleaned = Cleaned {
        document: document.clone(),
        originals: Vec::new(),
    };
    cleaned.document.statements.clear();
    for statement in &document.statements {
        let principal = if installation.owns(statement) {
            Principal::Unchanged
        } else {
            principal_without(statement, dead)
        };
        match principal {
            Principal::Unchanged => cleaned.document.statements.push(statement.clone()),
            Principal::Gone => cleaned.originals.push(statement.clone()),
            Principal::Fewer(kinds) => {
                cleaned.originals.push(statement.clone());
                let mut changed = statement.clone();
                changed.0.insert("Principal".into(), Value::Object(kinds));
                cleaned.document.statements.push(changed);
            }
        }
    }
    cleaned
}

/// The result of removing dead IDs from a statement's `Principal`.
enum Principal {
    Unchanged,
    Fewer(Map<String, Value>),
    Gone,
}

fn principal_without(statement: &Statement, dead: &BTreeSet<String>) -> Principal {
    let allows = statement.0.get("Effect").and_then(Value::as_str) == Some("Allow");
    let Some(Value::Object(kinds)) = statement.0.get("Principal").filter(|_| allows) else {
        return Principal::Unchanged;
    };
    let left: Vec<Value> = match kinds.get("AWS") {
        Some(Value::Array(names)) if names.iter().any(|name| is_dead(name, dead)) => names
            .iter()
            .filter(|name| !is_dead(name, dead))
            .cloned()
            .collect(),
        Some(name) if is_dead(name, dead) => Vec::new(),
        Some(_) | None => return Principal::Unchanged,
    };
    let mut fewer = kinds.clone();
    if left.is_empty() {
        fewer.remove("AWS");
    } else {
        fewer.insert("AWS".into(), Value::Array(left));
    }
    if fewer.is_empty() {
        Principal::Gone
    } else {
        Principal::Fewer(fewer)
    }
}

fn is_dead(name: &Value, dead: &BTreeSet<String>) -> bool {
    name.as_str()
        .is_some_and(|id| is_unique_id(id) && dead.contains(id))
}

/// Returns whether a principal is the unique ID of a role or a user.
pub fn is_unique_id(principal: &str) -> bool {
    (principal.starts_with("AROA") || principal.starts_with("AIDA"))
        && principal.len() >= 16
        && principal
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// The IDs that a document showed each time a write of it was refused, with the time of the first
/// refusal. Times count from any fixed moment, by a monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<String, Duration>);

impl Refusals {
    /// Records that a write was refused while the document showed these IDs. Returns those that are
    /// proven dead: they have been shown at every refusal since one at least [`PROVEN_AFTER`] ago.
    pub fn refused(&mut self, shown: &BTreeSet<String>, now: Duration) -> BTreeSet<String> {
        self.read(shown);
        for id in shown {
            self.0.entry(id.clone()).or_insert(now);
        }
        let proven = self
            .0
            .iter()
            .filter(|(_, first)| now.saturating_sub(**first) >= PROVEN_AFTER);
        proven.map(|(id, _)| id.clone()).collect()
    }

    /// Records that the document was read and shows these IDs. An ID that it no longer shows did
    /// not belong to a deleted principal.
    pub fn read(&mut self, shown: &BTreeSet<String>) {
        self.0.retain(|id, _| shown.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    const DEAD: &str = "AROADEADDEADDEADDEAD1";
    const OTHER: &str = "AIDAOTHEROTHEROTHER12";

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn document(statements: Value) -> Document {
        Document::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string())
            .unwrap()
    }

    fn cleaned(statements: Value) -> Cleaned {
        without(
            &document(statements),
            &[DEAD.to_owned()].into(),
            &installation(),
        )
    }

    #[rstest]
    #[case::beside_another_role(json!({"AWS": [DEAD, "arn:aws:iam::222222222222:role/alive"]}), json!({"AWS": ["arn:aws:iam::222222222222:role/alive"]}))]
    #[case::beside_an_id_that_is_not_proven(json!({"AWS": [DEAD, OTHER]}), json!({"AWS": [OTHER]}))]
    #[case::beside_a_service(json!({"AWS": DEAD, "Service": "ec2.amazonaws.com"}), json!({"Service": "ec2.amazonaws.com"}))]
    fn dead_id_beside_other_principal_is_removed(#[case] before: Value, #[case] after: Value) {
        let statement = |principal| json!([{"Sid": "S", "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"a": DEAD}}}]);
        let Cleaned {
            document: changed,
            originals,
        } = cleaned(statement(before.clone()));
        assert_eq!(changed, document(statement(after)));
        assert_eq!(originals, document(statement(before)).statements);
    }

    #[test]
    fn statement_for_dead_ids_only_is_dropped() {
        for principal in [
            json!({"AWS": DEAD}),
            json!({"AWS": [DEAD]}),
            json!({"AWS": [DEAD, DEAD]}),
        ] {
            let before =
                json!([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]);
            let Cleaned {
                document: changed,
                originals,
            } = cleaned(before.clone());
            assert!(changed.statements.is_empty());
            assert_eq!(originals, document(before).statements);
        }
    }

    #[rstest]
    #[case::a_deny(json!({"Effect": "Deny", "Principal": {"AWS": [DEAD, "222222222222"]}, "Action": "sts:AssumeRole"}))]
    #[case::a_deny_of_it_alone(json!({"Effect": "Deny", "Principal": {"AWS": DEAD}, "Action": "sts:AssumeRole"}))]
    #[case::not_principal(json!({"Effect": "Allow", "NotPrincipal": {"AWS": DEAD}, "Action": "sts:AssumeRole"}))]
    #[case::a_condition(json!({"Effect": "Allow", "Principal": "*", "Action": "a:b", "Condition": {"StringEquals": {"aws:userid": DEAD}}}))]
    #[case::another_id(json!({"Effect": "Allow", "Principal": {"AWS": OTHER}, "Action": "a:b"}))]
    #[case::another_kind(json!({"Effect": "Allow", "Principal": {"Federated": DEAD}, "Action": "a:b"}))]
    #[case::no_effect(json!({"Principal": {"AWS": DEAD}, "Action": "a:b"}))]
    #[case::not_a_list_of_texts(json!({"Effect": "Allow", "Principal": {"AWS": [{"a": DEAD}]}, "Action": "a:b"}))]
    #[case::ours(json!({"Sid": "RegistryGrants0123456789abcdef0123", "Effect": "Allow", "Principal": {"AWS": DEAD}, "Action": "a:b"}))]
    fn dead_id_elsewhere_is_kept(#[case] statement: Value) {
        let Cleaned {
            document: changed,
            originals,
        } = cleaned(json!([statement]));
        assert_eq!(
            (changed, originals),
            (document(json!([statement])), Vec::new())
        );
    }

    #[test]
    fn shown_ids_name_their_statement() {
        let ours = json!({"Sid": "RegistryGrants0123456789abcdef0123", "Effect": "Allow", "Principal": {"AWS": DEAD}});
        let named = json!({"Sid": "OldDeployer", "Effect": "Allow", "Principal": {"AWS": [DEAD, "222222222222"]}});
        let unnamed = json!({"Effect": "Deny", "NotPrincipal": {"AWS": OTHER}});
        let texts: Vec<String> = shown(&document(json!([ours, named, unnamed])), &installation())
            .into_iter()
            .map(|DeadId { statement, id }| format!("{statement} {id}"))
            .collect();
        assert_eq!(
            texts,
            [
                format!("statement 3 {OTHER}"),
                format!("statement `OldDeployer` {DEAD}")
            ]
        );
    }

    #[test]
    fn id_refused_twice_five_minutes_apart_is_proven_dead() {
        let (dead, none) = (BTreeSet::from([DEAD.to_owned()]), BTreeSet::new());
        let after = Duration::from_secs;
        let mut refusals = Refusals::default();
        assert_eq!(refusals.refused(&dead, after(0)), none);
        assert_eq!(refusals.refused(&dead, after(299)), none);
        assert_eq!(refusals.refused(&dead, after(300)), dead);
        assert_eq!(
            refusals.refused(&none, after(301)),
            none,
            "a role that was only just created"
        );
        assert_eq!(refusals.refused(&dead, after(302)), none, "it begins again");
        assert_eq!(refusals.refused(&dead, after(602)), dead);
    }

    #[test]
    fn ids_are_proven_dead_one_by_one() {
        let start = Duration::from_secs(7);
        let mut refusals = Refusals::default();
        refusals.refused(&[DEAD.to_owned()].into(), start);
        let both = BTreeSet::from([DEAD.to_owned(), OTHER.to_owned()]);
        assert_eq!(
            refusals.refused(&both, start + PROVEN_AFTER),
            [DEAD.to_owned()].into()
        );
        assert_eq!(refusals.refused(&both, start + PROVEN_AFTER * 2), both);
    }

    fn some_principals() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            DEAD,
            OTHER,
            "222222222222",
            "arn:aws:iam::222222222222:role/alive",
        ]);
        prop_oneof![
            prop::collection::vec(name.clone(), 0..4).prop_map(|names| json!({"AWS": names})),
            prop::collection::vec(name, 1..3)
                .prop_map(|names| json!({"AWS": names, "Service": "ec2.amazonaws.com"})),
            Just(json!("*")),
            Just(json!({"Service": "ec2.amazonaws.com"})),
        ]
    }

    fn some_statement() -> impl Strategy<Value = Value> {
        (
            some_principals(),
            prop::sample::select(vec!["Allow", "Deny"]),
            prop::sample::select(vec!["Principal", "NotPrincipal"]),
        )
            .prop_map(|(principal, effect, key)| json!({"Effect": effect, key: principal, "Action": "sts:AssumeRole"}))
    }

    proptest! {
        /// Checks that no living principal loses or gains access.
        #[test]
        fn removing_dead_ids_keeps_access_of_living_principals(statements in prop::collection::vec(some_statement(), 0..5)) {
            let before = document(json!(statements));
            let Cleaned { document: after, originals } = without(&before, &[DEAD.to_owned()].into(), &installation());
            let living = |document: &Document| -> Vec<String> {
                let texts = document.statements.iter().map(|statement| {
                    let mut text = Value::Object(statement.0.clone());
                    if statement.0.get("Effect").and_then(Value::as_str) == Some("Allow")
                        && let Some(Value::Array(names)) = text.get_mut("Principal").and_then(|p| p.get_mut("AWS"))
                    {
                        names.retain(|name| name != DEAD);
                    }
                    text
                });
                let empty = json!({"AWS": []});
                // A list that was empty before, or names only dead IDs, grants no access.
                let kept = texts.filter(|text| text.get("Principal") != Some(&empty));
                let kept = kept.map(|mut text| {
                    if let Some(kinds) = text.get_mut("Principal").and_then(Value::as_object_mut)
                        && kinds.get("AWS") == Some(&json!([]))
                    {
                        kinds.remove("AWS");
                    }
                    text.to_string()
                });
                kept.collect()
            };
            prop_assert_eq!(living(&before), living(&after));
            let changed = before.statements.iter().filter(|statement| !after.statements.contains(statement)).count();
            prop_assert_eq!(changed, originals.len());
        }
    }
}
