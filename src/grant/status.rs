//! Computes the resource's status from an outcome.
//!
//! - `repositories`: the repositories' part of the status.
//! - `text`: summaries of a grant for status messages.
//!
//! It is a fixed point: the same outcome gives the same status, and `lastTransitionTime` moves only
//! when a condition's status does.

mod repositories;
mod text;

pub use repositories::RepositoryOutcome;

use super::Problem;
use super::access;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::grant::{
    AccessStatus, Applied, ConsumerStatus, CrossAccountRegistryGrantStatus as Status,
    PendingStatus, RegistryStatus,
};
use crate::text::truncate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of repositories that the status lists by name.
const LISTED: usize = 100;
/// Maximum number of characters in a condition's message. The API allows 32,768, but a message that
/// is too long to be read need not come near that.
const LONGEST: usize = 2_000;
/// The same limit for a message that may occur a hundred times.
const LONGEST_OF_MANY: usize = 700;

/// How long a problem that resolves itself may last before a person is asked to check. IAM
/// guarantees no bound, and takes seconds.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// State of one part of a grant.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusPart {
    /// It is as it should be.
    InPlace(String),
    /// It was not requested.
    NotRequested(String),
    /// It was requested, in an account that the operator does not manage.
    NotManaged(String),
    /// It is not as it should be, and is only observed.
    Pending(String),
    /// It could not be put in place.
    Failed(Problem),
    /// It was not tried, because of this problem.
    Blocked(Problem),
}

impl StatusPart {
    /// Adds to the part what could not be revoked of it.
    pub fn with(self, left: &mut [Problem]) -> Self {
        left.sort();
        let left = Problem::join(left);
        match (self, left) {
            (part, None) => part,
            (Self::Failed(problem), Some(left)) => {
                Self::Failed(Problem::join(&[problem.clone(), left]).unwrap_or(problem))
            }
            (Self::Blocked(problem), Some(_)) => Self::Blocked(problem),
            (
                Self::InPlace(_) | Self::NotRequested(_) | Self::NotManaged(_) | Self::Pending(_),
                Some(left),
            ) => Self::Failed(left),
        }
    }
}

/// Outcome of one reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether all access was to be revoked.
    pub revoking: bool,
    /// The reasons why the current spec is refused, regardless of what else was done.
    pub refusal: Vec<Problem>,
    /// The accounts.
    pub accounts: StatusPart,
    /// The reasons why there is no session in an account.
    pub no_session: Vec<Problem>,
    /// The role in the registry account.
    pub role: StatusPart,
    /// The instance role in the consumer account.
    pub consumer: StatusPart,
    /// The repository policies as one unit: a failure that concerns no single repository.
    pub repositories: StatusPart,
    /// Each repository that was reconciled, by region and name.
    pub each_repository: BTreeMap<(String, String), RepositoryOutcome>,
    /// The Sids of foreign statements that the grant replaces.
    pub replaces: BTreeSet<String>,
    /// What exists in the registry account.
    pub registry_status: RegistryStatus,
    /// What exists in the consumer account.
    pub consumer_status: ConsumerStatus,
    /// Whether access works.
    pub access: Vec<AccessStatus>,
    /// The pending changes, if the grant is only observed.
    pub pending: Option<Vec<String>>,
    /// What may still exist in AWS.
    pub applied: Option<Applied>,
    /// A summary of the access that works, for people, if all is well.
    pub summary: String,
    /// The manual reconcile request (annotation `registrygrants.dev/reconcile`) that this reconcile
    /// has handled.
    pub handled: Option<String>,
}

impl Outcome {
    /// Returns everything that went wrong: first why the spec is refused, then what a person must
    /// fix, then what resolves itself.
    pub fn problems(&self) -> Vec<Problem> {
        let parts = [
            &self.accounts,
            &self.role,
            &self.consumer,
            &self.repositories,
        ];
        let of_parts = parts.into_iter().filter_map(|part| match part {
            StatusPart::Failed(problem) => Some(problem.clone()),
            StatusPart::InPlace(_)
            | StatusPart::NotRequested(_)
            | StatusPart::NotManaged(_)
            | StatusPart::Pending(_)
            | StatusPart::Blocked(_) => None,
        });
        let mut problems: Vec<Problem> = of_parts.chain(self.repository_problem()).collect();
        // If a part is not in place, that is the reason, and denied access is only a consequence.
        if problems.is_empty()
            && self.refusal.is_empty()
            && self.pending.is_none()
            && !self.revoking
        {
            problems.extend(access::denied(&self.access));
        }
        problems.sort_by_key(|problem| !problem.reason.needs_a_person());
        self.refusal.iter().cloned().chain(problems).collect()
    }

    /// Returns the accounts part with the refusal, which usually comes from the accounts' rules.
    fn accounts_part(&self) -> StatusPart {
        match (Problem::join(&self.refusal), &self.accounts) {
            (None, accounts) => accounts.clone(),
            (Some(refusal), StatusPart::Failed(also)) => StatusPart::Failed(
                Problem::join(&[refusal, also.clone()]).unwrap_or_else(|| also.clone()),
            ),
            (Some(refusal), _) => StatusPart::Failed(refusal),
        }
    }

    /// Returns a part as it is reported. If the spec is refused, a part that was not even tried is
    /// reported with that reason.
    fn told(&self, part: &StatusPart) -> StatusPart {
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
        if let Some(pending) = &self.pending {
            let changes = match pending.len() {
                0 => "nothing would change".to_owned(),
                1 => "there would be one change, see status.pending".into(),
                many => format!("there would be {many} changes, see status.pending"),
            };
            let message = format!("observing: nothing is written to AWS for this grant; {changes}");
            return ("Unknown", Reason::Observing, message);
        }
        let reason = match &self.consumer {
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
                &self.told(&self.role),
                Reason::InPlace,
            ),
            condition(
                ConditionType::RepositoryPoliciesReady,
                &self.told(&self.repositories_part()),
                Reason::InPlace,
            ),
            condition(
                ConditionType::ConsumerReady,
                &self.told(&self.consumer),
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
            repositories: self.repositories_status(),
            access: self.access_status(),
            pending: self.pending_status(),
            replacements: self.replacements(previous),
            last_handled_reconcile: self.handled.clone(),
            applied: self.applied.clone(),
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
        let told = |reason: Reason| {
            let conditions = previous.into_iter().flat_map(|status| &status.conditions);
            conditions.filter(move |c| {
                c.reason == reason.to_string() && c.observed_generation == generation
            })
        };
        let lasts = |reason: Reason| {
            let since = told(reason)
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
        let mut registry = self.registry_status.clone();
        if matches!(self.role, StatusPart::Failed(_) | StatusPart::Blocked(_))
            && registry.role_arn.is_none()
        {
            let known = previous
                .and_then(|status| status.registry.clone())
                .unwrap_or_default();
            (registry.role_arn, registry.role_id) = (known.role_arn, known.role_id);
        }
        Some(registry).filter(|registry| *registry != RegistryStatus::default())
    }

    fn consumer(&self, previous: Option<&Status>) -> Option<ConsumerStatus> {
        let mut consumer = self.consumer_status.clone();
        if matches!(
            self.consumer,
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
        let told = |access: &AccessStatus| AccessStatus {
            message: access
                .message
                .clone()
                .map(|message| truncate(message, LONGEST_OF_MANY)),
            ..access.clone()
        };
        self.access.iter().take(LISTED).map(told).collect()
    }

    fn pending_status(&self) -> Option<PendingStatus> {
        const TOLD: usize = 50;
        let pending = self.pending.as_ref()?;
        let changes = i32::try_from(pending.len()).unwrap_or(i32::MAX);
        let told = pending
            .iter()
            .take(TOLD)
            .map(|change| truncate(change.clone(), LONGEST_OF_MANY));
        Some(PendingStatus {
            changes,
            items: told.collect(),
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
    let message = "the operator is at work on this generation".to_owned();
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
        ..beside_the_others(conditions, previous, generation, now)
    }
}

/// Returns the status with these conditions and everything else unchanged. Each condition names the
/// generation that it describes.
fn beside_the_others(
    told: Vec<Told>,
    previous: Option<&Status>,
    generation: Option<i64>,
    now: &Time,
) -> Status {
    let told = dated(told, previous, generation, now);
    let passing = [ConditionType::Stalled, ConditionType::Reconciling].map(|kind| kind.to_string());
    let replaced =
        |kind: &String| passing.contains(kind) || told.iter().any(|told| told.type_ == *kind);
    let others = previous
        .into_iter()
        .flat_map(|status| status.conditions.clone())
        .filter(|c| !replaced(&c.type_));
    Status {
        observed_generation: generation,
        conditions: told.iter().cloned().chain(others).collect(),
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
        "what was applied stays as it is"
    } else {
        "nothing has been applied"
    };
    let message = format!(
        "suspended: nothing is written or checked in AWS, and {stays}. Set spec.suspend to false to go on"
    );
    let told = vec![(ConditionType::Ready, "Unknown", Reason::Suspended, message)];
    Status {
        last_handled_reconcile: handled,
        applied,
        ..beside_the_others(told, previous, generation, now)
    }
}

/// Returns what a person should check if a problem that resolves itself has lasted too long.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Settling => Some(
            "This has lasted for more than five minutes, and what was just made in AWS shows sooner: check that every account and role that the grant names exists, and is spelt as it is there. It is tried again every few minutes",
        ),
        Reason::HostNotResolved => Some(
            "This has lasted for more than five minutes: check the name resolution where the operator runs. It is tried again every few minutes",
        ),
        Reason::RoleNotFound => Some(
            "It has been waited for for more than five minutes: check the role's name, path and account, or create it. It is looked for again every few minutes",
        ),
        _ => None,
    }
}

type Told = (ConditionType, &'static str, Reason, String);

fn condition(kind: ConditionType, part: &StatusPart, in_place: Reason) -> Told {
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
            "not tried, see AccountsReady".into(),
        ),
    }
}

fn dated(
    told: Vec<Told>,
    previous: Option<&Status>,
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let before = |kind: &str| {
        previous
            .into_iter()
            .flat_map(|status| &status.conditions)
            .find(|c| c.type_ == kind)
    };
    told.into_iter()
        .map(|(kind, status, reason, message)| {
            let type_ = kind.to_string();
            let unchanged = before(&type_).filter(|condition| condition.status == status);
            Condition {
                last_transition_time: unchanged
                    .map_or(now, |condition| &condition.last_transition_time)
                    .clone(),
                message: truncate(message, LONGEST),
                observed_generation: generation,
                reason: reason.to_string(),
                status: status.into(),
                type_,
            }
        })
        .collect()
}
