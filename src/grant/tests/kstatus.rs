//! Interpretation of a status, whatever its reason, by tools that wait for resources (Flux, Argo
//! CD, Helm, `kubectl wait`): the rules of kstatus, and a bounded size.

use super::status::{applied, at, condition, outcome, repositories};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::{
    AccessAction, AccessPath, AccessStatus, AccessVerdict, Applied, AppliedRepositories,
    CrossAccountRegistryGrantStatus as Status,
};
use crate::grant::Problem;
use crate::grant::status::{Outcome, StatusPart, progressing, suspended};
use std::collections::BTreeSet;

/// State that kstatus computes for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kstatus {
    Current,
    InProgress,
    Failed,
}

/// Computes the state by the rules for custom resources: the generation first, then `Reconciling`
/// and `Stalled`, then `Ready`. Source:
/// <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>.
fn kstatus(status: &Status, generation: i64) -> Kstatus {
    let is_true =
        |kind| condition(status, kind).is_some_and(|condition| condition.status == "True");
    match status.observed_generation {
        Some(observed) if observed != generation => Kstatus::InProgress,
        _ if is_true(ConditionType::Reconciling) => Kstatus::InProgress,
        _ if is_true(ConditionType::Stalled) => Kstatus::Failed,
        _ if is_true(ConditionType::Ready) => Kstatus::Current,
        _ => Kstatus::InProgress,
    }
}

/// Returns the meaning of a reason in condition `Ready`; `None` if the reason reports no problem
/// there.
fn meaning(reason: Reason) -> Option<Kstatus> {
    match reason {
        Reason::Granted
        | Reason::RegistrySideReady
        | Reason::InPlace
        | Reason::NotRequested
        | Reason::NotManaged
        | Reason::CredentialsVerified
        | Reason::Progressing
        | Reason::Suspended
        | Reason::Observing
        | Reason::Revoking => None,
        // These are checked again and resolve themselves; some ask for a person if that takes too
        // long.
        Reason::CredentialsUnavailable
        | Reason::RepositoryNotFound
        | Reason::RoleNotFound
        | Reason::Throttled
        | Reason::Unavailable
        | Reason::HostNotResolved
        | Reason::Settling => Some(Kstatus::InProgress),
        Reason::AccountNotFound
        | Reason::NotAdmitted
        | Reason::Invalid
        | Reason::WrongAccount
        | Reason::AccessDenied
        | Reason::RegionNotEnabled
        | Reason::RegionNotFound
        | Reason::ConsentMissing
        | Reason::PathDenied
        | Reason::Conflict
        | Reason::UnreadablePolicy
        | Reason::ContestedPolicy
        | Reason::SecondWriter
        | Reason::BlockedPolicy
        | Reason::PolicyTooLarge
        | Reason::QuotaExceeded
        | Reason::Rejected
        | Reason::StillInUse => Some(Kstatus::Failed),
    }
}

/// Every reason.
const EVERY: [Reason; 35] = [
    Reason::Granted,
    Reason::RegistrySideReady,
    Reason::InPlace,
    Reason::NotRequested,
    Reason::NotManaged,
    Reason::CredentialsVerified,
    Reason::Progressing,
    Reason::Suspended,
    Reason::Observing,
    Reason::Revoking,
    Reason::AccountNotFound,
    Reason::NotAdmitted,
    Reason::Invalid,
    Reason::WrongAccount,
    Reason::CredentialsUnavailable,
    Reason::AccessDenied,
    Reason::RegionNotEnabled,
    Reason::RepositoryNotFound,
    Reason::RoleNotFound,
    Reason::ConsentMissing,
    Reason::PathDenied,
    Reason::Conflict,
    Reason::UnreadablePolicy,
    Reason::ContestedPolicy,
    Reason::SecondWriter,
    Reason::BlockedPolicy,
    Reason::PolicyTooLarge,
    Reason::QuotaExceeded,
    Reason::Throttled,
    Reason::Unavailable,
    Reason::HostNotResolved,
    Reason::RegionNotFound,
    Reason::Settling,
    Reason::Rejected,
    Reason::StillInUse,
];

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Returns the rows of the table of reasons.
fn documented() -> BTreeSet<String> {
    let (_, table) = OPERATIONS.split_once("## Reasons").unwrap();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("| `"))
        .take_while(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect()
}

/// Asserts the rules for every status, whatever its content.
fn assert_well_formed(status: &Status, generation: i64) {
    let present = |kind| usize::from(condition(status, kind).is_some());
    assert!(
        present(ConditionType::Reconciling) + present(ConditionType::Stalled) <= 1,
        "{status:#?}"
    );
    assert_eq!(status.observed_generation, Some(generation));
    let ready = condition(status, ConditionType::Ready).unwrap();
    assert_eq!(ready.observed_generation, Some(generation));
    for kind in [ConditionType::Reconciling, ConditionType::Stalled] {
        if let Some(abnormal) = condition(status, kind) {
            assert_ne!(ready.status, "True");
            let reported = (
                &abnormal.status,
                &abnormal.reason,
                &abnormal.message,
                abnormal.observed_generation,
            );
            assert_eq!(
                reported,
                (
                    &"True".to_owned(),
                    &ready.reason,
                    &ready.message,
                    Some(generation)
                )
            );
        }
    }
}

#[test]
fn operations_guide_lists_exactly_the_reasons() {
    let every: BTreeSet<String> = EVERY.iter().map(ToString::to_string).collect();
    // Compared with the definition, so that a new reason cannot be missing here.
    let defined = include_str!("../../api/conditions.rs")
        .split("pub enum Reason {")
        .nth(1)
        .unwrap();
    let defined = defined
        .split("\n}")
        .next()
        .unwrap()
        .lines()
        .map(|line| line.trim().trim_end_matches(','));
    let defined: BTreeSet<String> = defined
        .filter(|line| !line.is_empty() && !line.starts_with("///"))
        .map(String::from)
        .collect();
    assert_eq!(every, defined);
    assert_eq!(every, documented());
}

#[test]
fn problem_is_stalled_if_only_a_person_helps_else_reconciling() {
    for reason in EVERY {
        let Some(expected) = meaning(reason) else {
            continue;
        };
        let problem = Problem::new(reason, "it happened");
        for part in [
            "accounts",
            "role",
            "consumer",
            "repositories",
            "refusal",
            "access",
        ] {
            if (reason == Reason::PathDenied) != (part == "access") {
                continue;
            }
            let outcome = outcome(|outcome| match part {
                "accounts" => outcome.report.accounts = StatusPart::Failed(problem.clone()),
                "role" => outcome.report.role = StatusPart::Failed(problem.clone()),
                "consumer" => outcome.report.consumer = StatusPart::Failed(problem.clone()),
                "repositories" => {
                    outcome.report.each_repository = repositories([("web", Err(problem.clone()))])
                }
                "refusal" => outcome.refusal = vec![problem.clone()],
                _ => outcome.report.access = vec![access(0, AccessVerdict::Denied)],
            });
            let status = outcome.status(None, Some(3), &at(0));
            assert_well_formed(&status, 3);
            assert_eq!(
                condition(&status, ConditionType::Ready).unwrap().reason,
                reason.to_string()
            );
            assert_eq!(kstatus(&status, 3), expected, "{reason} of {part}");
            assert_eq!(
                kstatus(&status, 4),
                Kstatus::InProgress,
                "it speaks of an older generation"
            );
        }
    }
}

#[test]
fn grant_without_problems_is_current_once_in_place() {
    let reported = |outcome: Outcome| outcome.status(None, Some(3), &at(0));
    let granted = reported(outcome(|_| {}));
    let not_managed = reported(outcome(|outcome| {
        outcome.report.consumer = StatusPart::NotManaged("no AWSAccount".into())
    }));
    let revoking = reported(outcome(|outcome| outcome.revoking = true));
    let observing = |pending: &[&str]| {
        reported(outcome(|outcome| {
            outcome.report.role = StatusPart::Pending("see status.pending".into());
            outcome.report.pending = Some(pending.iter().map(ToString::to_string).collect());
            // While nothing is written, the access that would be granted is of course denied.
            outcome.report.access = vec![access(0, AccessVerdict::Denied)];
        }))
    };
    let was = outcome(|outcome| {
        outcome.report.role = StatusPart::Failed(Problem::new(Reason::Conflict, "theirs"))
    })
    .status(None, Some(2), &at(0));
    let at_work = progressing(Some(&was), Some(3), applied(), &at(1));
    let paused = suspended(Some(&was), Some(3), Some(applied()), None, &at(1));
    for (status, reason, expected) in [
        (granted, Reason::Granted, Kstatus::Current),
        (not_managed, Reason::RegistrySideReady, Kstatus::Current),
        (revoking, Reason::Revoking, Kstatus::InProgress),
        (observing(&[]), Reason::Observing, Kstatus::InProgress),
        (
            observing(&["create role puller"]),
            Reason::Observing,
            Kstatus::InProgress,
        ),
        (at_work, Reason::Progressing, Kstatus::InProgress),
        (paused, Reason::Suspended, Kstatus::InProgress),
    ] {
        assert_well_formed(&status, 3);
        assert_eq!(
            condition(&status, ConditionType::Ready).unwrap().reason,
            reason.to_string()
        );
        assert_eq!(kstatus(&status, 3), expected, "{reason}");
    }
}

#[test]
fn observed_grant_with_a_read_error_reports_the_error() {
    let denied = outcome(|outcome| {
        outcome.report.pending = Some(Vec::new());
        outcome.report.role = StatusPart::Failed(Problem::new(Reason::AccessDenied, "iam:GetRole"));
    });
    let status = denied.status(None, Some(1), &at(0));
    assert_well_formed(&status, 1);
    assert_eq!(kstatus(&status, 1), Kstatus::Failed);
}

/// Returns a verdict with the longest texts.
pub fn access(number: usize, verdict: AccessVerdict) -> AccessStatus {
    AccessStatus {
        principal: format!("arn:aws:iam::222222222222:role/{number:0>512}"),
        path: AccessPath::Direct,
        action: AccessAction::Push,
        verdict,
        // A statement's Sid can be nearly as long as its policy.
        message: Some(format!(
            "statement {} of the policy of repository app denies it",
            "x".repeat(10_000)
        )),
    }
}

/// Returns an outcome with five thousand repositories and more than a hundred verdicts, each with
/// the longest texts.
fn much(verdict: AccessVerdict) -> Outcome {
    let long = |number: usize| format!("{number:0>256}");
    outcome(|outcome| {
        let failed = |number| {
            let message = format!("{} {}", long(number), "y".repeat(9_000));
            Err(Problem::new(Reason::AccessDenied, message))
        };
        outcome.report.each_repository =
            repositories((0..5_000).map(|number| (long(number), failed(number))));
        outcome.report.access = (0..200).map(|number| access(number, verdict)).collect();
        let patterns = (0..100).map(long).collect();
        let repositories = vec![AppliedRepositories {
            region: "us-east-1".into(),
            patterns,
        }];
        outcome.report.claims = Some(Applied {
            repositories,
            ..applied()
        });
    })
}

/// An object in the API server can have about 1.5 MB.
#[test]
fn status_size_is_bounded() {
    let bytes = |outcome: &Outcome| {
        let status = outcome.status(None, Some(1), &at(0));
        assert_well_formed(&status, 1);
        assert_eq!(
            (
                status.access.len(),
                status.repositories.as_ref().unwrap().items.len()
            ),
            (100, 100)
        );
        serde_json::to_string(&status).unwrap().len()
    };
    for verdict in [
        AccessVerdict::Denied,
        AccessVerdict::Unknown,
        AccessVerdict::Allowed,
    ] {
        let mut outcome = much(verdict);
        assert!(bytes(&outcome) < 200_000, "{}", bytes(&outcome));
        // Twice as many as a status lists: all 5,000 would take a gigabyte of memory.
        for each in outcome.report.each_repository.values_mut().take(200) {
            each.kept = (0..20)
                .map(|number| (format!("{number:0>128}"), "z".repeat(9_000)))
                .collect();
        }
        outcome.report.pending = Some(
            (0..5_000)
                .map(|number| format!("set the policy of {number:0>900}"))
                .collect(),
        );
        assert!(bytes(&outcome) < 400_000, "{}", bytes(&outcome));
    }
}
