//! The status of access and of pending changes.

use super::status::{at, condition, outcome, problem};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::{
    AccessAction, AccessPath, AccessStatus, AccessVerdict,
    CrossAccountRegistryGrantStatus as Status,
};
use crate::grant::status::StatusPart;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn ready(status: &Status) -> &Condition {
    condition(status, ConditionType::Ready).expect("every status has it")
}

/// Returns a path that is denied for another reason than a part of the grant that could not be put
/// in place.
fn denied() -> Vec<AccessStatus> {
    vec![AccessStatus {
        principal: "arn:aws:iam::222222222222:role/node".into(),
        path: AccessPath::Direct,
        action: AccessAction::Pull,
        verdict: AccessVerdict::Denied,
        message: Some("statement Stop denies it".into()),
    }]
}

#[test]
fn denied_path_prevents_ready() {
    let status = outcome(|outcome| outcome.report.access = denied()).status(None, Some(1), &at(0));
    let reported = ready(&status);
    assert_eq!(
        (reported.status.as_str(), reported.reason.as_str()),
        ("False", "PathDenied")
    );
    assert!(
        reported.message.contains("statement Stop denies it"),
        "{}",
        reported.message
    );
}

#[test]
fn missing_part_is_the_reason_instead_of_denied_access() {
    let status = outcome(|outcome| {
        outcome.report.access = denied();
        outcome.report.consumer = StatusPart::Failed(problem(Reason::RoleNotFound));
    });
    assert_eq!(
        ready(&status.status(None, Some(1), &at(0))).reason,
        "RoleNotFound"
    );
}

#[test]
fn observed_grant_lists_and_counts_pending_changes() {
    let many: Vec<String> = (0..120).map(|number| format!("change {number}")).collect();
    let observed = |pending: Vec<String>| {
        outcome(|outcome| {
            outcome.report.access = denied();
            outcome.report.pending = Some(pending);
        })
        .status(None, Some(1), &at(0))
    };
    let status = observed(many);
    let reported = ready(&status);
    assert_eq!(
        (reported.status.as_str(), reported.reason.as_str()),
        ("Unknown", "Observing")
    );
    let pending = status.pending.unwrap();
    assert_eq!((pending.changes, pending.items.len()), (120, 50));
    assert!(
        ready(&observed(Vec::new()))
            .message
            .contains("no changes are pending")
    );
}
