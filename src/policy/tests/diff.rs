//! Differences, case by case. Tests of the command line cover how they are shown to people.

use crate::policy::Document;
use crate::policy::diff::{Alone, Changed, DiffPart, Difference, Name, Term};
use serde_json::{Value, json};

fn between(left: Value, right: Value) -> Difference {
    let document = |statements: Value| {
        Document::parse(&json!({ "Statement": statements }).to_string()).unwrap()
    };
    Difference::between(&document(left), &document(right))
}

fn texts(words: &[&str]) -> std::collections::BTreeSet<Term> {
    words
        .iter()
        .map(|word| Term::Text((*word).to_owned()))
        .collect()
}

fn part(place: &[&str], removed: &[&str], added: &[&str]) -> DiffPart {
    let place = place.iter().map(|name| (*name).to_owned()).collect();
    DiffPart {
        place,
        removed: texts(removed),
        added: texts(added),
    }
}

fn name(position: usize, sid: Option<&str>) -> Name {
    Name {
        position,
        sid: sid.map(String::from),
    }
}

#[test]
fn changed_statement_is_matched_by_sid_and_shown_by_parts() {
    let left = json!([
        {"Sid": "B", "Action": "b:B"},
        {"Sid": "A", "Principal": {"AWS": ["x", "111111111111"]}, "Condition": {"StringLike": {"aws:SourceArn": ["y", "z"]}}},
    ]);
    let right = json!([
        {"Sid": "A", "Principal": {"AWS": ["w", "111111111111"]}, "Condition": {"StringLike": {"aws:SourceArn": "z"}}},
        {"Action": ["B:b"]},
    ]);
    let Difference {
        document,
        changed,
        only_left,
        only_right,
        same,
    } = between(left, right);
    assert_eq!(
        (document, only_left, only_right),
        (Vec::new(), Vec::new(), Vec::new())
    );
    let parts = vec![
        part(&["Principal", "AWS"], &["x"], &["w"]),
        part(&["Condition", "StringLike", "aws:SourceArn"], &["y"], &[]),
    ];
    assert_eq!(
        changed,
        [Changed {
            left: name(2, Some("A")),
            right: name(1, Some("A")),
            parts
        }]
    );
    assert_eq!(
        (&same[0].left, &same[0].right),
        (&vec![name(1, Some("B"))], &vec![name(2, None)])
    );
    assert!(same[0].is_renamed());
}

#[test]
fn statement_without_a_namesake_is_shown_in_full() {
    let difference = between(
        json!({"Action": ["s3:Get", "EC2:*"]}),
        json!([{"Sid": "x", "NotAction": "s3:Get"}]),
    );
    let left = Alone {
        name: name(1, None),
        parts: vec![part(&["Action"], &["EC2:*", "s3:Get"], &[])],
    };
    let right = Alone {
        name: name(1, Some("x")),
        parts: vec![part(&["NotAction"], &[], &["s3:Get"])],
    };
    assert_eq!(
        (difference.only_left, difference.only_right),
        (vec![left], vec![right])
    );
}

#[test]
fn equal_meaning_is_matched_before_equal_sid() {
    let left = json!([{"Sid": "x", "Action": "a:A"}, {"Sid": "y", "Action": "b:B"}]);
    let right = json!([{"Sid": "y", "Action": "a:A"}, {"Sid": "x", "Action": "b:B"}]);
    let difference = between(left, right);
    assert!(difference.is_empty() && difference.same.iter().all(|same| same.is_renamed()));
}

#[test]
fn statements_with_one_sid_are_matched_in_order() {
    let left = json!([{"Sid": "x", "Action": "a:A"}, {"Sid": "x", "Action": "b:B"}, {"Sid": "x", "Action": "c:C"}]);
    let right = json!([{"Sid": "x", "Action": "d:D"}, {"Sid": "x", "Action": "e:E"}]);
    let Difference {
        changed, only_left, ..
    } = between(left, right);
    let pairs: Vec<(usize, usize)> = changed
        .iter()
        .map(|c| (c.left.position, c.right.position))
        .collect();
    assert_eq!(
        (pairs, only_left[0].name.position),
        (vec![(1, 1), (2, 2)], 3)
    );
}

#[test]
fn undocumented_form_is_shown_as_json() {
    let difference = between(
        json!({"Sid": 1, "Resource": []}),
        json!({"Sid": 1, "Resource": [1]}),
    );
    let json = |text: &str| std::collections::BTreeSet::from([Term::Json(text.into())]);
    let parts = &difference.changed[0].parts;
    assert_eq!(
        (&parts[0].removed, &parts[0].added),
        (&json("[]"), &json("[1]"))
    );
    assert_eq!(difference.changed[0].left.sid.as_deref(), Some("1"));
}

#[test]
fn version_is_shown_only_where_it_changes_the_meaning() {
    let document = |version: &str, resource: &str| {
        Document::parse(
            &json!({ "Version": version, "Statement": { "Resource": resource } }).to_string(),
        )
        .unwrap()
    };
    let between = |left: (&str, &str), right: (&str, &str)| {
        Difference::between(&document(left.0, left.1), &document(right.0, right.1)).document
    };
    let (old, new) = ("2008-10-17", "2012-10-17");
    assert_eq!(between((old, "x"), (new, "x")), []);
    assert_eq!(
        between((old, "${x}"), (new, "${x}")),
        [part(&["Version"], &[old], &[new])]
    );
    assert_eq!(between((old, "${x}"), (old, "x")), []);
    assert_eq!(
        between(("2031-01-01", "x"), (new, "x")),
        [part(&["Version"], &["2031-01-01"], &[new])]
    );
}

/// Matching by position in a list would take minutes for this.
#[test]
fn many_statements_are_matched_quickly() {
    let many = |action: &str| {
        let statement =
            |n: usize| json!({ "Sid": (n % 2).to_string(), "Action": format!("{action}:{n}") });
        (0..10_000).map(statement).collect::<Value>()
    };
    let difference = between(many("a"), many("b"));
    assert_eq!(difference.changed.len(), 10_000);
}
