//! The search for the cause when AWS refuses a repository policy.
//!
//! - `steps`: decides which document is next.
//!
//! ECR accepts or refuses a document as one unit, and has no dry run: it refuses a document that
//! names one closed account, whatever else is in it. This module is a state machine without a clock
//! or a client. From the document just read and the answers so far, it decides which document to
//! write next. A refused write changes nothing. An accepted write removes access only from
//! principals that are proven to be refused.
//!
//! 1. **Whole**: everything that grants ask for. Nearly always this is accepted.
//! 2. **Kept**: the access that the document already grants and that is still asked for. If AWS
//!    accepts it, the newcomers are at fault, and every revocation is done. If AWS refuses it,
//!    foreign statements or a member are at fault.
//! 3. **Members**: the same without one member at a time, suspects first. A refusal changes
//!    nothing. If AWS accepts the document, the member that was left out is at fault. Members are
//!    never tried in halves.
//! 4. **Apart**: a revocation that is still not written takes precedence. Only members that are
//!    known to be good stay, and the others are added back at once.
//! 5. **Newcomers** have nothing to lose. They are tried in halves until each refused principal is
//!    isolated.

mod steps;

use super::held::Held;
use super::keep::{Checked, Losing, Violation, checked, unasked};
use super::scope::{Scope, asked};
use super::suspects::Suspect;
use super::{GrantContribution, Plan, PolicyUpdate, plan_within};
use crate::policy::dead_ids::{Refusals, shown};
use crate::policy::document::{Document, ParseError, Statement};
use crate::policy::installation::Installation;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Maximum number of members that one sync leaves out, one at a time.
pub const PROBES: usize = 32;
/// Longest pause before a refused write is retried.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Time within which an interrupted search can be resumed. Later, too much may have changed.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(600);

/// The state of the search for one repository policy, kept from sync to sync. `A` is AWS's answer
/// to a refused write. Times count from any fixed moment.
#[derive(Clone, Debug)]
pub struct Search<A> {
    phase: Phase,
    /// The principals that are proven to be refused, and are not in the document.
    refused: BTreeMap<String, Refused<A>>,
    /// The refused principals that this sync retries.
    retried: BTreeSet<String>,
    /// Unique IDs in foreign statements, each with the time of the first refused write while the
    /// document showed it.
    ids: Refusals,
    /// The unique IDs that are removed for a revocation.
    without_ids: BTreeSet<String>,
    /// Members that are not the only cause: the document was refused without them, too.
    /// `cleared_of` contains all members at that time.
    cleared: BTreeSet<String>,
    cleared_of: BTreeSet<String>,
    /// Hash of the document read and of the full document that would be written.
    fingerprint: u64,
    blocked: Option<Blocked<A>>,
    /// The last refusal, and the document that was refused.
    last: Option<(A, String)>,
    sent: Option<Sent>,
    /// Whether this sync has already searched.
    searched: bool,
    probes: usize,
    touched: Duration,
    news: Vec<News>,
}

#[derive(Clone, Debug)]
struct Refused<A> {
    answer: A,
    at: Duration,
    times: u32,
}

/// The reason why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked<A> {
    /// The cause.
    pub by: By,
    /// AWS's answer.
    pub answer: A,
    at: Duration,
    times: u32,
    fingerprint: u64,
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
pub enum Stop {
    /// The document read is not a policy.
    #[error(transparent)]
    ParseError(#[from] ParseError),
    /// The document would break the rule that every write must pass.
    #[error(transparent)]
    Violation(#[from] Violation),
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
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
struct Newcomers {
    /// The groups that are still to be tried. The last one is next.
    groups: Vec<Group>,
    /// The newcomers that AWS accepted.
    admitted: BTreeSet<String>,
    /// Whether one of the newcomers that are not in a group yet is known to be refused.
    one_is_bad: bool,
}

/// Newcomers that are tried together.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    who: BTreeSet<String>,
    /// Whether one of them is known to be refused.
    one_is_bad: bool,
    /// Whether AWS refuses one of the next group if it accepts all of this one.
    or_of_the_next: bool,
    /// Whether AWS refused exactly this group, rather than it being deduced.
    was_tried: bool,
}

/// A write that AWS has not answered yet.
#[derive(Clone, Debug)]
struct Sent {
    document: String,
    named: BTreeSet<String>,
    without: Option<String>,
    set_aside: BTreeSet<String>,
    ids: Vec<Statement>,
}

/// One sync: the document as it was read, all grants on it, and what follows from both.
struct CurrentSync<'a, Id> {
    grants: &'a [GrantContribution<Id>],
    installation: &'a Installation,
    now: Duration,
    text: Option<&'a str>,
    document: Option<Document>,
    held: Held,
    asked: Vec<GrantContribution<Id>>,
    /// Whether there is something to revoke.
    revokes: bool,
    ids: BTreeSet<String>,
}

impl<Id: Ord + Clone> CurrentSync<'_, Id> {
    /// Plans the next document for the part of the contributions that the scope admits.
    fn plan(&self, scope: &Scope) -> Plan<Id> {
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
    /// Begins a sync. An interrupted search continues if no access depends on its earlier findings.
    pub fn begin(&mut self, now: Duration) {
        if now.saturating_sub(self.touched) > TAKEN_UP_WITHIN {
            self.rest();
        }
        // Grants and accounts may have changed since. Conclusions about members from earlier
        // refusals are therefore proven again, which costs one write.
        match self.phase {
            Phase::Kept | Phase::Evidence { .. } | Phase::Members { .. } | Phase::Apart { .. } => {
                self.phase = Phase::Kept;
                self.last = None;
            }
            Phase::Whole | Phase::Newcomers(_) => {}
        }
        self.sent = None;
        self.searched = false;
        self.probes = 0;
        self.retried = self
            .refused
            .iter()
            .filter(|(_, of)| now.saturating_sub(of.at) >= pause(of.times))
            .map(|(name, _)| name.clone())
            .collect();
    }

    /// Returns the next action for the document just read (`None`: there is no policy) and all
    /// grants on it, oldest first.
    ///
    /// # Errors
    /// When the text read is not a policy document, or the next document would remove access that
    /// grants ask for.
    pub fn next<Id: Ord + Clone>(
        &mut self,
        text: Option<&str>,
        grants: &[GrantContribution<Id>],
        installation: &Installation,
        now: Duration,
    ) -> Result<Next<Id>, Stop> {
        let document = text.map(Document::parse).transpose()?;
        let asked = asked(document.as_ref(), grants, installation);
        // Nearly always there is no search, and none of this is needed.
        let searches = self.phase != Phase::Whole;
        let held = if searches || !self.refused.is_empty() {
            Held::of(document.as_ref(), installation)
        } else {
            Held::default()
        };
        let sync = CurrentSync {
            grants,
            installation,
            now,
            text,
            revokes: searches && !unasked(document.as_ref(), &asked, installation).is_empty(),
            held,
            ids: document
                .iter()
                .flat_map(|document| shown(document, installation))
                .map(|dead| dead.id)
                .collect(),
            asked,
            document,
        };
        self.forget_outdated(&sync);
        if searches && !sync.revokes {
            self.without_ids.clear();
        }
        loop {
            match self.step(&sync) {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(stop) => {
                    // At its current phase, the next sync would stop again. It starts from the
                    // beginning instead.
                    self.rest();
                    return Err(stop);
                }
            }
        }
    }

    /// Forgets what no longer holds for the document just read and for the grants.
    fn forget_outdated<Id>(&mut self, sync: &CurrentSync<'_, Id>) {
        self.touched = sync.now;
        self.sent = None;
        // An ID that is no longer shown belongs to a principal that exists. AWS has accepted the
        // principals in the document.
        self.ids.read(&sync.ids);
        let accepted = steps::principals(sync);
        // AWS's answers about principals that no grant asks for no longer matter.
        let contributions = sync.asked.iter().flat_map(|grant| &grant.contributions);
        let wanted: BTreeSet<&String> = contributions
            .flat_map(|asked| asked.callers.principals())
            .collect();
        self.refused
            .retain(|name, _| !accepted.contains(name) && wanted.contains(name));
    }

    /// Records evidence about the principals from `Next::Ask`.
    pub fn learn(&mut self, evidence: &Evidence) {
        let Phase::Evidence { members } = &self.phase else {
            return;
        };
        let suspects: BTreeSet<String> = members & &evidence.suspects;
        let good: BTreeSet<String> = members & &evidence.good;
        let unknown = members
            .iter()
            .filter(|name| !suspects.contains(*name) && !good.contains(*name));
        let queue = suspects
            .iter()
            .chain(unknown)
            .chain(&good)
            .filter(|name| !self.cleared.contains(*name))
            .cloned()
            .collect();
        self.phase = Phase::Members { queue, good };
    }

    /// Records that AWS accepted the write. Returns whether the sync is complete.
    pub fn accepted(&mut self) -> bool {
        let Some(sent) = self.sent.take() else {
            return true;
        };
        let Sent {
            named,
            without,
            set_aside,
            ids,
            document: _,
        } = sent;
        let as_it_was = ids.is_empty();
        if !as_it_was {
            self.news
                .push(News::IdsRemoved(std::mem::take(&mut self.without_ids), ids));
        }
        self.refused.retain(|name, _| !named.contains(name));
        self.retried.retain(|name| !named.contains(name));
        self.cleared.clear();
        match &mut self.phase {
            Phase::Whole => {
                self.rest();
                self.blocked = None;
                return true;
            }
            // After resuming in this phase, nothing is known about the current newcomers.
            Phase::Kept => self.phase = Phase::newcomers([], as_it_was && self.last.is_some()),
            // The member that was left out is tried by itself at once: it is either proven to be
            // refused, or added back.
            Phase::Evidence { .. } | Phase::Members { .. } => {
                self.phase = Phase::newcomers(without.map(|name| Group::of([name].into())), false)
            }
            Phase::Apart { .. } => {
                self.news.push(News::SetAside(set_aside.clone()));
                self.phase = Phase::newcomers(
                    [Group {
                        one_is_bad: true,
                        ..Group::of(set_aside)
                    }],
                    false,
                );
            }
            Phase::Newcomers(newcomers) => newcomers.admit(true),
        }
        false
    }

    /// Records that AWS refused the write because of its content.
    pub fn was_refused(&mut self, answer: A, now: Duration) {
        let Some(Sent {
            document, without, ..
        }) = self.sent.take()
        else {
            return;
        };
        self.last = Some((answer, document));
        match &mut self.phase {
            Phase::Whole if self.searched => self.block(By::Unknown, now),
            Phase::Whole => self.phase = Phase::Kept,
            Phase::Evidence { .. } | Phase::Members { .. } => self.cleared.extend(without),
            Phase::Newcomers(newcomers) => {
                if let Some(group) = newcomers.groups.last_mut() {
                    group.one_is_bad = true;
                    group.was_tried = true;
                }
            }
            // The next step depends on the document.
            Phase::Kept | Phase::Apart { .. } => {}
        }
    }

    /// Returns the principals that AWS refuses, each with AWS's answer.
    pub fn refused(&self) -> BTreeMap<&str, &A> {
        self.refused
            .iter()
            .map(|(name, of)| (name.as_str(), &of.answer))
            .collect()
    }

    /// Returns the reason why nothing can be written, if there is one.
    pub fn blocked(&self) -> Option<&Blocked<A>> {
        self.blocked.as_ref()
    }

    /// Returns the events to report to people, each once.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Records that a principal is refused by itself.
    fn refuse(&mut self, name: String) {
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

    fn block(&mut self, by: By, now: Duration) {
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
    fn rest(&mut self) {
        self.phase = Phase::Whole;
        self.last = None;
        self.sent = None;
        self.without_ids.clear();
    }
}

/// Returns the pause after this many consecutive refusals. It doubles each time, but is never
/// longer than a grant itself waits.
fn pause(times: u32) -> Duration {
    Duration::from_secs(1)
        .saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(16)))
        .min(LONGEST_PAUSE)
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
