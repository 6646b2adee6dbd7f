//! The search for the cause when AWS refuses a repository policy.
//!
//! - `state`: the state of the search, and its answers.
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

mod state;
mod steps;

pub use state::{Blocked, By, Evidence, News, Next, PROBES, Search, SearchError, SearchStep};

use super::GrantContribution;
use super::held::Held;
use super::keep::unasked;
use super::scope::asked;
use crate::policy::dead_ids::shown;
use crate::policy::document::Document;
use crate::policy::installation::Installation;
use state::{CurrentSync, Group, Phase, Sent, pause};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time within which an interrupted search can be resumed. Later, too much may have changed.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(600);

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
    ) -> Result<Next<Id>, SearchError> {
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
}
