//! Texts of the status, by example.

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::grant::{
    Applied, ConsumerStatus, CrossAccountRegistryGrantStatus as Status, RegistryStatus,
};
use crate::grant::Problem;
use crate::grant::status::{ApplyReport, Outcome, RepositoryOutcome, StatusPart, progressing};
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
        report: ApplyReport {
            accounts: in_place("accounts"),
            no_session: Vec::new(),
            role: in_place("role"),
            consumer: in_place("consumer"),
            repositories: in_place("repositories"),
            each_repository: repositories([("web", Ok(()))]),
            registry_status: RegistryStatus {
                hosts: vec!["111111111111.dkr.ecr.us-east-1.amazonaws.com".into()],
                ..RegistryStatus::default()
            },
            consumer_status: ConsumerStatus::default(),
            access: Vec::new(),
            pending: None,
            claims: Some(applied()),
        },
        replaces: BTreeSet::new(),
        handled: None,
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

pub fn reported(outcome: &Outcome) -> Status {
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
fn grant_in_place_has_every_condition_true() {
    insta::assert_snapshot!(lines(&reported(&outcome(|_| {}))), @r"
    Ready=True Granted: account 222222222222 has Pull access
    AccountsReady=True CredentialsVerified: accounts in place
    RoleReady=True InPlace: role in place
    RepositoryPoliciesReady=True InPlace: repositories in place
    ConsumerReady=True InPlace: consumer in place
    ");
}

#[test]
fn unmanaged_consumer_does_not_prevent_ready() {
    let status = reported(&outcome(|outcome| {
        outcome.report.consumer =
            StatusPart::NotManaged("there is no AWSAccount 222222222222".into());
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
fn failure_of_one_account_does_not_hide_the_other() {
    let status = reported(&outcome(|outcome| {
        outcome.report.consumer = StatusPart::Failed(problem(Reason::AccessDenied));
        outcome.report.each_repository =
            repositories([("web", Err(problem(Reason::UnreadablePolicy)))]);
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
fn blocked_part_names_the_part_that_blocks_it() {
    let status = reported(&outcome(|outcome| {
        let wrong = problem(Reason::WrongAccount);
        outcome.report.accounts = StatusPart::Failed(wrong.clone());
        outcome.report.role = StatusPart::Blocked(wrong.clone());
        outcome.report.repositories = StatusPart::Blocked(wrong);
        outcome.report.each_repository.clear();
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False WrongAccount: WrongAccount happened
    AccountsReady=False WrongAccount: WrongAccount happened
    RoleReady=Unknown WrongAccount: not attempted, see condition AccountsReady
    RepositoryPoliciesReady=Unknown WrongAccount: not attempted, see condition AccountsReady
    ConsumerReady=True InPlace: consumer in place
    Stalled=True WrongAccount: WrongAccount happened
    ");
}

/// Leftovers in the consumer account used to be reported for the registry role.
#[test]
fn failed_revocation_is_reported_under_its_condition() {
    let status = reported(&outcome(|outcome| {
        let left = &mut [problem(Reason::BlockedPolicy)];
        outcome.report.consumer = StatusPart::NotRequested("no instance role".into()).with(left);
        outcome.report.repositories =
            StatusPart::InPlace("granted".into()).with(&mut [problem(Reason::AccessDenied)]);
        outcome.report.role = StatusPart::InPlace("role in place".into()).with(&mut []);
    }));
    let reported = |kind| {
        condition(&status, kind)
            .map(|condition| (condition.status.as_str(), condition.reason.as_str()))
    };
    assert_eq!(
        reported(ConditionType::ConsumerReady),
        Some(("False", "BlockedPolicy"))
    );
    assert_eq!(
        reported(ConditionType::RepositoryPoliciesReady),
        Some(("False", "AccessDenied"))
    );
    assert_eq!(
        reported(ConditionType::RoleReady),
        Some(("True", "InPlace"))
    );
}

#[test]
fn failed_part_and_failed_revocation_are_both_reported() {
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
fn transient_problem_is_reconciling_and_lasting_one_stalled(
    #[case] reason: Reason,
    #[case] told_as: ConditionType,
) {
    let status = reported(&outcome(|outcome| {
        outcome.report.role = StatusPart::Failed(problem(reason))
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
    let [reported] = passing.into_iter().flatten().collect::<Vec<_>>()[..] else {
        panic!("not one of both: {status:?}")
    };
    assert_eq!(reported.reason, reason.to_string());
    (
        &reported.type_,
        &condition(status, ConditionType::Ready).unwrap().message,
    )
}

#[rstest]
#[case(
    Reason::Settling,
    "check that every account and role that the grant names exists"
)]
#[case(Reason::RoleNotFound, "check its name, path and account")]
fn missing_change_is_stalled_after_five_minutes(#[case] reason: Reason, #[case] advice: &str) {
    let missing = outcome(|outcome| outcome.report.consumer = StatusPart::Failed(problem(reason)));
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
        lines(&reported(&outcome(|_| {})))
    );
}

#[test]
fn changed_spec_or_new_problem_restarts_the_wait() {
    let missing =
        |reason| outcome(|outcome| outcome.report.consumer = StatusPart::Failed(problem(reason)));
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
fn account_problem_is_reported_despite_a_missing_repository() {
    let both = outcome(|outcome| {
        outcome.report.consumer = StatusPart::Failed(problem(Reason::RoleNotFound));
        outcome.report.each_repository =
            repositories([("web", Err(problem(Reason::RepositoryNotFound)))]);
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
fn grant_is_not_ready_during_revocation() {
    let status = reported(&outcome(|outcome| {
        outcome.revoking = true;
        outcome.report.each_repository.clear();
    }));
    let ready = condition(&status, ConditionType::Ready).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Revoking")
    );
    assert!(condition(&status, ConditionType::Reconciling).is_some());
}

#[test]
fn problem_for_a_person_precedes_a_missing_repository() {
    let missing = |name| (name, Err(problem(Reason::RepositoryNotFound)));
    let denied = ("z", Err(problem(Reason::AccessDenied)));
    let status = reported(&outcome(|o| {
        o.report.each_repository = repositories([missing("a"), missing("b"), missing("c"), denied])
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
fn role_path_alone_reports_no_repositories() {
    let status = reported(&outcome(|outcome| {
        outcome.report.repositories =
            StatusPart::NotRequested("path Direct was not asked for".into());
        outcome.report.each_repository.clear();
    }));
    assert_eq!(status.repositories, None);
    assert_eq!(
        condition(&status, ConditionType::Ready).unwrap().status,
        "True"
    );
}

#[test]
fn transition_time_moves_with_the_status_only() {
    let first =
        outcome(|outcome| outcome.report.role = StatusPart::Failed(problem(Reason::Throttled)));
    let before = first.status(None, Some(1), &at(0));
    let other_words =
        outcome(|outcome| outcome.report.role = StatusPart::Failed(problem(Reason::Unavailable)));
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
fn claims_are_recorded_before_the_first_write() {
    let status = progressing(None, Some(1), applied(), &at(0));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=Unknown Progressing: reconciling this generation
    Reconciling=True Progressing: reconciling this generation
    ");
    assert_eq!(
        (status.applied, status.observed_generation),
        (Some(applied()), Some(1))
    );
}

#[test]
fn other_conditions_describe_the_old_generation_until_done() {
    let stalled =
        outcome(|outcome| outcome.report.role = StatusPart::Failed(problem(Reason::Conflict)));
    let before = stalled.status(None, Some(1), &at(0));
    let status = progressing(Some(&before), Some(2), applied(), &at(60));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=Unknown Progressing: reconciling this generation
    Reconciling=True Progressing: reconciling this generation
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
fn revoked_grant_claims_nothing() {
    let status = reported(&outcome(|outcome| outcome.report.claims = None));
    assert_eq!(status.applied, None);
}

#[test]
fn refused_grant_reports_why_and_what_could_not_be_revoked() {
    let status = reported(&outcome(|outcome| {
        outcome.revoking = true;
        outcome.refusal = vec![problem(Reason::NotAdmitted)];
        outcome.report.accounts = StatusPart::Failed(problem(Reason::CredentialsUnavailable));
        outcome.report.role = StatusPart::NotRequested("access is being revoked".into());
        outcome.report.consumer = StatusPart::NotRequested("access is being revoked".into());
        outcome.report.repositories = StatusPart::Blocked(problem(Reason::CredentialsUnavailable));
        outcome.report.each_repository.clear();
    }));
    insta::assert_snapshot!(lines(&status), @r"
    Ready=False NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    AccountsReady=False NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    RoleReady=Unknown NotAdmitted: not attempted, see condition AccountsReady
    RepositoryPoliciesReady=Unknown CredentialsUnavailable: not attempted, see condition AccountsReady
    ConsumerReady=Unknown NotAdmitted: not attempted, see condition AccountsReady
    Stalled=True NotAdmitted: NotAdmitted happened; CredentialsUnavailable happened
    ");
}

#[test]
fn invalid_spec_is_reported_while_the_last_grant_is_kept() {
    let status = reported(&outcome(|outcome| {
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
