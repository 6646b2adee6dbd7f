//! The search for what AWS refuses in a repository's policy.
//!
//! - `steps`: which document is next.
//!
//! ECR takes or refuses a document as a whole, and has no dry run: a document that names one
//! account which was closed is refused, whatever else is in it. This is a state machine without a
//! clock or a client: from the document just read and the answers so far it says which document to
//! write next. A refused write changes nothing; an accepted one takes access only from principals
//! that are proven to be refused.
//!
//! 1. **Whole**: everything that is asked for. Nearly always that is all.
//! 2. **Kept**: what the document holds already and is still asked for. If it is taken, then the
//!    newcomers are at fault, and what was to be revoked is gone. If it is refused, then other
//!    people's statements or a member are at fault.
//! 3. **Members**: the same without one member at a time, suspects first. A refusal changes
//!    nothing, and if AWS takes it then the one that was left out is at fault. Members are never
//!    tried in halves.
//! 4. **Apart**: if a revocation is still not written, it outranks: only members that are known to
//!    be good stay, and the others are added back at once.
//! 5. **Newcomers** have nothing to lose: they are tried in halves until those that are refused are
//!    by themselves.

mod steps;

use super::dead_ids::{Refusals, shown};
use super::document::{Document, ParseError, Statement};
use super::held::Held;
use super::installation::Installation;
use super::keep::{Checked, Losing, Violation, checked, unasked};
use super::repository::{GrantContribution, Plan, PolicyUpdate};
use super::scope::asked;
use super::suspects::Suspect;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How many members are left out, one at a time, in one look.
pub const PROBES: usize = 32;
/// The longest pause until what AWS refused is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A search that was broken off is taken up again within this time. Later, too much may have
/// changed.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(600);

/// The memory of one repository's policy from look to look. `A` is AWS's answer where it refuses.
/// Times count from any fixed moment.
#[derive(Clone, Debug)]
pub struct Search<A> {
    phase: Phase,
    /// The principals that are proven to be refused, and are not in the document.
    refused: BTreeMap<String, Refused<A>>,
    /// Those of them that are tried again in this look.
    retried: BTreeSet<String>,
    /// Unique IDs in foreign statements, and when a write was first refused while they were shown.
    ids: Refusals,
    /// Those that are taken out for a revocation.
    without_ids: BTreeSet<String>,
    /// Members without which the document was refused all the same, and all members that there
    /// were.
    cleared: BTreeSet<String>,
    cleared_of: BTreeSet<String>,
    /// What the whole would have been, by a hash of it and of the document read.
    fingerprint: u64,
    blocked: Option<Blocked<A>>,
    /// The last refusal, and the document that was refused.
    last: Option<(A, String)>,
    sent: Option<Sent>,
    /// Whether this look has searched already.
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

/// Why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked<A> {
    /// What stands in the way.
    pub by: By,
    /// How AWS put it.
    pub answer: A,
    at: Duration,
    times: u32,
    fingerprint: u64,
}

/// What stands in the way of every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A statement of others, which is likely to be the cause.
    Foreign(Suspect),
    /// Statements of others: AWS refuses the document without any of ours. Which one is not known.
    SomeForeign,
    /// One of our members, or several; no single one could be found. These are likely.
    Members(BTreeSet<String>),
    /// Nothing that could be found: everything was accepted by itself.
    Unknown,
}

/// What people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A revocation was written while these principals were left out for the moment.
    SetAside(BTreeSet<String>),
    /// These unique IDs of deleted principals were taken out of foreign statements, which were as
    /// given.
    IdsRemoved(BTreeSet<String>, Vec<Statement>),
}

/// What is known of principals from elsewhere: it orders the search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// They are probably gone: an account that refuses us, a role that does not exist.
    pub suspects: BTreeSet<String>,
    /// They are there: an account into which we get, a role that was read.
    pub good: BTreeSet<String>,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Next<Id> {
    /// Write this, then say what came of it.
    Write(Box<SearchStep<Id>>),
    /// Say what is known of these principals, then read again.
    Ask(BTreeSet<String>),
    /// Nothing is left to do in this look. The plan says how things stand.
    Done(Box<Plan<Id>>),
}

/// One write.
#[derive(Clone, Debug)]
pub struct SearchStep<Id> {
    /// The plan that it carries out.
    pub plan: Plan<Id>,
    /// What to write.
    pub write: Checked,
}

/// Why there is no next document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The document read is not a policy.
    #[error(transparent)]
    ParseError(#[from] ParseError),
    /// The document would break the rule that every write has to pass.
    #[error(transparent)]
    Violation(#[from] Violation),
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Whole,
    Kept,
    /// Those that are still to be left out once; `None`: in which order is not known yet. And the
    /// members, or those of them that are there.
    Members(Option<VecDeque<String>>, BTreeSet<String>),
    Apart {
        good: BTreeSet<String>,
    },
    Newcomers {
        groups: Vec<Group>,
        admitted: BTreeSet<String>,
        one_is_bad: bool,
    },
}

/// Newcomers that are tried together.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    who: BTreeSet<String>,
    /// Whether one of them is known to be refused.
    one_is_bad: bool,
    /// Whether one of the next group is refused if all of this one are taken.
    or_of_the_next: bool,
    /// Whether AWS has refused just this group: it is no deduction.
    was_tried: bool,
}

/// What was sent, and is not answered yet.
#[derive(Clone, Debug)]
struct Sent {
    document: String,
    named: BTreeSet<String>,
    without: Option<String>,
    set_aside: BTreeSet<String>,
    ids: Vec<Statement>,
}

/// The document as it was read, and what follows from it.
struct Read<Id> {
    document: Option<Document>,
    held: Held,
    asked: Vec<GrantContribution<Id>>,
    /// Whether something is to be revoked.
    revokes: bool,
    ids: BTreeSet<String>,
    text: Option<String>,
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
    /// Begins a look. One that was broken off goes on, as long as no access depends on what was
    /// found before.
    pub fn begin(&mut self, now: Duration) {
        if now.saturating_sub(self.touched) > TAKEN_UP_WITHIN {
            self.rest();
        }
        // Grants and accounts may have changed since: what a refusal proved of members is proven
        // again, which costs one write.
        if matches!(
            self.phase,
            Phase::Kept | Phase::Members(..) | Phase::Apart { .. }
        ) {
            (self.phase, self.last) = (Phase::Kept, None);
        }
        (self.sent, self.searched, self.probes) = (None, false, 0);
        let is_due = |refused: &Refused<A>| now.saturating_sub(refused.at) >= pause(refused.times);
        self.retried = self
            .refused
            .iter()
            .filter(|(_, of)| is_due(of))
            .map(|(name, _)| name.clone())
            .collect();
    }

    /// What to do next, by the document just read (`None`: there is no policy) and all grants on
    /// it, oldest first.
    ///
    /// # Errors
    /// When what was read is no policy document, or what would be written takes away what grants
    /// ask for.
    pub fn next<Id: Ord + Clone>(
        &mut self,
        read: Option<&str>,
        grants: &[GrantContribution<Id>],
        installation: &Installation,
        now: Duration,
    ) -> Result<Next<Id>, Stop> {
        let document = read.map(Document::parse).transpose()?;
        let asked = asked(document.as_ref(), grants, installation);
        // Nearly always nothing is searched for, and nothing of this is needed.
        let searches = self.phase != Phase::Whole;
        let held = match searches || !self.refused.is_empty() {
            true => Held::of(document.as_ref(), installation),
            false => Held::default(),
        };
        let read = Read {
            revokes: searches && !unasked(document.as_ref(), &asked, installation).is_empty(),
            held,
            ids: document
                .iter()
                .flat_map(|document| shown(document, installation))
                .map(|dead| dead.id)
                .collect(),
            text: read.map(String::from),
            asked,
            document,
        };
        self.touched = now;
        self.sent = None;
        // An ID that is not shown any more belongs to a principal that exists; and AWS has accepted
        // the principals in the document.
        self.ids.read(&read.ids);
        let in_it = steps::principals(&read);
        // Nor does it matter any more what AWS says of those that nobody asks for.
        let contributions = read.asked.iter().flat_map(|grant| &grant.contributions);
        let wanted: BTreeSet<&String> = contributions
            .flat_map(|asked| asked.callers.principals())
            .collect();
        self.refused
            .retain(|name, _| !in_it.contains(name) && wanted.contains(name));
        if searches && !read.revokes {
            self.without_ids.clear();
        }
        loop {
            match self.step(&read, grants, installation, now) {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(stop) => {
                    // The next look begins from the start: where it is now, it would stop again.
                    self.rest();
                    return Err(stop);
                }
            }
        }
    }

    /// What is known of the principals that were asked about.
    pub fn learn(&mut self, evidence: &Evidence) {
        if let Phase::Members(None, members) = &self.phase {
            let of =
                |among: &BTreeSet<String>| members.intersection(among).cloned().collect::<Vec<_>>();
            let (suspects, good) = (of(&evidence.suspects), of(&evidence.good));
            let unknown = members
                .iter()
                .filter(|name| !suspects.contains(name) && !good.contains(name))
                .cloned();
            let queue = suspects
                .iter()
                .cloned()
                .chain(unknown)
                .chain(good.iter().cloned());
            let queue = queue.filter(|name| !self.cleared.contains(name)).collect();
            self.phase = Phase::Members(Some(queue), good.into_iter().collect());
        }
    }

    /// AWS took what was to be written. Gives back whether the look is at its end.
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
            // If this look was taken up here, then nothing is known of the newcomers of now.
            Phase::Kept => self.phase = Phase::newcomers([], as_it_was && self.last.is_some()),
            // It is tried by itself at once: so it is proven, or back.
            Phase::Members(..) => {
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
            Phase::Newcomers {
                groups, admitted, ..
            } => steps::taken(groups, admitted, true),
        }
        false
    }

    /// AWS refused what was to be written, for what is in it.
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
            Phase::Members(..) => self.cleared.extend(without),
            Phase::Newcomers { groups, .. } => {
                if let Some(group) = groups.last_mut() {
                    (group.one_is_bad, group.was_tried) = (true, true);
                }
            }
            // The next step depends on the document.
            Phase::Kept | Phase::Apart { .. } => {}
        }
    }

    /// The principals that AWS refuses, and how it put it.
    pub fn refused(&self) -> BTreeMap<&str, &A> {
        self.refused
            .iter()
            .map(|(name, of)| (name.as_str(), &of.answer))
            .collect()
    }

    /// Why nothing can be written, if so.
    pub fn blocked(&self) -> Option<&Blocked<A>> {
        self.blocked.as_ref()
    }

    /// What people should hear of, once.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Notes that a principal is refused by itself.
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

    /// The search is at its end.
    fn rest(&mut self) {
        (self.phase, self.last, self.sent) = (Phase::Whole, None, None);
        self.without_ids.clear();
    }
}

/// How long after so many refusals in a row it is not tried again: it doubles, and is never longer
/// than what a grant itself waits.
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
