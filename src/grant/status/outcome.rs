//! The outcome of a reconcile: the decision on a grant, and what was done for it.

use super::RepositoryOutcome;
use crate::api::grant::{
    AccessStatus, Applied, ConsumerStatus, CrossAccountRegistryGrantSpec as Spec, RegistryStatus,
};
use crate::grant::access;
use crate::grant::{Decision, Grant, Problem};
use std::collections::{BTreeMap, BTreeSet};

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

/// What an apply did for a grant, and what it found in AWS.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyReport {
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
    /// What exists in the registry account.
    pub registry_status: RegistryStatus,
    /// What exists in the consumer account.
    pub consumer_status: ConsumerStatus,
    /// Whether access works.
    pub access: Vec<AccessStatus>,
    /// The changes that would be made. `None`: they were made.
    pub pending: Option<Vec<String>>,
    /// What may still exist in AWS.
    pub claims: Option<Applied>,
}

impl ApplyReport {
    /// Returns the report if nothing was done, with the grant's recorded claims.
    pub fn of_nothing(claims: Option<Applied>) -> Self {
        let untouched = StatusPart::NotRequested("nothing was done".into());
        Self {
            accounts: untouched.clone(),
            no_session: Vec::new(),
            role: untouched.clone(),
            consumer: untouched.clone(),
            repositories: untouched,
            each_repository: BTreeMap::new(),
            registry_status: RegistryStatus::default(),
            consumer_status: ConsumerStatus::default(),
            access: Vec::new(),
            pending: None,
            claims,
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
    /// Combines a decision with what was done for it. `spec` is the resource's current spec, and
    /// `handled` the manual reconcile request that it served.
    pub fn new(
        decision: &Decision,
        spec: &Spec,
        handled: Option<&String>,
        report: ApplyReport,
    ) -> Self {
        let grant = decision.target();
        let ApplyReport {
            accounts,
            no_session,
            role,
            consumer,
            repositories,
            each_repository,
            registry_status,
            consumer_status,
            access,
            pending,
            claims,
        } = report;
        Self {
            revoking: grant.is_none(),
            refusal: decision.problems().to_vec(),
            accounts,
            no_session,
            role,
            consumer,
            repositories,
            each_repository,
            // Independent of what was done: a replaced statement stays recorded for as long as the
            // spec names its Sid.
            replaces: spec.registry.replace_sids.iter().cloned().collect(),
            registry_status: RegistryStatus {
                hosts: grant.map(Grant::registry_hosts).unwrap_or_default(),
                ..registry_status
            },
            consumer_status,
            access,
            pending,
            applied: claims,
            summary: grant.map(Grant::summary).unwrap_or_default(),
            handled: handled.cloned(),
        }
    }

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
}
