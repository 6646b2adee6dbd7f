//! Sessions that a registry role issued to principals that may no longer assume it.

use super::drift::as_made;
use super::iam::Iam;
use super::resources::{Cluster, grant_with_plain_role, now, owner, strings};
use crate::grant::desired::DesiredRole;
use crate::grant::diff::{
    ENDED_SESSIONS, Step, ends_sessions, ends_sessions_again_in, registry_role,
};
use crate::grant::observed::Role;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use std::time::Duration;

type Spec = crate::api::grant::CrossAccountRegistryGrantSpec;

fn desired(change: fn(&mut Spec)) -> DesiredRole {
    Cluster::of_the_article()
        .desired(&grant_with_plain_role(change))
        .registry_role
        .unwrap()
}

fn roles(spec: &mut Spec, names: &[&str]) {
    spec.consumer.whole_account = None;
    spec.consumer.instance_role = None;
    spec.consumer.roles = Some(names.iter().map(|name| (*name).to_owned()).collect());
}

/// Returns the role after one pass at this moment, and whether the pass asks for another.
fn pass(role: &Role, desired: &DesiredRole, at: Timestamp) -> (Role, bool) {
    let steps = registry_role(desired, Some(role), &owner(), at).unwrap();
    let mut iam = Iam::default().with_role(&desired.name, Some(role.clone()));
    iam.apply(&steps);
    (
        iam.roles.remove(&desired.name).unwrap(),
        ends_sessions(&steps),
    )
}

fn ended(role: &Role) -> Option<String> {
    let document = role.inline.get(ENDED_SESSIONS)?.as_ref().unwrap();
    let moment = document.statements[0]
        .condition("DateLessThan", "aws:TokenIssueTime")
        .unwrap();
    Some(
        moment
            .as_str()
            .or_else(|| moment[0].as_str())
            .unwrap()
            .to_owned(),
    )
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

#[rstest]
#[case::from_the_account_to_a_role(|_: &mut Spec| {}, |spec: &mut Spec| roles(spec, &["ci/web"]))]
#[case::from_two_roles_to_one(|spec: &mut Spec| roles(spec, &["ci/web", "ci/old"]), |spec: &mut Spec| roles(spec, &["ci/web"]))]
#[case::from_a_pattern_to_a_role(|spec: &mut Spec| roles(spec, &["ci/*"]), |spec: &mut Spec| roles(spec, &["ci/web"]))]
#[case::an_external_id_is_asked_now(|_: &mut Spec| {}, |spec: &mut Spec| spec.registry.role.as_mut().unwrap().external_id = Some("secret".into()))]
fn narrowed_trust_ends_sessions_of_removed_principals(
    #[case] before: fn(&mut Spec),
    #[case] after: fn(&mut Spec),
) {
    let role = as_made(&desired(before), &owner());
    let after = desired(after);
    let (narrowed, again) = pass(&role, &after, now());
    assert!(again);
    // Sessions issued while the trust policy was changed end, too.
    let (done, again) = pass(&narrowed, &after, later(7));
    assert!(!again);
    assert_eq!(ended(&done).as_deref(), Some("2026-01-01T12:00:08Z"));
    let statement = &done.inline[ENDED_SESSIONS].as_ref().unwrap().statements[0];
    assert!(statement.is_deny());
    assert_eq!(
        pass(&done, &after, later(67)),
        (done.clone(), false),
        "the narrowed policy is on its way"
    );
    // Sessions issued while the narrowed policy was on its way to all of IAM end as well.
    assert_eq!(
        ends_sessions_again_in(&done, later(8)),
        Some(Duration::from_secs(60))
    );
    let (again, _) = pass(&done, &after, later(68));
    assert_eq!(ended(&again).as_deref(), Some("2026-01-01T12:01:09Z"));
    assert_eq!(ends_sessions_again_in(&again, later(68)), None);
    assert_eq!(
        pass(&again, &after, later(3600)),
        (again.clone(), false),
        "it stays as it is"
    );
}

/// The role itself records what is pending, so that another process can continue.
#[test]
fn second_end_of_sessions_survives_a_restart() {
    let after = desired(|spec: &mut Spec| roles(spec, &["ci/web"]));
    let (narrowed, _) = pass(
        &as_made(&desired(|_: &mut Spec| {}), &owner()),
        &after,
        now(),
    );
    let (once, _) = pass(&narrowed, &after, later(1));
    for minutes in [2, 60, 11 * 60] {
        let (twice, _) = pass(&once, &after, later(60 * minutes));
        assert!(ended(&twice) > ended(&once), "{minutes}");
        assert_eq!(
            pass(&twice, &after, later(60 * minutes + 600)),
            (twice.clone(), false)
        );
    }
    assert_eq!(
        pass(&once, &after, later(13 * 3600)).0,
        as_made(&after, &owner()),
        "no such session can live any more"
    );
}

#[test]
fn moment_far_in_the_future_is_corrected() {
    let after = desired(|spec: &mut Spec| roles(spec, &["ci/web"]));
    let (narrowed, _) = pass(
        &as_made(&desired(|_: &mut Spec| {}), &owner()),
        &after,
        now(),
    );
    // Written by a clock that is an hour ahead.
    let (ahead, _) = pass(&narrowed, &after, later(3600));
    let (right, _) = pass(&ahead, &after, later(10));
    assert_eq!(ended(&right).as_deref(), Some("2026-01-01T12:00:11Z"));
}

#[rstest]
#[case::from_a_role_to_the_account(|spec: &mut Spec| roles(spec, &["ci/web"]), |_: &mut Spec| {})]
#[case::from_one_role_to_two(|spec: &mut Spec| roles(spec, &["ci/web"]), |spec: &mut Spec| roles(spec, &["ci/web", "ci/new"]))]
#[case::no_external_id_is_asked_any_more(|spec: &mut Spec| spec.registry.role.as_mut().unwrap().external_id = Some("secret".into()), |_: &mut Spec| {})]
#[case::less_access(|_: &mut Spec| {}, |spec: &mut Spec| spec.access = crate::api::grant::Access::Pull)]
#[case::other_repositories(|_: &mut Spec| {}, |spec: &mut Spec| spec.registry.regions = strings(["eu-west-1"]))]
fn unchanged_principals_keep_their_sessions(
    #[case] before: fn(&mut Spec),
    #[case] after: fn(&mut Spec),
) {
    let (role, again) = pass(&as_made(&desired(before), &owner()), &desired(after), now());
    assert!(!again);
    assert_eq!(ended(&role), None);
}

#[test]
fn interrupted_pass_is_completed_by_the_next() {
    let after = desired(|spec: &mut Spec| roles(spec, &["ci/web"]));
    let before = as_made(&desired(|_: &mut Spec| {}), &owner());
    let steps = registry_role(&after, Some(&before), &owner(), now()).unwrap();
    for done in 0..steps.len() {
        let mut iam = Iam::default().with_role(&after.name, Some(before.clone()));
        iam.apply(&steps[..done]);
        let (first, again) = pass(&iam.roles[&after.name], &after, later(60));
        let role = if again {
            pass(&first, &after, later(61)).0
        } else {
            first
        };
        assert!(
            ended(&role).unwrap().as_str() >= "2026-01-01T12:01:00Z",
            "{done}: {role:?}"
        );
    }
}

#[test]
fn session_policy_is_deleted_after_all_sessions_expired() {
    let after = desired(|spec: &mut Spec| roles(spec, &["ci/web"]));
    let (narrowed, _) = pass(
        &as_made(&desired(|_: &mut Spec| {}), &owner()),
        &after,
        now(),
    );
    let (once, _) = pass(&narrowed, &after, now());
    let (done, _) = pass(&once, &after, later(120));
    let hours = |hours: i64| later(3600 * hours);
    assert!(ended(&pass(&done, &after, hours(11)).0).is_some());
    assert_eq!(pass(&done, &after, hours(13)).0, as_made(&after, &owner()));
}

#[test]
fn unreadable_session_policy_ends_all_sessions() {
    let after = desired(|_: &mut Spec| {});
    let mut role = as_made(&after, &owner());
    role.inline
        .insert(ENDED_SESSIONS.into(), super::drift::unreadable());
    assert_eq!(
        ended(&pass(&role, &after, now()).0).as_deref(),
        Some("2026-01-01T12:00:01Z")
    );
}

#[test]
fn removed_boundary_is_restored_before_any_policy() {
    let mut after = desired(|spec| roles(spec, &["ci/web"]));
    after.boundary = Some("arn:aws:iam::111111111111:policy/b".into());
    let steps = registry_role(
        &after,
        Some(&as_made(&desired(|_| {}), &owner())),
        &owner(),
        now(),
    )
    .unwrap();
    assert!(matches!(steps[0], Step::PutBoundary { .. }), "{steps:?}");
}
