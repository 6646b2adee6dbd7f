//! Steps: their effect, and the role after them.

use super::drift::{changed_role, our_tags};
use super::iam::Iam;
use super::resources::{Cluster, grant, grant_with_plain_role, now, owner};
use crate::grant::desired::DesiredRole;
use crate::grant::diff::{ChangeEffect, Step, registry_role, without_registry_role};
use crate::grant::observed::Role;
use crate::policy::{Document, ParseError};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};

#[rstest]
#[case::delete(Step::DeleteRole { role: "r".into() }, ChangeEffect::Remove, true)]
#[case::untag(Step::UntagRole { role: "r".into(), keys: BTreeSet::new() }, ChangeEffect::Change, true)]
#[case::tag(Step::TagRole { role: "r".into(), tags: BTreeMap::new() }, ChangeEffect::Change, false)]
#[case::attach(Step::AttachPolicy { role: "r".into(), arn: "a".into() }, ChangeEffect::Create, false)]
fn only_steps_that_take_away_are_done_by_absence(
    #[case] step: Step,
    #[case] effect: ChangeEffect,
    #[case] done: bool,
) {
    assert_eq!(
        (step.effect(None), step.is_done_by_absence()),
        (effect, done)
    );
}

fn is_same_document(
    one: &Result<Document, ParseError>,
    other: &Result<Document, ParseError>,
) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.same_meaning(other),
        (one, other) => one == other,
    }
}

/// Compares roles, and their policies by meaning, because IAM rewrites them.
fn is_same(one: &Role, other: &Role) -> bool {
    let with_same_policies = Role {
        trust: one.trust.clone(),
        inline: one.inline.clone(),
        ..other.clone()
    };
    *one == with_same_policies
        && is_same_document(&one.trust, &other.trust)
        && one.inline.keys().eq(other.inline.keys())
        && one
            .inline
            .iter()
            .all(|(name, document)| is_same_document(document, &other.inline[name]))
}

/// Applies steps to IAM and to the role that was read before, which must stay the same.
fn applied(iam: &mut Iam, name: &str, steps: Vec<Step>) {
    let mut role = iam.roles.get(name).cloned();
    for step in steps {
        iam.apply(std::slice::from_ref(&step));
        let stored = iam.roles.get(name);
        let made = stored.map(|role| (role.arn.as_str(), role.id.as_str()));
        role = step.apply_to(role, made);
        match (&role, stored) {
            (Some(role), Some(stored)) => {
                assert!(is_same(role, stored), "{step}: {role:#?}, {stored:#?}");
            }
            (None, None) => {}
            (role, stored) => panic!("{step}: {role:#?}, {stored:#?}"),
        }
    }
}

fn either_kind() -> impl Strategy<Value = DesiredRole> {
    let cluster = Cluster::of_the_article();
    let role = |resource| cluster.desired(&resource).registry_role.unwrap();
    prop_oneof![
        Just(role(grant(|_| {}))),
        Just(role(grant_with_plain_role(|_| {})))
    ]
}

proptest! {
    #[test]
    fn role_after_a_step_is_the_role_that_iam_has(
        (desired, role) in either_kind()
            .prop_flat_map(|desired| (Just(desired.clone()), proptest::option::of(changed_role(&desired, our_tags())))),
    ) {
        let name = desired.name.as_str();
        let mut iam = Iam::default().with_role(name, role.clone());
        applied(&mut iam, name, registry_role(&desired, role.as_ref(), &owner(), now()).unwrap());
        let (steps, _) = without_registry_role(name, iam.roles.get(name), &BTreeSet::new(), &owner());
        applied(&mut iam, name, steps);
        prop_assert!(iam.roles.is_empty());
    }
}
