//! Instance role of the consumer and its profile: our parts are corrected, and foreign parts are
//! never touched.

use super::drift::{changed_profile, changed_role, foreign_tags, our_tags, unreadable};
use super::iam::Iam;
use super::resources::{CONSUMER, Cluster, grant, owner};
use crate::api::conditions::Reason;
use crate::api::grant::OnDelete;
use crate::grant::Problem;
use crate::grant::desired::DesiredInstance;
use crate::grant::diff::{Departure, Sharers, Step, instance, without_instance};
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::policy::{Document, Statement};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ROLE: &str = "miq-instance";
const PROFILE: &str = "nodes";

fn desired() -> DesiredInstance {
    let cluster = Cluster::of_the_article().roles(CONSUMER, |roles| {
        roles.permissions_boundary = Some("arn:aws:iam::222222222222:policy/b".into())
    });
    let asked = grant(|spec| {
        spec.consumer
            .instance_role
            .as_mut()
            .unwrap()
            .instance_profile = Some(PROFILE.into());
    });
    cluster.desired(&asked).instance.unwrap()
}

fn steps(observed: &Instance) -> Vec<Step> {
    instance(&desired(), observed, &owner(), &Sharers::default())
        .unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn removed(observed: &Instance) -> (Vec<Step>, Option<Problem>) {
    without_instance(
        ROLE,
        Some(PROFILE),
        observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete: OnDelete::DeleteRole,
        },
    )
}

fn removal(observed: &Instance) -> Vec<Step> {
    let (steps, held) = removed(observed);
    assert_eq!(held, None);
    steps
}

/// Returns the steps, one per line, with a short name for our inline policy.
fn words(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&owner().policy_name(), "OURS")
}

/// Returns an instance as it is right after its creation, with a change.
fn made(change: impl FnOnce(&mut Role, &mut InstanceProfile)) -> Instance {
    let mut iam = Iam::default();
    iam.apply(&steps(&Instance::default()));
    let mut instance = iam.instance(ROLE, PROFILE);
    change(
        instance.role.as_mut().unwrap(),
        instance.profile.as_mut().unwrap(),
    );
    instance
}

fn with_foreign_statement(trust: &Document) -> Document {
    let statement = Statement::allow(["sts:AssumeRole"]).to_service("ssm.amazonaws.com");
    trust.clone().with([statement])
}

#[test]
fn role_and_profile_exist_before_the_role_is_added() {
    insta::assert_snapshot!(words(&steps(&Instance::default())), @r"
    create role miq-instance
    set policy OURS of role miq-instance
    create instance profile nodes
    add role miq-instance to instance profile nodes
    ");
}

#[test]
fn correct_role_needs_no_step() {
    assert_eq!(steps(&made(|_, _| {})), []);
}

#[test]
fn foreign_parts_of_the_role_are_kept() {
    let observed = made(|role, profile| {
        role.trust = role
            .trust
            .as_ref()
            .map(with_foreign_statement)
            .map_err(Clone::clone);
        role.attached
            .insert("arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore".into());
        role.inline.insert("logs".into(), unreadable());
        role.max_session_seconds = 43200;
        role.tags.insert("cost-center".into(), "7".into());
        profile.tags.insert("cost-center".into(), "7".into());
    });
    assert_eq!(steps(&observed), []);
}

#[test]
fn manual_changes_to_our_parts_are_reverted() {
    let after = |change: fn(&mut Role, &mut InstanceProfile)| words(&steps(&made(change)));
    insta::assert_snapshot!(after(|role, _| role.inline.clear()), @"set policy OURS of role miq-instance");
    insta::assert_snapshot!(after(|role, _| role.boundary = None), @"set the permissions boundary of role miq-instance");
    insta::assert_snapshot!(after(|_, profile| profile.roles.clear()), @"add role miq-instance to instance profile nodes");
    insta::assert_snapshot!(after(|_, profile| profile.roles = ["other".to_owned()].into()), @r"
    remove role other from instance profile nodes
    add role miq-instance to instance profile nodes
    ");
    insta::assert_snapshot!(after(|role, _| {
        role.trust = Ok(Document::of([Statement::allow(["sts:AssumeRole"]).to_service("lambda.amazonaws.com")]));
    }), @"set the trust policy of role miq-instance");
}

#[test]
fn missing_trust_statement_is_added_to_foreign_ones() {
    let observed = made(|role, _| role.trust = Ok(with_foreign_statement(&Document::of([]))));
    match steps(&observed).as_slice() {
        [Step::UpdateTrust { trust, .. }] => {
            let right = with_foreign_statement(&Document::of([desired().role.trust]));
            assert!(trust.same_meaning(&right), "{trust}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unreadable_trust_policy_is_left_unchanged() {
    let observed = made(|role, _| role.trust = unreadable());
    assert_eq!(
        instance(&desired(), &observed, &owner(), &Sharers::default())
            .unwrap_err()
            .reason,
        Reason::UnreadablePolicy
    );
    let (steps, left) = removed(&observed);
    assert_eq!(
        words(&steps),
        "delete policy OURS of role miq-instance",
        "access goes all the same"
    );
    assert_eq!(
        left.map(|problem| problem.reason),
        Some(Reason::UnreadablePolicy)
    );
}

#[test]
fn role_without_other_users_is_deleted_with_its_profile() {
    insta::assert_snapshot!(words(&removal(&made(|_, _| {}))), @r"
    delete policy OURS of role miq-instance
    remove role miq-instance from instance profile nodes
    delete instance profile nodes
    delete role miq-instance
    ");
    assert_eq!(removal(&Instance::default()), []);
}

#[test]
fn role_with_other_users_loses_only_our_parts() {
    let attached = made(|role, _| {
        role.attached
            .insert("arn:aws:iam::aws:policy/ReadOnlyAccess".into());
    });
    let inline = made(|role, _| drop(role.inline.insert("logs".into(), unreadable())));
    for observed in [attached, inline] {
        let words = words(&removal(&observed));
        assert_eq!(words, "delete policy OURS of role miq-instance");
    }
    let trusted = made(|role, _| {
        role.trust = role
            .trust
            .as_ref()
            .map(with_foreign_statement)
            .map_err(Clone::clone)
    });
    insta::assert_snapshot!(words(&removal(&trusted)), @r"
    delete policy OURS of role miq-instance
    set the trust policy of role miq-instance
    ");
}

#[test]
fn foreign_profile_is_a_conflict() {
    let observed = made(|_, profile| profile.tags.clear());
    let problem = instance(&desired(), &observed, &owner(), &Sharers::default()).unwrap_err();
    assert_eq!(problem.reason, Reason::Conflict);
    assert!(
        problem
            .message
            .starts_with("instance profile arn:aws:iam::"),
        "{problem:?}"
    );
}

fn some_instance() -> impl Strategy<Value = Instance> {
    let desired = desired();
    let role = option::weighted(0.9, changed_role(&desired.role, our_tags()));
    let profile = option::weighted(0.9, changed_profile(ROLE, our_tags()));
    (role, profile).prop_map(|(role, profile)| Instance {
        role,
        profile,
        ..Instance::default()
    })
}

/// Returns an account with this instance and a role that is unrelated to it.
fn account(observed: &Instance) -> Iam {
    let other = made(|_, _| {}).role;
    Iam::default()
        .with_role(ROLE, observed.role.clone())
        .with_profile(PROFILE, observed.profile.clone())
        .with_role("someone-elses", other)
}

/// Returns the foreign parts of the role.
fn foreign_parts(role: &Role) -> impl PartialEq + std::fmt::Debug + use<> {
    let ours = owner().policy_name();
    let trust = role
        .trust
        .clone()
        .unwrap()
        .without_ours(&owner().installation);
    let inline: BTreeMap<_, _> = role
        .inline
        .clone()
        .into_iter()
        .filter(|(name, _)| *name != ours)
        .collect();
    let mut tags = role.tags.clone();
    tags.retain(|key, _| !key.starts_with("registrygrants.dev/"));
    (
        trust.meaning(),
        inline,
        role.attached.clone(),
        role.max_session_seconds,
        tags,
    )
}

proptest! {
    #[test]
    fn drifted_role_is_corrected_by_one_pass_keeping_foreign_parts(observed in some_instance()) {
        let mut iam = account(&observed);
        iam.apply(&steps(&observed));
        let made = iam.instance(ROLE, PROFILE);
        prop_assert_eq!(steps(&made), []);
        let role = made.role.unwrap();
        let ours: Vec<_> = role.trust.as_ref().unwrap().statements.iter().filter(|s| owner().installation.owns(s)).collect();
        prop_assert_eq!(ours.len(), 1);
        prop_assert_eq!(ours[0].meaning(), desired().role.trust.meaning());
        prop_assert_eq!(made.profile.unwrap().roles, [ROLE.to_owned()].into());
        if let Some(before) = &observed.role {
            prop_assert_eq!(foreign_parts(before), foreign_parts(&role));
        }
    }

    #[test]
    fn drifted_role_loses_our_parts_and_keeps_foreign_ones(observed in some_instance()) {
        let mut iam = account(&observed);
        iam.apply(&removal(&observed));
        prop_assert_eq!(removal(&iam.instance(ROLE, PROFILE)), []);
        prop_assert!(iam.roles.contains_key("someone-elses"));
        let after = iam.instance(ROLE, PROFILE);
        let ours = owner().policy_name();
        let used_by_others = observed.role.as_ref().filter(|role| {
            !role.attached.is_empty()
                || role.inline.keys().any(|name| *name != ours)
                || role.trust.as_ref().unwrap().statements.iter().any(|s| !owner().installation.owns(s))
        });
        match used_by_others {
            None => prop_assert_eq!(after, Instance::default()),
            Some(before) => {
                let role = after.role.unwrap();
                prop_assert_eq!(foreign_parts(before), foreign_parts(&role));
                prop_assert!(!role.inline.contains_key(&ours));
                prop_assert_eq!(after.profile, observed.profile);
            }
        }
    }

    #[test]
    fn untagged_role_is_not_managed_and_loses_only_our_parts(
        role in changed_role(&desired().role, foreign_tags()),
        profile in option::of(changed_profile(ROLE, foreign_tags())),
    ) {
        let observed = Instance { role: Some(role), profile, ..Instance::default() };
        // If our policy is on the role, the role was shared before, and the grant that its tags
        // name was lost.
        let mut never_ours = observed.clone();
        never_ours.role.as_mut().unwrap().inline.remove(&owner().policy_name());
        let problem = instance(&desired(), &never_ours, &owner(), &Sharers::default()).unwrap_err();
        prop_assert_eq!(problem.reason, Reason::Conflict);
        let mut iam = account(&observed);
        iam.apply(&removal(&observed));
        let after = iam.instance(ROLE, PROFILE);
        prop_assert_eq!(foreign_parts(observed.role.as_ref().unwrap()), foreign_parts(&after.role.unwrap()));
        prop_assert_eq!(after.profile, observed.profile);
    }

    #[test]
    fn profile_without_our_tags_is_in_no_step(
        role in option::of(changed_role(&desired().role, our_tags())),
        profile in changed_profile("someone-elses", foreign_tags()),
    ) {
        let observed = Instance { role, profile: Some(profile), ..Instance::default() };
        prop_assert_eq!(instance(&desired(), &observed, &owner(), &Sharers::default()).unwrap_err().reason, Reason::Conflict);
        let profiles = |step: &Step| {
            matches!(step, Step::TagProfile { .. } | Step::AddRoleToProfile { .. } | Step::RemoveRoleFromProfile { .. } | Step::DeleteProfile { .. })
        };
        prop_assert!(!removal(&observed).iter().any(profiles));
    }
}
