//! Identity of a repository, and the outcome of a sync of its policy.

use super::membership::Standings;
use crate::grant::{AccountId, Problem};
use std::fmt;
use std::time::Duration;

/// Identity of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryKey {
    pub account: AccountId,
    pub region: String,
    pub name: String,
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            region,
            name,
        } = self;
        write!(f, "repository {name} in account {account}, {region}")
    }
}

/// How fresh a view of the repository policy the caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// For a settled grant: a sync that is no older than this is good enough, as long as the
    /// contributions are the same.
    MaxAge(Duration),
    /// For a grant that waits for its access, or for its end.
    Fresh,
    /// For a caller that verifies its own write: it does not wait for other callers to join.
    VerifyWrite,
    /// For a policy that was written lately, without any grant that waits for it.
    Background,
}

/// Outcome of the sync of a repository policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// There is no such repository.
    NoRepository,
    /// The policy contains the contributions of all grants, as far as possible.
    UpToDate(Box<Standings>),
}

pub type SyncResult = Result<SyncOutcome, Problem>;

impl SyncOutcome {
    /// Returns the outcome for a caller that is served by it without having run the sync.
    pub fn of_another(self) -> Self {
        match self {
            Self::UpToDate(standings) => {
                let notices = Vec::new();
                Self::UpToDate(Box::new(Standings {
                    put_back: false,
                    changed: None,
                    notices,
                    ..*standings
                }))
            }
            Self::NoRepository => Self::NoRepository,
        }
    }
}
