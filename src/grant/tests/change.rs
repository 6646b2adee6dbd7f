//! Descriptions of changes.

use super::drift::as_made;
use super::resources::{Cluster, REGISTRY, grant_with_plain_role, owner};
use crate::grant::change::Change;
use crate::grant::diff::{ChangeEffect, Step};
use crate::policy::{Document, Statement};

fn change(step: &Step) -> Change {
    let desired = Cluster::of_the_article()
        .desired(&grant_with_plain_role(|_| {}))
        .registry_role
        .unwrap();
    let mut role = as_made(&desired, &owner());
    let stranger =
        Statement::allow(["sts:AssumeRole"]).to_principals(["arn:aws:iam::333333333333:root"]);
    role.trust = Ok(Document::of([stranger]));
    Change::of_step(&REGISTRY.parse().unwrap(), step, Some(&role))
}

#[test]
fn drift_is_described_with_the_previous_state() {
    let trust = Document::of([
        Statement::allow(["sts:AssumeRole"]).to_principals(["arn:aws:iam::222222222222:root"])
    ]);
    let reported = change(&Step::UpdateTrust {
        role: "puller".into(),
        trust,
    });
    assert_eq!(reported.effect, ChangeEffect::Change);
    let words = reported.with_what_was_found();
    assert!(
        words.starts_with("set the trust policy of role puller in account 111111111111 (found: "),
        "{words}"
    );
    assert!(words.contains("arn:aws:iam::333333333333:root"), "{words}");
}

#[test]
fn previous_state_is_described_briefly() {
    let many = (0..500)
        .map(|number| format!("arn:aws:iam::{:012}:root", number))
        .collect::<Vec<_>>();
    let statements = many
        .iter()
        .map(|arn| Statement::allow(["sts:AssumeRole"]).to_principals([arn]));
    let before = Document::of(statements);
    let desired = Cluster::of_the_article()
        .desired(&grant_with_plain_role(|_| {}))
        .registry_role
        .unwrap();
    let mut role = as_made(&desired, &owner());
    role.trust = Ok(before);
    let step = Step::UpdateTrust {
        role: "puller".into(),
        trust: Document::of([]),
    };
    let words =
        Change::of_step(&REGISTRY.parse().unwrap(), &step, Some(&role)).with_what_was_found();
    assert!(words.len() < 600, "{words}");
}
