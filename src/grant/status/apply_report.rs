//! What an apply did for a grant, as far as its status depends on it.

use crate::api::grant::{AccessStatus, Applied, ConsumerStatus, RegistryStatus};
use crate::grant::Problem;
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

/// Outcome for one repository.
#[derive(Clone, Debug, PartialEq)]
pub struct RepositoryOutcome {
    /// Whether its policy contains the grant, or why not.
    pub result: Result<(), Problem>,
    /// How full the policy is, in percent, rounded up to the next ten.
    pub full_percent: Option<i32>,
    /// The Sids of foreign statements that were removed, as the grant asked.
    pub replaced: BTreeSet<String>,
    /// The Sids of those that were not removed, with the reason.
    pub kept: BTreeMap<String, String>,
}

impl RepositoryOutcome {
    /// Returns the outcome for a policy that contains the grant.
    pub fn granted() -> Self {
        Self {
            result: Ok(()),
            full_percent: None,
            replaced: BTreeSet::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Returns the outcome for a repository that failed.
    pub fn failed(problem: Problem) -> Self {
        Self {
            result: Err(problem),
            full_percent: None,
            replaced: BTreeSet::new(),
            kept: BTreeMap::new(),
        }
    }
}
