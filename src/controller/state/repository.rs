//! Identity of a repository, and the outcome of a sync of its policy.

use crate::grant::change::Change as Planned;
use crate::grant::{AccountId, Contributor, Problem};
use crate::policy::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Identity of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryKey {
    pub account: AccountId,
    pub region: String,
    pub name: String,
}

impl RepositoryKey {
    /// Returns the key of some repository.
    #[cfg(test)]
    pub fn example() -> Self {
        let account = "111111111111".parse().expect("12 digits");
        Self::new(&account, "us-east-1", "r")
    }

    pub fn new(account: &AccountId, region: &str, name: impl Into<String>) -> Self {
        Self {
            account: account.clone(),
            region: region.to_owned(),
            name: name.into(),
        }
    }
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

/// State of a repository policy after a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// The grants that have access.
    pub granted: BTreeSet<Contributor>,
    /// The grants that did not fit.
    pub left_out: BTreeSet<Contributor>,
    /// The grants whose access was moved into unowned statements, as they asked.
    pub retained: BTreeSet<Contributor>,
    /// Its length, in characters.
    pub characters: usize,
    /// Foreign statements that ours have replaced since the start.
    pub replaced: BTreeSet<String>,
    /// Foreign statements that should have been replaced and were not, with the reason.
    pub kept: BTreeMap<String, String>,
    /// The grants that could not be added, because AWS refuses a policy that names one of their
    /// principals, or any policy at all.
    pub refused: BTreeMap<Contributor, Problem>,
    /// The reason why access is left in the policy that no grant asks for.
    pub unrevoked: Option<Problem>,
    /// Notices for people, to be published as Events.
    pub notices: Vec<String>,
    /// The problem that somebody else undoes our statements again and again.
    pub contested: Option<Problem>,
    /// Whether this sync restored statements that somebody had undone.
    pub put_back: bool,
    /// The change that this sync has made.
    pub changed: Option<Planned>,
    /// The current policy; `None`: there is none.
    pub policy: Option<Arc<Document>>,
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
