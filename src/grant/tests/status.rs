//! Texts of the status, by example.

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::grant::{
    Applied, ConsumerStatus, CrossAccountRegistryGrantStatus as Status, RegistryStatus,
};
use crate::grant::Problem;
use crate::grant::status::{Outcome, RepositoryOutcome, StatusPart, progressing};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};

pub fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_700_000_000 + second).unwrap())
}

pub fn applied() -> Applied {
    Applied {
        spec: serde_json::json!({ "access": "Pull" }),
        repositories: Vec::new(),
        registry_roles: vec!["puller".into()],
        instance_roles: Vec::new(),
    }
}

/// Returns the outcome of a grant that is entirely in place, with a change.
pub fn outcome(change: impl FnOnce(&mut Outcome)) -> Outcome {
    let in_place = |what: &str| StatusPart::InPlace(format!("{what} in place"));
    let mut outcome = Outcome {
        revoking: false,
        refusal: Vec::new(),
        accounts: in_place("accounts"),
        role: in_place("role"),
        consumer: in_place("consumer"),
        repositories: in_place("repositories"),
        each_repository: repositories([("web", Ok(()))]),
        registry_status: RegistryStatus {
            hosts: vec!["111111111111.dkr.ecr.us-east-1.amazonaws.com".into()],
            ..RegistryStatus::default()
        },
        consumer_status: ConsumerStatus::default(),
        applied: Some(applied()),
        replaces: BTreeSet::new(),
        handled: None,
        no_session: Vec::new(),
        access: Vec::new(),
        pending: None,
        summary: "account 222222222222 has Pull access".into(),
    };
    change(&mut outcome);
    outcome
}

pub fn repositories(
    each: impl IntoIterator<Item = (impl Into<String>, Result<(), Problem>)>,
) -> BTreeMap<(String, String), RepositoryOutcome> {
    let outcome = |result| match result {
        Ok(()) => RepositoryOutcome {
            result,
            ..RepositoryOutcome::failed(problem(Reason::Settling))
        },
        Err(problem) => RepositoryOutcome::failed(problem),
    };
    each.into_iter()
        .map(|(name, result)| (("us-east-1".to_owned(), name.into()), outcome(result)))
        .collect()
}

pub fn problem(reason: Reason) -> Problem {
    Problem::new(reason, format!("{reason} happened"))
}

pub fn condition(status: &Status, kind: ConditionType) -> Option<&Condition> {
    conditions::find(&status.conditions, kind)
}

pub fn told(outcome: &Outcome) -> Status {
    outcome.status(None, Some(1), &at(0))
}

/// Returns the conditions, one per line.
fn lines(status: &Status) -> String {
    let line = |c: &Condition| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message);
    status
        .conditions
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_grant_that_holds_says_so_in_every_condition() {
    insta::assert_snapshot!(lines(&told(&outcome(|_| {}))), @r"
    Ready=True Granted: account 222222222222 has Pull access
    AccountsReady=True CredentialsVerified: accounts in place
    RoleReady=True InPlace: role in place
    RepositoryPoliciesReady=True InPlace: repositories in place
    ConsumerReady=True InPlace: consumer in place
    ");
}

#[test]
fn a_consumer_that_is_not_managed_does_not_hold_readiness_back() {
    let status = told(&outcome(|outcome| {
        outcome.consumer = StatusPart::NotManaged("there is no AWSAccount 222222222222".into());
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=True RegistrySideReady: account 222222222222 has Pull access
    AccountsReady=True CredentialsVerified: accounts in place
    RoleReady=True InPlace: role in place
    RepositoryPoliciesReady=True InPlace: repositories in place
    ConsumerReady=Unknown NotManaged: there is no AWSAccount 222222222222
    ");
}

#[test]
fn one_accounts_failure_does_not_hide_the_others() {
    let status = told(&outcome(|outcome| {
        outcome.consumer = StatusPart::Failed(problem(Reason::AccessDenied));
        outcome.each_repository = repositories([("web", Err(problem(Reason::UnreadablePolicy)))]);
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False AccessDenied: AccessDenied happened; UnreadablePolicy happened
    AccountsReady=True CredentialsVerified: accounts in place
    RoleReady=True InPlace: role in place
    RepositoryPoliciesReady=False UnreadablePolicy: UnreadablePolicy happened
    ConsumerReady=False AccessDenied: AccessDenied happened
    Stalled=True AccessDenied: AccessDenied happened; UnreadablePolicy happened
    ");
}

#[test]
fn what_was_not_tried_points_to_what_stopped_it() {
    let status = told(&outcome(|outcome| {
        let wrong = problem(Reason::WrongAccount);
        outcome.accounts = StatusPart::Failed(wrong.clone());
        outcome.role = StatusPart::Blocked(wrong.clone());
        outcome.repositories = StatusPart::Blocked(wrong);
        outcome.each_repository.clear();
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False WrongAccount: WrongAccount happened
    AccountsReady=False WrongAccount: WrongAccount happened
    RoleReady=Unknown WrongAccount: not tried, see AccountsReady
    RepositoryPoliciesReady=Unknown WrongAccount: not tried, see AccountsReady
    ConsumerReady=True InPlace: consumer in place
    Stalled=True WrongAccount: WrongAccount happened
    ");
}

/// Leftovers in the consumer account used to be reported for the registry role.
#[test]
fn what_could_not_be_revoked_is_reported_under_the_condition_that_it_belongs_to() {
    let status = told(&outcome(|outcome| {
        let left = &mut [problem(Reason::BlockedPolicy)];
        outcome.consumer = StatusPart::NotRequested("no instance role".into()).with(left);
        outcome.repositories =
            StatusPart::InPlace("granted".into()).with(&mut [problem(Reason::AccessDenied)]);
        outcome.role = StatusPart::InPlace("role in place".into()).with(&mut []);
    }));
    let told = |kind| {
        condition(&status, kind)
            .map(|condition| (condition.status.as_str(), condition.reason.as_str()))
    };
    assert_eq!(
        told(ConditionType::ConsumerReady),
        Some(("False", "BlockedPolicy"))
    );
    assert_eq!(
        told(ConditionType::RepositoryPoliciesReady),
        Some(("False", "AccessDenied"))
    );
    assert_eq!(told(ConditionType::RoleReady), Some(("True", "InPlace")));
}

#[test]
fn what_failed_and_what_could_not_be_revoked_are_both_reported() {
    let part =
        StatusPart::Failed(problem(Reason::Conflict)).with(&mut [problem(Reason::AccessDenied)]);
    assert_eq!(
        part,
        StatusPart::Failed(Problem::new(
            Reason::Conflict,
            "Conflict happened; AccessDenied happened"
        ))
    );
}

#[rstest]
#[case(Reason::AccessDenied, ConditionType::Stalled)]
#[case(Reason::Conflict, ConditionType::Stalled)]
#[case(Reason::PolicyTooLarge, ConditionType::Stalled)]
#[case(Reason::Throttled, ConditionType::Reconciling)]
#[case(Reason::Unavailable, ConditionType::Reconciling)]
#[case(Reason::Settling, ConditionType::Reconciling)]
fn what_mends_itself_is_reconciling_and_what_needs_a_person_is_stalled(
    #[case] reason: Reason,
    #[case] told_as: ConditionType,
) {
    let status = told(&outcome(|outcome| {
        outcome.role = StatusPart::Failed(problem(reason))
    }));
    assert_eq!(
        condition(&status, told_as).map(|c| c.status.as_str()),
        Some("True")
    );
}

/// Returns the kind of condition that has this reason, and Ready's message.
fn told_of(status: &Status, reason: Reason) -> (&str, &str) {
    let passing =
        [ConditionType::Stalled, ConditionType::Reconciling].map(|kind| condition(status, kind));
    let [told] = passing.into_iter().flatten().collect::<Vec<_>>()[..] else {
        panic!("not one of both: {status:?}")
    };
    assert_eq!(told.reason, reason.to_string());
    (
        &told.type_,
        &condition(status, ConditionType::Ready).unwrap().message,
    )
}

#[rstest]
#[case(
    Reason::Settling,
    "check that every account and role that the grant names exists"
)]
#[case(Reason::RoleNotFound, "check the role's name, path and account")]
fn what_never_shows_is_waited_for_for_five_minutes_and_then_a_person_is_asked(
    #[case] reason: Reason,
    #[case] advice: &str,
) {
    let missing = outcome(|outcome| outcome.consumer = StatusPart::Failed(problem(reason)));
    let begun = progressing(None, Some(1), applied(), &at(0));
    let first = missing.status(Some(&begun), Some(1), &at(1));
    let soon = missing.status(Some(&first), Some(1), &at(300));
    assert_eq!((told_of(&soon, reason).0, &soon), ("Reconciling", &first));
    let stalled = missing.status(Some(&soon), Some(1), &at(301));
    let (kind, message) = told_of(&stalled, reason);
    assert!(
        kind == "Stalled" && message.contains(advice),
        "{kind} {message}"
    );
    assert_eq!(
        missing.status(Some(&stalled), Some(1), &at(90_000)),
        stalled
    );
    assert_eq!(
        lines(&outcome(|_| {}).status(Some(&stalled), Some(1), &at(90_001))),
        lines(&told(&outcome(|_| {})))
    );
}

#[test]
fn a_changed_spec_and_a_new_problem_are_waited_for_anew() {
    let missing =
        |reason| outcome(|outcome| outcome.consumer = StatusPart::Failed(problem(reason)));
    let settling = missing(Reason::Settling);
    let first = settling.status(None, Some(1), &at(0));
    let stalled = settling.status(Some(&first), Some(1), &at(600));
    let changed = settling.status(Some(&stalled), Some(2), &at(601));
    assert_eq!(told_of(&changed, Reason::Settling).0, "Reconciling");
    assert_eq!(settling.status(Some(&changed), Some(2), &at(602)), changed);
    assert_eq!(
        told_of(
            &settling.status(Some(&changed), Some(2), &at(901)),
            Reason::Settling
        )
        .0,
        "Stalled"
    );
    let other = missing(Reason::RoleNotFound).status(Some(&stalled), Some(1), &at(601));
    assert_eq!(told_of(&other, Reason::RoleNotFound).0, "Reconciling");
    // A problem on the side of AWS is retried, however long it takes.
    let first = missing(Reason::Unavailable).status(None, Some(1), &at(0));
    let later = missing(Reason::Unavailable).status(Some(&first), Some(1), &at(90_000));
    assert_eq!(told_of(&later, Reason::Unavailable).0, "Reconciling");
}

#[test]
fn a_mistake_in_one_account_is_told_though_a_repository_is_waited_for() {
    let both = outcome(|outcome| {
        outcome.consumer = StatusPart::Failed(problem(Reason::RoleNotFound));
        outcome.each_repository = repositories([("web", Err(problem(Reason::RepositoryNotFound)))]);
    });
    let first = both.status(None, Some(1), &at(0));
    assert_eq!(
        told_of(
            &both.status(Some(&first), Some(1), &at(300)),
            Reason::RoleNotFound
        )
        .0,
        "Stalled"
    );
}

#[test]
fn while_access_is_taken_back_the_grant_is_not_ready() {
    let status = told(&outcome(|outcome| {
        outcome.revoking = true;
        outcome.each_repository.clear();
    }));
    let ready = condition(&status, ConditionType::Ready).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Revoking")
    );
    assert!(condition(&status, ConditionType::Reconciling).is_some());
}

#[test]
fn what_a_person_can_mend_is_told_before_what_is_only_missing() {
    let missing = |name| (name, Err(problem(Reason::RepositoryNotFound)));
    let denied = ("z", Err(problem(Reason::AccessDenied)));
    let status = told(&outcome(|o| {
        o.each_repository = repositories([missing("a"), missing("b"), missing("c"), denied])
    }));
    let ready = condition(&status, ConditionType::Ready).unwrap();
    assert_eq!(ready.reason, "AccessDenied");
    assert!(
        ready.message.contains("AccessDenied happened"),
        "{}",
        ready.message
    );
    assert!(condition(&status, ConditionType::Stalled).is_some());
}

#[test]
fn without_the_direct_path_there_is_nothing_to_say_about_repositories() {
    let status = told(&outcome(|outcome| {
        outcome.repositories = StatusPart::NotRequested("path Direct was not asked for".into());
        outcome.each_repository.clear();
    }));
    assert_eq!(status.repositories, None);
    assert_eq!(
        condition(&status, ConditionType::Ready).unwrap().status,
        "True"
    );
}

#[test]
fn transition_times_move_with_the_status_and_not_with_the_message() {
    let first = outcome(|outcome| outcome.role = StatusPart::Failed(problem(Reason::Throttled)));
    let before = first.status(None, Some(1), &at(0));
    let other_words =
        outcome(|outcome| outcome.role = StatusPart::Failed(problem(Reason::Unavailable)));
    let after = other_words.status(Some(&before), Some(2), &at(60));
    let role = condition(&after, ConditionType::RoleReady).unwrap();
    assert_eq!(
        (role.reason.as_str(), &role.last_transition_time),
        ("Unavailable", &at(0))
    );
    assert_eq!(role.observed_generation, Some(2));
    let mended = outcome(|_| {}).status(Some(&after), Some(2), &at(120));
    assert_eq!(
        condition(&mended, ConditionType::RoleReady)
            .unwrap()
            .last_transition_time,
        at(120)
    );
    assert_eq!(
        condition(&mended, ConditionType::ConsumerReady)
            .unwrap()
            .last_transition_time,
        at(0)
    );
}

#[test]
fn before_the_first_write_of_a_generation_its_claims_are_on_record() {
    let status = progressing(None, Some(1), applied(), &at(0));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=Unknown Progressing: the operator is at work on this generation
    Reconciling=True Progressing: the operator is at work on this generation
    ");
    assert_eq!(
        (status.applied, status.observed_generation),
        (Some(applied()), Some(1))
    );
}

#[test]
fn at_work_on_a_new_generation_the_other_conditions_still_speak_of_the_old_one() {
    let stalled = outcome(|outcome| outcome.role = StatusPart::Failed(problem(Reason::Conflict)));
    let before = stalled.status(None, Some(1), &at(0));
    let status = progressing(Some(&before), Some(2), applied(), &at(60));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=Unknown Progressing: the operator is at work on this generation
    Reconciling=True Progressing: the operator is at work on this generation
    AccountsReady=True CredentialsVerified: accounts in place
    RoleReady=False Conflict: Conflict happened
    RepositoryPoliciesReady=True InPlace: repositories in place
    ConsumerReady=True InPlace: consumer in place
    ");
    for kept in [ConditionType::RoleReady, ConditionType::ConsumerReady] {
        assert_eq!(condition(&status, kept), condition(&before, kept));
    }
    assert_eq!(
        condition(&status, ConditionType::Ready)
            .unwrap()
            .last_transition_time,
        at(60)
    );
    assert_eq!(
        (status.registry, status.repositories),
        (before.registry, before.repositories)
    );
}

#[test]
fn a_grant_of_which_nothing_is_left_claims_nothing() {
    let status = told(&outcome(|outcome| outcome.applied = None));
    assert_eq!(status.applied, None);
}

#[test]
fn a_grant_that_is_no_longer_admitted_says_why_and_what_could_not_be_taken_back() {
    let status = told(&outcome(|outcome| {
        outcome.revoking = true;
        outcome.refusal = vec![problem(Reason::NotAdmitted)];
        outcome.accounts = StatusPart::Failed(problem(Reason::CredentialsUnavailable));
        outcome.role = StatusPart::NotRequested("access is being revoked".into());
        outcome.consumer = StatusPart::NotRequested("access is being revoked".into());
        outcome.repositories = StatusPart::Blocked(problem(Reason::CredentialsUnavailable));
        outcome.each_repository.clear();
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    AccountsReady=False NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    RoleReady=Unknown NotAdmitted: not tried, see AccountsReady
    RepositoryPoliciesReady=Unknown CredentialsUnavailable: not tried, see AccountsReady
    ConsumerReady=Unknown NotAdmitted: not tried, see AccountsReady
    Stalled=True NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    ");
}

#[test]
fn a_mistake_is_told_while_what_held_before_is_kept() {
    let status = told(&outcome(|outcome| {
        outcome.refusal = vec![problem(Reason::Invalid)]
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False Invalid: Invalid happened
    AccountsReady=False Invalid: Invalid happened
    RoleReady=True InPlace: role in place
    RepositoryPoliciesReady=True InPlace: repositories in place
    ConsumerReady=True InPlace: consumer in place
    Stalled=True Invalid: Invalid happened
    ");
}
