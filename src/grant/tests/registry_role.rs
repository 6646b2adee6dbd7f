//! Registry account's role: exactly as desired, or untouched if it is not ours.

use super::drift::{as_made, changed_role, foreign_tags, our_tags, unreadable};
use super::iam::Iam;
use super::resources::{Cluster, REGISTRY, grant, grant_with_plain_role, now, owner, strings};
use crate::api::conditions::Reason;
use crate::grant::desired::DesiredRole;
use crate::grant::diff::{
    ENDED_SESSIONS, Step, ends_sessions, registry_role, without_registry_role,
};
use crate::grant::observed::Role;
use crate::policy::Document;
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeSet;

fn desired() -> DesiredRole {
    let cluster = Cluster::of_the_article().roles(REGISTRY, |roles| {
        roles.permissions_boundary = Some("arn:aws:iam::111111111111:policy/b".into())
    });
    cluster
        .desired(&grant_with_plain_role(|_| {}))
        .registry_role
        .unwrap()
}

fn desired_with_managed_policies() -> DesiredRole {
    Cluster::of_the_article()
        .desired(&grant(|_| {}))
        .registry_role
        .unwrap()
}

fn steps(desired: &DesiredRole, observed: Option<&Role>) -> Vec<Step> {
    registry_role(desired, observed, &owner(), now())
        .unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn removal(name: &str, observed: Option<&Role>) -> Vec<Step> {
    let (steps, held) = without_registry_role(name, observed, &BTreeSet::new(), &owner());
    assert_eq!(held, None);
    steps
}

/// Returns the steps, one per line, with a short name for our inline policy.
fn words(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&owner().policy_name(), "OURS")
}

/// Returns the steps that revert a change by hand.
fn after(change: impl FnOnce(&mut Role)) -> String {
    let mut role = as_made(&desired(), &owner());
    change(&mut role);
    words(&steps(&desired(), Some(&role)))
}

#[test]
fn missing_role_is_created_with_its_permissions() {
    insta::assert_snapshot!(words(&steps(&desired(), None)), @r"
    create role puller
    set policy OURS of role puller
    ");
    insta::assert_snapshot!(words(&steps(&desired_with_managed_policies(), None)), @r"
    create role ECS-AssumeRole-MIQDevOps
    attach arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser to role ECS-AssumeRole-MIQDevOps
    ");
}

#[test]
fn role_is_created_with_boundary_and_tags_in_one_call() {
    match steps(&desired(), None).remove(0) {
        Step::CreateRole {
            boundary,
            tags,
            path,
            max_session_seconds,
            trust,
            ..
        } => {
            assert_eq!(
                boundary.as_deref(),
                Some("arn:aws:iam::111111111111:policy/b")
            );
            assert!(owner().owns(&tags));
            assert_eq!(
                (path.as_str(), max_session_seconds),
                ("/registry-grants/", Some(3600))
            );
            assert!(trust.same_meaning(&Document::of([desired().trust])));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn correct_role_needs_no_step() {
    assert_eq!(after(|_| {}), "");
    let managed = desired_with_managed_policies();
    assert_eq!(steps(&managed, Some(&as_made(&managed, &owner()))), []);
}

#[test]
fn manual_changes_are_reverted() {
    let foreign = || {
        Document::parse(
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}"#,
        )
    };
    insta::assert_snapshot!(after(|role| role.trust = foreign()), @r"
    set policy registry-grants-ended-sessions of role puller
    set the trust policy of role puller
    ");
    insta::assert_snapshot!(after(|role| role.trust = unreadable()), @r"
    set policy registry-grants-ended-sessions of role puller
    set the trust policy of role puller
    ");
    insta::assert_snapshot!(after(|role| role.max_session_seconds = 43200), @"set the session length of role puller to 3600 s");
    insta::assert_snapshot!(after(|role| role.boundary = None), @"set the permissions boundary of role puller");
    insta::assert_snapshot!(after(|role| role.inline.clear()), @"set policy OURS of role puller");
    insta::assert_snapshot!(after(|role| drop(role.inline.insert("admin".into(), foreign()))), @"delete policy admin of role puller");
    insta::assert_snapshot!(after(|role| { role.attached.insert("arn:aws:iam::aws:policy/AdministratorAccess".into()); }), @"detach arn:aws:iam::aws:policy/AdministratorAccess from role puller");
    insta::assert_snapshot!(after(|role| drop(role.tags.remove("registrygrants.dev/grant-uid"))), @"tag role puller");
}

#[test]
fn foreign_tags_and_boundary_of_the_role_are_kept() {
    assert_eq!(
        after(|role| drop(role.tags.insert("cost-center".into(), "7".into()))),
        ""
    );
    let mut unbounded = desired();
    unbounded.boundary = None;
    assert_eq!(steps(&unbounded, Some(&as_made(&desired(), &owner()))), []);
}

#[test]
fn role_with_another_uid_is_tagged_again_after_a_restore() {
    let words = after(|role| {
        drop(
            role.tags
                .insert("registrygrants.dev/grant-uid".into(), "dead".into()),
        )
    });
    assert_eq!(words, "tag role puller");
}

#[test]
fn switch_from_managed_to_inline_never_interrupts_access() {
    let mut managed = desired_with_managed_policies();
    managed.name = "puller".into();
    insta::assert_snapshot!(words(&steps(&DesiredRole { boundary: None, ..desired() }, Some(&as_made(&managed, &owner())))), @r"
    set policy OURS of role puller
    detach arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser from role puller
    ");
}

#[test]
fn foreign_policies_are_removed_before_ours_are_set() {
    let steps = after(|role| {
        role.inline.clear();
        role.inline.insert("ten-kilobytes".into(), unreadable());
    });
    assert!(
        steps.find("delete policy ten-kilobytes") < steps.find("set policy"),
        "{steps}"
    );
}

#[test]
fn role_under_another_path_is_a_conflict() {
    let role = Role {
        path: "/old/".into(),
        ..as_made(&desired(), &owner())
    };
    let problem = registry_role(&desired(), Some(&role), &owner(), now()).unwrap_err();
    assert_eq!(problem.reason, Reason::Conflict);
    assert!(
        problem.message.contains("/old/") && problem.message.contains("/registry-grants/"),
        "{problem:?}"
    );
}

#[test]
fn foreign_role_is_a_conflict_that_names_its_owner() {
    let mut role = as_made(&desired(), &owner());
    role.tags.clear();
    let problem = registry_role(&desired(), Some(&role), &owner(), now()).unwrap_err();
    insta::assert_snapshot!(problem.message, @"role arn:aws:iam::111111111111:role/registry-grants/puller exists and was not created by this operator, so the operator does not change it. Choose another name in the grant, or remove the role");
}

#[rstest]
#[case::another_tenants("0123456789ab", "team-a/secret", "belongs to another grant, so")]
#[case::the_same_tenants("0123456789ab", "team-b/other", "belongs to grant team-b/other, so")]
#[case::another_clusters(
    "ffffffffffff",
    "team-b/other",
    "belongs to another installation of this operator, so"
)]
fn conflict_discloses_no_names_of_other_tenants(
    #[case] installation: &str,
    #[case] grant: &str,
    #[case] whose: &str,
) {
    let mut role = as_made(&desired(), &owner());
    role.tags.insert(
        "registrygrants.dev/installation".into(),
        installation.into(),
    );
    role.tags
        .insert("registrygrants.dev/grant".into(), grant.into());
    let message = registry_role(&desired(), Some(&role), &owner(), now())
        .unwrap_err()
        .message;
    assert!(message.contains(whose), "{message}");
    assert!(
        !message.contains("team-a") && !message.contains("ffffffffffff"),
        "{message}"
    );
}

#[test]
fn trust_policy_over_the_accounts_limit_is_never_written() {
    let many = (0..60)
        .map(|n| format!("roles-of-a-team/number-{n:03}/*"))
        .collect::<Vec<_>>();
    let asked = grant_with_plain_role(|spec| {
        spec.consumer.whole_account = None;
        spec.consumer.instance_role = None;
        spec.consumer.roles = Some(many);
    });
    let role = |cluster: Cluster| cluster.desired(&asked).registry_role.unwrap();
    let problem =
        registry_role(&role(Cluster::of_the_article()), None, &owner(), now()).unwrap_err();
    assert_eq!(problem.reason, Reason::PolicyTooLarge);
    assert!(
        problem
            .message
            .contains("trust policy of role puller in account 111111111111"),
        "{problem:?}"
    );
    let raised =
        Cluster::of_the_article().roles(REGISTRY, |roles| roles.max_trust_policy_characters = 4096);
    steps(&role(raised), None);
}

#[test]
fn inline_policy_over_the_limit_of_iam_is_never_written() {
    let everything = super::resources::registry_rule(|rule| rule.repositories = strings(["*"]));
    let asked = grant_with_plain_role(|spec| {
        spec.registry.repositories = (0..100)
            .map(|n| format!("{}{n}", "long/".repeat(40)))
            .collect();
    });
    let role = Cluster::of_the_article()
        .registry_rules([everything])
        .desired(&asked)
        .registry_role
        .unwrap();
    let problem = registry_role(&role, None, &owner(), now()).unwrap_err();
    assert_eq!(problem.reason, Reason::PolicyTooLarge);
    assert!(
        problem.message.contains("inline policy of role puller"),
        "{problem:?}"
    );
}

#[test]
fn role_is_emptied_before_its_deletion() {
    let mut role = as_made(&desired_with_managed_policies(), &owner());
    role.inline.insert("by-hand".into(), unreadable());
    let name = "ECS-AssumeRole-MIQDevOps";
    insta::assert_snapshot!(words(&removal(name, Some(&role))), @r"
    detach arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser from role ECS-AssumeRole-MIQDevOps
    delete policy by-hand of role ECS-AssumeRole-MIQDevOps
    delete role ECS-AssumeRole-MIQDevOps
    ");
    assert_eq!(removal(name, None), []);
}

fn either_kind() -> impl Strategy<Value = DesiredRole> {
    prop_oneof![Just(desired()), Just(desired_with_managed_policies())]
}

proptest! {
    #[test]
    fn drifted_role_is_exactly_right_after_one_pass(
        (desired, role) in either_kind().prop_flat_map(|desired| (Just(desired.clone()), changed_role(&desired, our_tags()))),
    ) {
        let mut iam = Iam::default().with_role(&desired.name, Some(role.clone()));
        let first = steps(&desired, Some(&role));
        iam.apply(&first);
        // If others could have assumed the role, their sessions are ended after that.
        if ends_sessions(&first) {
            let second = steps(&desired, Some(&iam.roles[&desired.name]));
            iam.apply(&second);
        }
        let made = &iam.roles[&desired.name];
        prop_assert_eq!(steps(&desired, Some(made)), []);
        prop_assert!(made.trust.as_ref().unwrap().same_meaning(&Document::of([desired.trust.clone()])));
        prop_assert_eq!(&made.attached, &desired.attached);
        let inline = made.inline.keys().filter(|name| *name != ENDED_SESSIONS);
        prop_assert!(inline.eq(desired.inline.iter().map(|(name, _)| name)));
        if let Some((name, right)) = &desired.inline {
            prop_assert!(made.inline[name].as_ref().unwrap().same_meaning(right));
        }
        prop_assert!(owner().owns(&made.tags));
        prop_assert!(desired.boundary.is_none() || made.boundary == desired.boundary);
    }

    #[test]
    fn drifted_role_can_be_deleted(
        (desired, role) in either_kind().prop_flat_map(|desired| (Just(desired.clone()), changed_role(&desired, our_tags()))),
    ) {
        let mut iam = Iam::default().with_role(&desired.name, Some(role.clone()));
        iam.apply(&removal(&desired.name, Some(&role)));
        prop_assert_eq!(iam, Iam::default());
    }

    #[test]
    fn role_without_our_tags_is_in_no_step(role in changed_role(&desired(), foreign_tags())) {
        let problem = registry_role(&desired(), Some(&role), &owner(), now()).unwrap_err();
        prop_assert_eq!(problem.reason, Reason::Conflict);
        prop_assert_eq!(removal("puller", Some(&role)), []);
    }
}
