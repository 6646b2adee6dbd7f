//! Reports a sweep. The report contains no times, so that the same findings give the same status.

use super::{Brake, Finding, Seen, SweepDecision};
use crate::api::sweep::{CONFIRM_SWEEP, MAX_FINDINGS, SweepFinding, SweepMode, SweepStatus};
use crate::grant::AccountId;

const MOST_PROBLEMS: usize = 10;

/// Computes the sweep's part of the `AWSAccount`'s status. `failed` lists what could not be
/// removed.
pub fn status(
    account: &AccountId,
    mode: SweepMode,
    seen: &Seen,
    verdict: &SweepDecision,
    failed: &[String],
) -> SweepStatus {
    let kept = seen.findings.len() - seen.removable().count();
    let mut problems: Vec<String> = seen
        .problems
        .iter()
        .map(|problem| problem.message.clone())
        .collect();
    problems.extend(failed.iter().cloned());
    problems.sort();
    problems.dedup();
    problems.truncate(MOST_PROBLEMS);
    SweepStatus {
        mode,
        found: count(seen.findings.len()),
        kept: count(kept),
        message: message(account, seen, verdict),
        confirm: match verdict {
            SweepDecision::Report(Brake::TooMuch { confirm }) => Some(confirm.clone()),
            SweepDecision::Report(_) | SweepDecision::Nothing | SweepDecision::Remove { .. } => {
                None
            }
        },
        items: seen.findings.iter().take(MAX_FINDINGS).map(item).collect(),
        regions: seen.regions.iter().cloned().collect(),
        denied_repositories: count(seen.denied),
        problems,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Returns the message of an Event: the number of findings and where to find them. It contains no
/// names, because Events have other readers than `AWSAccount`s.
pub fn unclaimed(found: i32) -> String {
    format!(
        "{found} roles, instance profiles or repository policies in this AWS account belong to this installation, and no grant claims them: see status.sweep"
    )
}

fn item(Finding { arn, owner, kept }: &Finding) -> SweepFinding {
    SweepFinding {
        arn: arn.clone(),
        grant: owner.as_ref().map(|owner| owner.grant.to_string()),
        kept: kept.clone(),
    }
}

fn message(account: &AccountId, seen: &Seen, verdict: &SweepDecision) -> String {
    match verdict {
        SweepDecision::Nothing if seen.findings.is_empty() => "found nothing that no grant claims".into(),
        SweepDecision::Nothing => {
            "others also use what was found, so it stays: remove their policies or roles from it, or remove the tags registrygrants.dev/* to leave it to them".into()
        }
        SweepDecision::Report(brake) => format!("nothing is removed: {}", why(account, brake)),
        SweepDecision::Remove { .. } => {
            "the operator removes what was found once no grant has claimed it for the time in --sweep-unclaimed-for".into()
        }
    }
}

fn why(account: &AccountId, brake: &Brake) -> String {
    match brake {
        Brake::Mode => "the operator runs with --sweep=report. Remove what was found by hand, or run the operator with --sweep=remove".into(),
        Brake::NoGrants => {
            "this cluster has no grants. If that is intended, remove what was found by hand; otherwise, apply the grants again".into()
        }
        Brake::UnknownGrants(number) => format!(
            "the cluster has {number} grants that this operator cannot read, or has not seen yet. Its Events and log name those that it cannot read"
        ),
        Brake::Incomplete => "the operator could not read all roles and instance profiles, see problems".into(),
        Brake::TooMuch { confirm } => format!(
            "that would be more than five resources, or more than a tenth of what this installation has in the account. Check items; if nobody needs any of them, run: kubectl annotate --overwrite awsaccount {account} {CONFIRM_SWEEP}={confirm}"
        ),
    }
}
