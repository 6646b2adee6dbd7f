//! What the operator remembers of one repository policy from sync to sync.

use crate::aws::error::AwsError;
use crate::controller::state::contention::Contest;
use crate::grant::Contributor;
use crate::policy::repository::search::Search;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// State of a repository that is kept from sync to sync.
pub struct PolicyMemory {
    /// The start of the times that the search uses.
    pub began: Instant,
    pub search: Search<AwsError>,
    /// Notices that were not published as Events yet.
    pub notices: Vec<String>,
    /// Contention about our statements.
    pub contest: Contest,
    /// Contention about foreign statements that ours replace.
    pub replacing: Contest,
    pub replaced: BTreeSet<String>,
    pub written: Option<Instant>,
    /// A sync that no grant had asked for restored something: the next grant that syncs reports it.
    pub untold: bool,
    /// The grants that were in the policy after the last sync, and those that were not, because
    /// they did not fit or AWS refused them.
    pub granted: BTreeSet<Contributor>,
    pub outside: BTreeSet<Contributor>,
}

impl Default for PolicyMemory {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            search: Search::default(),
            notices: Vec::new(),
            contest: Contest::default(),
            replacing: Contest::default(),
            replaced: BTreeSet::new(),
            written: None,
            untold: false,
            granted: BTreeSet::new(),
            outside: BTreeSet::new(),
        }
    }
}
