//! Computes the resource's status from an outcome.
//!
//! - `apply_report`: what an apply did for a grant.
//! - `outcome`: the decision on a grant, and what was done for it.
//! - `repositories`: the repositories' part of the status.
//! - `text`: summaries of a grant for status messages.
//!
//! It is a fixed point: the same outcome gives the same status, and `lastTransitionTime` moves only
//! when a condition's status does.

mod apply_report;
mod outcome;
mod repositories;
mod text;

pub use apply_report::{ApplyReport, RepositoryOutcome, StatusPart};
pub use outcome::Outcome;

use super::Problem;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::grant::{
    AccessStatus, Applied, ConsumerStatus, CrossAccountRegistryGrantStatus as Status,
    PendingStatus, RegistryStatus,
};
use crate::text::truncate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::SignedDuration;
use text::{LISTED, LONGEST_OF_MANY};

/// Maximum number of characters in a condition's message. The API allows 32,768, but a message that
/// is too long to be read need not come near that.
const LONGEST: usize = 2_000;

/// How long a problem that resolves itself may last before a person is asked to check. IAM
/// guarantees no bound, and takes seconds.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

impl Outcome {
    /// Returns the accounts part with the refusal, which usually comes from the accounts' rules.
    fn accounts_part(&self) -> StatusPart {
        match (Problem::join(&self.refusal), &self.report.accounts) {
            (None, accounts) => accounts.clone(),
            (Some(refusal), StatusPart::Failed(also)) => StatusPart::Failed(
                Problem::join(&[refusal, also.clone()]).unwrap_or_else(|| also.clone()),
            ),
            (Some(refusal), _) => StatusPart::Failed(refusal),
        }
    }

    /// Returns a part as it is reported. If the spec is refused, a part that was not even tried is
    /// reported with that reason.
    fn reported(&self, part: &StatusPart) -> StatusPart {
        match (self.refusal.first(), part) {
            (Some(refusal), StatusPart::NotRequested(_)) => StatusPart::Blocked(refusal.clone()),
            (_, part) => part.clone(),
        }
    }

    fn ready(&self) -> (&'static str, Reason, String) {
        if let Some(problem) = Problem::join(&self.problems()) {
            return ("False", problem.reason, problem.message);
        }
        if self.revoking {
            return (
                "False",
                Reason::Revoking,
                "access is being revoked in AWS".into(),
            );
        }
        if let Some(pending) = &self.report.pending {
            let changes = match pending.len() {
                0 => "no changes are pending".to_owned(),
                1 => "one change is pending, see status.pending".into(),
                many => format!("{many} changes are pending, see status.pending"),
            };
            let message =
                format!("observing: the operator writes nothing to AWS for this grant; {changes}");
            return ("Unknown", Reason::Observing, message);
        }
        let reason = match &self.report.consumer {
            StatusPart::InPlace(_) => Reason::Granted,
            StatusPart::NotRequested(_)
            | StatusPart::NotManaged(_)
            | StatusPart::Pending(_)
            | StatusPart::Failed(_)
            | StatusPart::Blocked(_) => Reason::RegistrySideReady,
        };
        ("True", reason, self.summary.clone())
    }

    /// Returns the resource's status after this outcome.
    pub fn status(&self, previous: Option<&Status>, generation: Option<i64>, now: &Time) -> Status {
        let (ready, reason, mut message) = self.ready();
        let lasting = self.lasting(previous, generation, now);
        if let Some((_, advice)) = lasting {
            message = format!("{message}. {advice}");
        }
        let mut conditions = vec![
            (ConditionType::Ready, ready, reason, message.clone()),
            condition(
                ConditionType::AccountsReady,
                &self.accounts_part(),
                Reason::CredentialsVerified,
            ),
            condition(
                ConditionType::RoleReady,
                &self.reported(&self.report.role),
                Reason::InPlace,
            ),
            condition(
                ConditionType::RepositoryPoliciesReady,
                &self.reported(&self.report.repositories_part()),
                Reason::InPlace,
            ),
            condition(
                ConditionType::ConsumerReady,
                &self.reported(&self.report.consumer),
                Reason::InPlace,
            ),
        ];
        if ready != "True" {
            conditions.push(match lasting {
                _ if reason.needs_a_person() => (ConditionType::Stalled, "True", reason, message),
                Some((reason, _)) => (ConditionType::Stalled, "True", reason, message),
                None => (ConditionType::Reconciling, "True", reason, message),
            });
        }
        Status {
            observed_generation: generation,
            conditions: dated(conditions, previous, generation, now),
            registry: self.registry(previous),
            consumer: self.consumer(previous),
            repositories: self.report.repositories_status(),
            access: self.access_status(),
            pending: self.pending_status(),
            replacements: self.report.replacements(&self.replaces, previous),
            last_handled_reconcile: self.handled.clone(),
            applied: self.report.claims.clone(),
        }
    }

    /// Returns a problem that usually resolves itself, but has lasted so long that a person should
    /// check: a mistyped name never resolves itself. The duration comes from the last status, from
    /// the youngest of the conditions that gave this reason for this generation.
    fn lasting(
        &self,
        previous: Option<&Status>,
        generation: Option<i64>,
        now: &Time,
    ) -> Option<(Reason, &'static str)> {
        let reported = |reason: Reason| {
            let conditions = previous.into_iter().flat_map(|status| &status.conditions);
            conditions.filter(move |c| {
                c.reason == reason.to_string() && c.observed_generation == generation
            })
        };
        let lasts = |reason: Reason| {
            let since = reported(reason)
                .map(|condition| condition.last_transition_time.0)
                .max();
            since.is_some_and(|since| now.0.duration_since(since) >= PATIENCE)
        };
        let mut advised = self
            .problems()
            .into_iter()
            .filter_map(|problem| Some((problem.reason, advice(problem.reason)?)));
        advised.find(|(reason, _)| lasts(*reason))
    }

    /// Returns the registry's status. What was known of the registry's role stays while the role
    /// cannot be read.
    fn registry(&self, previous: Option<&Status>) -> Option<RegistryStatus> {
        let mut registry = self.report.registry_status.clone();
        if matches!(
            self.report.role,
            StatusPart::Failed(_) | StatusPart::Blocked(_)
        ) && registry.role_arn.is_none()
        {
            let known = previous
                .and_then(|status| status.registry.clone())
                .unwrap_or_default();
            (registry.role_arn, registry.role_id) = (known.role_arn, known.role_id);
        }
        Some(registry).filter(|registry| *registry != RegistryStatus::default())
    }

    fn consumer(&self, previous: Option<&Status>) -> Option<ConsumerStatus> {
        let mut consumer = self.report.consumer_status.clone();
        if matches!(
            self.report.consumer,
            StatusPart::Failed(_) | StatusPart::Blocked(_)
        ) && consumer.role_arn.is_none()
        {
            consumer = previous
                .and_then(|status| status.consumer.clone())
                .unwrap_or_default();
        }
        Some(consumer).filter(|consumer| *consumer != ConsumerStatus::default())
    }

    /// Returns the access verdicts with limited messages. The messages contain foreign Sids and
    /// names, and a policy has room for very long ones.
    fn access_status(&self) -> Vec<AccessStatus> {
        let limited = |access: &AccessStatus| AccessStatus {
            message: access
                .message
                .clone()
                .map(|message| truncate(message, LONGEST_OF_MANY)),
            ..access.clone()
        };
        self.report
            .access
            .iter()
            .take(LISTED)
            .map(limited)
            .collect()
    }

    fn pending_status(&self) -> Option<PendingStatus> {
        const LISTED_CHANGES: usize = 50;
        let pending = self.report.pending.as_ref()?;
        let changes = i32::try_from(pending.len()).unwrap_or(i32::MAX);
        let items = pending
            .iter()
            .take(LISTED_CHANGES)
            .map(|change| truncate(change.clone(), LONGEST_OF_MANY));
        Some(PendingStatus {
            changes,
            items: items.collect(),
        })
    }
}

/// Returns the status before the first write of a generation. The claims are recorded in it, and
/// the old conditions cannot be mistaken for those of the new spec.
pub fn progressing(
    previous: Option<&Status>,
    generation: Option<i64>,
    applied: Applied,
    now: &Time,
) -> Status {
    let message = "reconciling this generation".to_owned();
    let conditions = vec![
        (
            ConditionType::Ready,
            "Unknown",
            Reason::Progressing,
            message.clone(),
        ),
        (
            ConditionType::Reconciling,
            "True",
            Reason::Progressing,
            message,
        ),
    ];
    Status {
        applied: Some(applied),
        ..with_conditions(conditions, previous, generation, now)
    }
}

/// Returns the status with these conditions and everything else unchanged. Each condition names the
/// generation that it describes.
fn with_conditions(
    parts: Vec<ConditionParts>,
    previous: Option<&Status>,
    generation: Option<i64>,
    now: &Time,
) -> Status {
    let conditions = dated(parts, previous, generation, now);
    let passing = [ConditionType::Stalled, ConditionType::Reconciling].map(|kind| kind.to_string());
    let replaced =
        |kind: &String| passing.contains(kind) || conditions.iter().any(|new| new.type_ == *kind);
    let others = previous
        .into_iter()
        .flat_map(|status| status.conditions.clone())
        .filter(|c| !replaced(&c.type_));
    Status {
        observed_generation: generation,
        conditions: conditions.iter().cloned().chain(others).collect(),
        ..previous.cloned().unwrap_or_default()
    }
}

/// Returns the status of a suspended grant. Its information about AWS stays as last observed.
pub fn suspended(
    previous: Option<&Status>,
    generation: Option<i64>,
    applied: Option<Applied>,
    handled: Option<String>,
    now: &Time,
) -> Status {
    let stays = if applied.is_some() {
        "the access that was applied stays"
    } else {
        "nothing has been applied"
    };
    let message = format!(
        "suspended: the operator neither writes nor checks anything in AWS, and {stays}. Set spec.suspend to false to resume"
    );
    let parts = vec![(ConditionType::Ready, "Unknown", Reason::Suspended, message)];
    Status {
        last_handled_reconcile: handled,
        applied,
        ..with_conditions(parts, previous, generation, now)
    }
}

/// Returns what a person should check if a problem that resolves itself has lasted too long.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Settling => Some(
            "This has lasted for more than five minutes, longer than AWS needs to show new resources: check that every account and role that the grant names exists and is spelled correctly. The operator retries every few minutes",
        ),
        Reason::HostNotResolved => Some(
            "This has lasted for more than five minutes: check the name resolution where the operator runs. The operator retries every few minutes",
        ),
        Reason::RoleNotFound => Some(
            "The role has been missing for more than five minutes: check its name, path and account, or create it. The operator retries every few minutes",
        ),
        _ => None,
    }
}

type ConditionParts = (ConditionType, &'static str, Reason, String);

fn condition(kind: ConditionType, part: &StatusPart, in_place: Reason) -> ConditionParts {
    match part {
        StatusPart::InPlace(message) => (kind, "True", in_place, message.clone()),
        StatusPart::NotRequested(message) => {
            (kind, "Unknown", Reason::NotRequested, message.clone())
        }
        StatusPart::NotManaged(message) => (kind, "Unknown", Reason::NotManaged, message.clone()),
        StatusPart::Pending(message) => (kind, "False", Reason::Observing, message.clone()),
        StatusPart::Failed(problem) => (kind, "False", problem.reason, problem.message.clone()),
        StatusPart::Blocked(problem) => (
            kind,
            "Unknown",
            problem.reason,
            "not attempted, see condition AccountsReady".into(),
        ),
    }
}

fn dated(
    parts: Vec<ConditionParts>,
    previous: Option<&Status>,
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    parts
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let before = previous.into_iter().flat_map(|status| &status.conditions);
            let unchanged =
                conditions::find(before, kind).filter(|condition| condition.status == status);
            Condition {
                last_transition_time: unchanged
                    .map_or(now, |condition| &condition.last_transition_time)
                    .clone(),
                message: truncate(message, LONGEST),
                observed_generation: generation,
                reason: reason.to_string(),
                status: status.into(),
                type_: kind.to_string(),
            }
        })
        .collect()
}
