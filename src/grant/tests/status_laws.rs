//! Laws that hold for every status, whatever happened.

use super::kstatus::access;
use super::status::{applied, at, condition, outcome, repositories};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::AccessVerdict;
use crate::grant::Problem;
use crate::grant::status::{Outcome, StatusPart, progressing};
use proptest::prelude::*;
use std::collections::BTreeSet;

const FAILURES: [Reason; 25] = [
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
    Reason::Revoking,
];

fn problem() -> impl Strategy<Value = Problem> {
    let message = prop_oneof![
        "[a-z]{0,20}",
        Just("ä".repeat(5_000)),
        Just("\u{1F600}".repeat(2_001))
    ];
    (prop::sample::select(FAILURES.to_vec()), message)
        .prop_map(|(reason, message)| Problem::new(reason, message))
}

fn part() -> impl Strategy<Value = StatusPart> {
    prop_oneof![
        3 => "[a-z]{0,9}".prop_map(StatusPart::InPlace),
        1 => "[a-z]{0,9}".prop_map(StatusPart::NotRequested),
        1 => "[a-z]{0,9}".prop_map(StatusPart::NotManaged),
        1 => problem().prop_map(StatusPart::Failed),
    ]
}

prop_compose! {
    fn some_outcome()(
        revoking in prop::bool::weighted(0.2),
        refusal in prop::collection::vec(problem(), 0..2),
        parts in [part(), part(), part(), part()],
        each in prop::collection::btree_map("[a-z]{2,4}", prop::result::maybe_err(Just(()), problem()), 0..8),
        left in any::<bool>(),
        denied in prop::bool::weighted(0.2),
    ) -> Outcome {
        let [accounts, role, consumer, in_repositories] = parts;
        outcome(|outcome| {
            (outcome.revoking, outcome.refusal) = (revoking, refusal);
            (outcome.report.accounts, outcome.report.role) = (accounts, role);
            (outcome.report.consumer, outcome.report.repositories) = (consumer, in_repositories);
            outcome.report.each_repository = repositories(each);
            outcome.report.claims = left.then(applied);
            outcome.report.access = denied.then(|| access(0, AccessVerdict::Denied)).into_iter().collect();
        })
    }
}

proptest! {
    #[test]
    fn same_outcome_gives_the_same_status(outcome in some_outcome(), before in some_outcome()) {
        let before = before.status(None, Some(1), &at(0));
        let once = outcome.status(Some(&before), Some(2), &at(60));
        prop_assert_eq!(outcome.status(Some(&once), Some(2), &at(120)), once);
    }

    #[test]
    fn repeated_outcome_changes_the_status_at_most_once(outcome in some_outcome(), before in some_outcome()) {
        let before = before.status(None, Some(2), &at(0));
        let first = outcome.status(Some(&before), Some(2), &at(60));
        let lasting = outcome.status(Some(&first), Some(2), &at(420));
        prop_assert_eq!(outcome.status(Some(&lasting), Some(2), &at(90_000)), lasting);
    }

    #[test]
    fn transition_time_changes_with_its_status_alone(outcome in some_outcome(), before in some_outcome()) {
        let before = before.status(None, Some(1), &at(0));
        for now in outcome.status(Some(&before), Some(2), &at(60)).conditions {
            let was = before.conditions.iter().find(|was| was.type_ == now.type_);
            let moved = was.is_none_or(|was| was.status != now.status);
            prop_assert_eq!(now.last_transition_time, if moved { at(60) } else { at(0) });
        }
    }

    #[test]
    fn ready_is_true_only_without_failures(outcome in some_outcome()) {
        let status = outcome.status(None, Some(1), &at(0));
        let ready = condition(&status, ConditionType::Ready).unwrap();
        let failed = status.conditions.iter().any(|c| c.status == "False" && c.type_ != "Ready");
        let one_failed = outcome.report.each_repository.values().any(|each| each.result.is_err());
        let all_is_well = !failed && !one_failed && outcome.report.access.is_empty() && !outcome.revoking;
        prop_assert_eq!(ready.status == "True", all_is_well);
    }

    #[test]
    fn grant_that_is_not_ready_is_reconciling_or_stalled(outcome in some_outcome(), before in some_outcome()) {
        let before = before.status(None, Some(1), &at(0));
        let status = outcome.status(Some(&before), Some(1), &at(60));
        let present = |kind| usize::from(condition(&status, kind).is_some());
        let not_ready = usize::from(condition(&status, ConditionType::Ready).unwrap().status != "True");
        prop_assert_eq!(present(ConditionType::Reconciling) + present(ConditionType::Stalled), not_ready);
    }

    /// The API server accepts conditions as a map by type, messages of up to 32,768 characters, and
    /// reasons of one word.
    #[test]
    fn api_server_accepts_every_condition(outcome in some_outcome()) {
        let conditions = outcome.status(None, Some(1), &at(0)).conditions;
        prop_assert_eq!(conditions.iter().map(|c| &c.type_).collect::<BTreeSet<_>>().len(), conditions.len());
        for condition in conditions {
            prop_assert!(condition.message.chars().count() <= 2_001);
            prop_assert!(!condition.reason.is_empty() && condition.reason.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn every_repository_is_counted_once(outcome in some_outcome()) {
        if let Some(reported) = outcome.status(None, Some(1), &at(0)).repositories {
            let all = outcome.report.each_repository.len();
            prop_assert_eq!(usize::try_from(reported.granted + reported.waiting + reported.failed).unwrap(), all);
            prop_assert_eq!(reported.summary, format!("{}/{all}", reported.granted));
            prop_assert_eq!(reported.items.len(), all.min(100));
        }
    }

    #[test]
    fn recorded_claims_keep_the_rest_of_the_status(before in some_outcome()) {
        let before = before.status(None, Some(1), &at(0));
        let status = progressing(Some(&before), Some(2), applied(), &at(60));
        prop_assert_eq!(&status.applied, &Some(applied()));
        prop_assert_eq!(&status.registry, &before.registry);
        prop_assert_eq!(condition(&status, ConditionType::Stalled), None);
        let types: BTreeSet<_> = status.conditions.iter().map(|c| &c.type_).collect();
        prop_assert_eq!(types.len(), status.conditions.len());
        for was in before.conditions.iter().filter(|c| !["Ready", "Reconciling", "Stalled"].contains(&c.type_.as_str())) {
            prop_assert!(status.conditions.contains(was));
        }
        prop_assert_eq!(progressing(Some(&status), Some(2), applied(), &at(120)), status);
    }
}
