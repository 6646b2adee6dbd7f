//! The status of repositories, however many there are.

use super::status::{at, condition, outcome, problem, reported, repositories};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::{CrossAccountRegistryGrantStatus as Status, RepositoriesStatus};
use crate::grant::status::{Outcome, StatusPart};

#[test]
fn missing_repositories_are_counted_and_listed_first() {
    let status = reported(&outcome(|outcome| {
        outcome.report.each_repository = repositories([
            ("a", Ok(())),
            ("b", Err(problem(Reason::RepositoryNotFound))),
            ("c", Ok(())),
            ("d", Err(problem(Reason::AccessDenied))),
        ]);
    }));
    let RepositoriesStatus {
        summary,
        granted,
        waiting,
        failed,
        items,
    } = status.repositories.unwrap();
    assert_eq!(
        (summary.as_str(), granted, waiting, failed),
        ("2/4", 2, 1, 1)
    );
    let items: Vec<_> = items
        .iter()
        .map(|item| format!("{} {}", item.name, item.reason))
        .collect();
    assert_eq!(
        items,
        [
            "b RepositoryNotFound",
            "d AccessDenied",
            "a Granted",
            "c Granted"
        ]
    );
}

#[test]
fn status_of_5000_repositories_stays_small_and_counts_right() {
    let missing = |n: usize| n % 10 == 3;
    let each = (0..5_000).map(|n| {
        let outcome = if missing(n) {
            Err(problem(Reason::RepositoryNotFound))
        } else {
            Ok(())
        };
        (format!("team-b/repository-{n:04}"), outcome)
    });
    let status = reported(&outcome(|outcome| {
        outcome.report.each_repository = repositories(each)
    }));
    let reported = status.repositories.as_ref().unwrap();
    assert_eq!(
        (
            reported.summary.as_str(),
            reported.granted,
            reported.waiting,
            reported.failed
        ),
        ("4500/5000", 4500, 500, 0)
    );
    let expected: Vec<String> = (0..5_000)
        .filter(|n| missing(*n))
        .take(100)
        .map(|n| format!("team-b/repository-{n:04}"))
        .collect();
    assert!(reported.items.iter().map(|item| &item.name).eq(&expected));
    let ready = condition(&status, ConditionType::Ready).unwrap();
    assert!(
        ready
            .message
            .contains("and 497 more, see status.repositories"),
        "{}",
        ready.message
    );
    assert!(serde_json::to_string(&status).unwrap().len() < 20_000);
}

#[test]
fn status_lists_100_of_5000_granted_repositories() {
    let each = (0..5_000).map(|n| (format!("r{n:04}"), Ok(())));
    let status = reported(&outcome(|outcome| {
        outcome.report.each_repository = repositories(each)
    }));
    let reported = status.repositories.unwrap();
    assert_eq!(
        (reported.summary.as_str(), reported.items.len()),
        ("5000/5000", 100)
    );
    assert_eq!(reported.items[99].name, "r0099");
}

/// Returns the outcome for repository `web` of a grant that replaces `by hand` and `old`.
fn looked(replaced: &[&str], kept: &[&str]) -> Outcome {
    outcome(|outcome| {
        outcome.replaces = ["by hand", "old"].map(String::from).into();
        let web = outcome.report.each_repository.values_mut().next().unwrap();
        web.replaced = replaced.iter().map(|sid| (*sid).to_owned()).collect();
        web.kept = kept
            .iter()
            .map(|sid| ((*sid).to_owned(), "it allows more".to_owned()))
            .collect();
    })
}

fn replacements(status: &Status) -> Vec<String> {
    status
        .replacements
        .iter()
        .map(|reported| {
            format!(
                "{} {:?} {:?}",
                reported.sid, reported.state, reported.message
            )
        })
        .collect()
}

#[test]
fn replaced_statements_stay_reported_and_kept_ones_say_why() {
    let first = looked(&["by hand"], &["old"]).status(None, Some(1), &at(0));
    assert_eq!(
        replacements(&first),
        ["old Kept Some(\"it allows more\")", "by hand Replaced None"]
    );
    // After a restart the replaced statement is no longer in the policy.
    let later = looked(&[], &[]).status(Some(&first), Some(1), &at(60));
    assert_eq!(replacements(&later), ["by hand Replaced None"]);
    let nothing_looked_at = outcome(|outcome| {
        outcome.replaces = ["by hand".to_owned()].into();
        outcome.report.each_repository.clear();
        outcome.report.repositories = StatusPart::Blocked(problem(Reason::CredentialsUnavailable));
    });
    assert_eq!(
        replacements(&nothing_looked_at.status(Some(&later), Some(1), &at(120))),
        ["by hand Replaced None"]
    );
    let not_asked = outcome(|_| {}).status(Some(&later), Some(2), &at(180));
    assert!(replacements(&not_asked).is_empty());
}

#[test]
fn statement_that_is_back_is_not_reported_as_replaced() {
    let first = looked(&["by hand"], &[]).status(None, Some(1), &at(0));
    let again = looked(&["by hand"], &["by hand"]).status(Some(&first), Some(1), &at(60));
    assert_eq!(
        replacements(&again),
        ["by hand Kept Some(\"it allows more\")"]
    );
}
