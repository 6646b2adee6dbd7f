//! The state of the search, and its answers.

use crate::policy::dead_ids::Refusals;
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;
use crate::policy::parse_error::ParseError;
use crate::policy::repository::held::Held;
use crate::policy::repository::keep::{Checked, Violation};
use crate::policy::repository::scope::Scope;
use crate::policy::repository::suspects::Suspect;
use crate::policy::repository::{GrantContribution, Plan, plan_within};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Maximum number of members that one sync leaves out, one at a time.
pub const PROBES: usize = 32;
/// Longest pause before a refused write is retried.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The state of the search for one repository policy, kept from sync to sync. `A` is AWS's answer
/// to a refused write. Times count from any fixed moment.
#[derive(Clone, Debug)]
pub struct Search<A> {
    pub(super) phase: Phase,
    /// The principals that are proven to be refused, and are not in the document.
    pub(super) refused: BTreeMap<String, Refused<A>>,
    /// The refused principals that this sync retries.
    pub(super) retried: BTreeSet<String>,
    /// Unique IDs in foreign statements, each with the time of the first refused write while the
    /// document showed it.
    pub(super) ids: Refusals,
    /// The unique IDs that are removed for a revocation.
    pub(super) without_ids: BTreeSet<String>,
    /// Members that are not the only cause: the document was refused without them, too.
    /// `cleared_of` contains all members at that time.
    pub(super) cleared: BTreeSet<String>,
    pub(super) cleared_of: BTreeSet<String>,
    /// Hash of the document read and of the full document that would be written.
    pub(super) fingerprint: u64,
    pub(super) blocked: Option<Blocked<A>>,
    /// The last refusal, and the document that was refused.
    pub(super) last: Option<(A, String)>,
    pub(super) sent: Option<Sent>,
    /// Whether this sync has already searched.
    pub(super) searched: bool,
    pub(super) probes: usize,
    pub(super) touched: Duration,
    pub(super) news: Vec<News>,
}

#[derive(Clone, Debug)]
pub(super) struct Refused<A> {
    pub(super) answer: A,
    pub(super) at: Duration,
    pub(super) times: u32,
}

/// The reason why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked<A> {
    /// The cause.
    pub by: By,
    /// AWS's answer.
    pub answer: A,
    pub(super) at: Duration,
    pub(super) times: u32,
    pub(super) fingerprint: u64,
}

/// The cause that blocks every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A foreign statement, which is likely to be the cause.
    Foreign(Suspect),
    /// Foreign statements: AWS refuses the document without any of ours. It is not known which
    /// statement it is.
    SomeForeign,
    /// One or several of our members. No single one was found; these are likely.
    Members(BTreeSet<String>),
    /// No cause was found: AWS accepted every part by itself.
    Unknown,
}

/// An event that is reported to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A revocation was written while these principals were temporarily left out.
    SetAside(BTreeSet<String>),
    /// These unique IDs of deleted principals were removed from foreign statements; the statements
    /// are given as they were before.
    IdsRemoved(BTreeSet<String>, Vec<Statement>),
}

/// Knowledge about principals from other sources. It determines the order of the search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Principals that are probably gone: an account that refuses us, a role that does not exist.
    pub suspects: BTreeSet<String>,
    /// Principals that exist: an account that we can access, a role that was read.
    pub good: BTreeSet<String>,
}

/// The next action.
#[derive(Clone, Debug)]
pub enum Next<Id> {
    /// Write this document, then report the answer.
    Write(Box<SearchStep<Id>>),
    /// Provide evidence about these principals, then read again.
    Ask(BTreeSet<String>),
    /// Nothing is left to do in this sync. The plan describes the result.
    Done(Box<Plan<Id>>),
}

/// A write.
#[derive(Clone, Debug)]
pub struct SearchStep<Id> {
    /// The plan that the write carries out.
    pub plan: Plan<Id>,
    /// The document to write.
    pub write: Checked,
}

/// The reason why there is no next document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// The document read is not a policy.
    #[error(transparent)]
    ParseError(#[from] ParseError),
    /// The document would break the rule that every write must pass.
    #[error(transparent)]
    Violation(#[from] Violation),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Whole,
    Kept,
    /// Evidence about the members is awaited, which determines the order of the next phase.
    Evidence {
        members: BTreeSet<String>,
    },
    Members {
        /// The members that are still to be left out, one at a time.
        queue: VecDeque<String>,
        /// The members that are known to exist.
        good: BTreeSet<String>,
    },
    Apart {
        /// The members that are known to exist.
        good: BTreeSet<String>,
    },
    Newcomers(Newcomers),
}

/// The search among newcomers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Newcomers {
    /// The groups that are still to be tried. The last one is next.
    pub(super) groups: Vec<Group>,
    /// The newcomers that AWS accepted.
    pub(super) admitted: BTreeSet<String>,
    /// Whether one of the newcomers that are not in a group yet is known to be refused.
    pub(super) one_is_bad: bool,
}

/// Newcomers that are tried together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) who: BTreeSet<String>,
    /// Whether one of them is known to be refused.
    pub(super) one_is_bad: bool,
    /// Whether AWS refuses one of the next group if it accepts all of this one.
    pub(super) or_of_the_next: bool,
    /// Whether AWS refused exactly this group, rather than it being deduced.
    pub(super) was_tried: bool,
}

/// A write that AWS has not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) document: String,
    pub(super) named: BTreeSet<String>,
    pub(super) without: Option<String>,
    pub(super) set_aside: BTreeSet<String>,
    pub(super) ids: Vec<Statement>,
}

/// One sync: the document as it was read, all grants on it, and what follows from both.
pub(super) struct CurrentSync<'a, Id> {
    pub(super) grants: &'a [GrantContribution<Id>],
    pub(super) installation: &'a Installation,
    pub(super) now: Duration,
    pub(super) text: Option<&'a str>,
    pub(super) document: Option<Document>,
    pub(super) held: Held,
    pub(super) asked: Vec<GrantContribution<Id>>,
    /// Whether there is something to revoke.
    pub(super) revokes: bool,
    pub(super) ids: BTreeSet<String>,
}

impl<Id: Ord + Clone> CurrentSync<'_, Id> {
    /// Plans the next document for the part of the contributions that the scope admits.
    pub(super) fn plan(&self, scope: &Scope) -> Plan<Id> {
        plan_within(self.document.clone(), self.grants, scope, self.installation)
    }
}

impl<A> Default for Search<A> {
    fn default() -> Self {
        Self {
            phase: Phase::Whole,
            refused: BTreeMap::new(),
            retried: BTreeSet::new(),
            ids: Refusals::default(),
            without_ids: BTreeSet::new(),
            cleared: BTreeSet::new(),
            cleared_of: BTreeSet::new(),
            fingerprint: 0,
            blocked: None,
            last: None,
            sent: None,
            searched: false,
            probes: 0,
            touched: Duration::ZERO,
            news: Vec::new(),
        }
    }
}

impl<A: Clone> Search<A> {
    /// Records that a principal is refused by itself.
    pub(super) fn refuse(&mut self, name: String) {
        let Some((answer, _)) = self.last.clone() else {
            return;
        };
        let times = self
            .refused
            .get(&name)
            .map_or(0, |of| of.times)
            .saturating_add(1);
        self.retried.remove(&name);
        self.refused.insert(
            name,
            Refused {
                answer,
                at: self.touched,
                times,
            },
        );
    }

    pub(super) fn block(&mut self, by: By, now: Duration) {
        let Some((answer, _)) = self.last.clone() else {
            return self.rest();
        };
        let fingerprint = self.fingerprint;
        let before = self
            .blocked
            .as_ref()
            .filter(|before| before.fingerprint == fingerprint);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        self.blocked = Some(Blocked {
            by,
            answer,
            at: now,
            times,
            fingerprint,
        });
        self.searched = true;
        self.rest();
    }

    /// Ends the search.
    pub(super) fn rest(&mut self) {
        self.phase = Phase::Whole;
        self.last = None;
        self.sent = None;
        self.without_ids.clear();
    }
}

/// Returns the pause after this many consecutive refusals. It doubles each time, but is never
/// longer than a grant itself waits.
pub(super) fn pause(times: u32) -> Duration {
    Duration::from_secs(1)
        .saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(16)))
        .min(LONGEST_PAUSE)
}

pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
