//! The steps of the search: they decide which document is next.

use super::state::{
    By, CurrentSync, Group, Newcomers, Next, PROBES, Phase, Search, SearchError, SearchStep, Sent,
    hash, pause,
};
use crate::policy::document::{Document, Statement};
use crate::policy::repository::keep::{Losing, checked};
use crate::policy::repository::scope::{Growth, Scope, limited};
use crate::policy::repository::suspects::{Suspect, Why, ids_are_removable, suspects};
use crate::policy::repository::{Contribution, Plan, PolicyUpdate};
use std::collections::{BTreeSet, VecDeque};

impl Phase {
    pub(super) fn newcomers(groups: impl IntoIterator<Item = Group>, one_is_bad: bool) -> Self {
        Self::Newcomers(Newcomers {
            groups: groups.into_iter().collect(),
            admitted: BTreeSet::new(),
            one_is_bad,
        })
    }
}

impl Newcomers {
    /// Moves the group that is next to the admitted principals. `by_writing` says whether AWS
    /// accepted it in a write.
    pub(super) fn admit(&mut self, by_writing: bool) {
        let Some(group) = self.groups.pop() else {
            return;
        };
        self.admitted.extend(group.who);
        if let Some(next) = self.groups.last_mut() {
            next.one_is_bad |= group.or_of_the_next && by_writing;
        }
    }
}

impl Group {
    pub(super) fn of(who: BTreeSet<String>) -> Self {
        Self {
            who,
            one_is_bad: false,
            or_of_the_next: false,
            was_tried: false,
        }
    }

    /// Splits the group into halves, with the first one on top of the stack.
    fn halves(self) -> [Self; 2] {
        let half = self.who.len() / 2;
        let first: BTreeSet<String> = self.who.iter().take(half).cloned().collect();
        let second = self.who.difference(&first).cloned().collect();
        [
            Self::of(second),
            Self {
                or_of_the_next: true,
                ..Self::of(first)
            },
        ]
    }
}

impl<A: Clone> Search<A> {
    /// Takes one step. Returns `None` if the step only changed the state of the search.
    pub(super) fn step<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
    ) -> Result<Option<Next<Id>>, SearchError> {
        let kept = Scope {
            without: self
                .refused
                .keys()
                .filter(|name| !self.retried.contains(*name))
                .cloned()
                .collect(),
            growth: Growth::Only(BTreeSet::new()),
            without_ids: self.without_ids.clone(),
        };
        match self.phase.clone() {
            Phase::Whole => self.step_whole(sync, &kept).map(Some),
            Phase::Kept => self.step_kept(sync, &kept),
            Phase::Evidence { members } => Ok(Some(Next::Ask(members))),
            Phase::Members { queue, good } => self.step_members(sync, kept, &queue, good),
            Phase::Apart { good } => self.step_apart(sync, kept, &good),
            Phase::Newcomers(newcomers) => self.step_newcomers(sync, kept, newcomers),
        }
    }

    /// Writes everything that grants ask for, unless AWS has just refused that.
    fn step_whole<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        kept: &Scope,
    ) -> Result<Next<Id>, SearchError> {
        let whole = sync.plan(&Scope {
            without: kept.without.clone(),
            ..Scope::default()
        });
        if whole.change == PolicyUpdate::None {
            self.blocked = None;
            self.rest();
            return Ok(Next::Done(Box::new(whole)));
        }
        if !self.searched {
            self.fingerprint = hash(&(sync.text, text(written(&whole).as_ref())));
        }
        let waits = self.blocked.as_ref().is_some_and(|blocked| {
            blocked.fingerprint == self.fingerprint
                && sync.now.saturating_sub(blocked.at) < pause(blocked.times)
        });
        if waits {
            return Ok(Next::Done(Box::new(sync.plan(kept))));
        }
        self.send(sync, whole, Left::default())
    }

    /// Writes what the document already grants and grants still ask for.
    fn step_kept<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        kept: &Scope,
    ) -> Result<Option<Next<Id>>, SearchError> {
        let plan = sync.plan(kept);
        let document = written(&plan);
        if sync.document.is_none() && document.is_none() {
            self.phase = Phase::newcomers([], self.last.is_some());
        } else if self.was_refused_before(document.as_ref()) {
            self.without_any_newcomer(sync);
        } else {
            return self.send(sync, plan, Left::default()).map(Some);
        }
        Ok(None)
    }

    /// Writes the same without one member.
    fn step_members<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        kept: Scope,
        queue: &VecDeque<String>,
        good: BTreeSet<String>,
    ) -> Result<Option<Next<Id>>, SearchError> {
        let next = queue
            .iter()
            .find(|name| !self.cleared.contains(*name))
            .filter(|_| self.probes < PROBES);
        let Some(name) = next else {
            let all_tried = queue.iter().all(|name| self.cleared.contains(name));
            self.no_single_member(sync, good, all_tried);
            return Ok(None);
        };
        self.probes += 1;
        let plan = sync.plan(&Scope {
            without: with(&kept.without, [name.clone()]),
            ..kept
        });
        if self.was_refused_before(written(&plan).as_ref()) {
            self.cleared.insert(name.clone());
            return Ok(None);
        }
        let left = Left {
            one: Some(name.clone()),
            ..Left::default()
        };
        self.send(sync, plan, left).map(Some)
    }

    /// Writes a revocation with only the members that are known to be good.
    fn step_apart<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        kept: Scope,
        good: &BTreeSet<String>,
    ) -> Result<Option<Next<Id>>, SearchError> {
        let set_aside: BTreeSet<String> = &members(sync) - good;
        let plan = sync.plan(&Scope {
            without: with(&kept.without, set_aside.iter().cloned()),
            ..kept
        });
        if !sync.revokes {
            self.rest();
        } else if !self.was_refused_before(written(&plan).as_ref()) {
            let left = Left {
                set_aside,
                ..Left::default()
            };
            return self.send(sync, plan, left).map(Some);
        } else if good.is_empty() {
            self.block(self.others(sync), sync.now);
        } else {
            self.phase = Phase::Apart {
                good: BTreeSet::new(),
            };
        }
        Ok(None)
    }

    /// Writes the next group of newcomers, or divides it if one of them is known to be refused.
    fn step_newcomers<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        kept: Scope,
        mut newcomers: Newcomers,
    ) -> Result<Option<Next<Id>>, SearchError> {
        let Some(group) = newcomers.groups.last().cloned() else {
            self.group_newcomers(sync, &kept.without, newcomers);
            return Ok(None);
        };
        if group.one_is_bad {
            newcomers.groups.pop();
            self.divide(sync, group, newcomers);
            return Ok(None);
        }
        let plan = sync.plan(&Scope {
            growth: Growth::Only(with(&newcomers.admitted, group.who)),
            ..kept
        });
        if plan.change != PolicyUpdate::None {
            return self.send(sync, plan, Left::default()).map(Some);
        }
        newcomers.admit(false);
        self.phase = Phase::Newcomers(newcomers);
        Ok(None)
    }

    /// Makes one group of all newcomers that were not tried yet. The search ends if there are none.
    fn group_newcomers<Id: Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        without: &BTreeSet<String>,
        mut newcomers: Newcomers,
    ) {
        let mut who = self.newcomers(sync, without);
        who.retain(|name| !newcomers.admitted.contains(name));
        if who.is_empty() {
            self.phase = Phase::Whole;
            self.searched = true;
            self.retried.clear();
            return;
        }
        newcomers.groups.push(Group {
            one_is_bad: newcomers.one_is_bad,
            ..Group::of(who)
        });
        newcomers.one_is_bad = false;
        self.phase = Phase::Newcomers(newcomers);
    }

    /// Divides a group, taken from the stack, of which one is known to be refused. The last one of
    /// such a group is refused.
    fn divide<Id>(&mut self, sync: &CurrentSync<'_, Id>, group: Group, mut newcomers: Newcomers) {
        match group.who.len() {
            0 => {}
            // AWS accepts this principal in the current document, so it is not refused by itself
            // and must not lose access. Its growth is tried. If AWS refuses the growth, the other
            // groups are tried first.
            1 if !group.who.is_disjoint(&principals(sync)) => {
                if !group.was_tried {
                    newcomers.groups.push(Group {
                        one_is_bad: false,
                        ..group
                    });
                } else if newcomers
                    .groups
                    .iter()
                    .all(|other| other.was_tried && other.one_is_bad)
                {
                    self.block(By::Unknown, sync.now);
                    return;
                } else {
                    newcomers.groups.insert(
                        0,
                        Group {
                            or_of_the_next: false,
                            ..group
                        },
                    );
                }
            }
            1 => group.who.into_iter().for_each(|name| self.refuse(name)),
            _ => newcomers.groups.extend(group.halves()),
        }
        self.phase = Phase::Newcomers(newcomers);
    }

    /// Returns a plan's document for writing, if the rule allows it.
    fn send<Id: Ord + Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        plan: Plan<Id>,
        left: Left,
    ) -> Result<Next<Id>, SearchError> {
        // A principal that AWS accepts in the document just read is not refused by itself, whatever
        // was concluded before.
        let accepted = principals(sync);
        let refused = self
            .refused
            .keys()
            .filter(|name| !accepted.contains(*name))
            .chain(&left.one)
            .cloned()
            .collect();
        let losing = Losing {
            refused: &refused,
            set_aside: &left.set_aside,
        };
        let write = checked(
            sync.document.as_ref(),
            written(&plan),
            sync.grants,
            losing,
            sync.installation,
        )?;
        let named = write
            .document()
            .into_iter()
            .flat_map(|document| &document.statements)
            .flat_map(Statement::aws_principals)
            .map(String::from)
            .collect();
        self.sent = Some(Sent {
            document: text(write.document()),
            named,
            without: left.one,
            set_aside: left.set_aside,
            ids: plan.without_ids.clone(),
        });
        Ok(Next::Write(Box::new(SearchStep { plan, write })))
    }

    fn was_refused_before(&self, document: Option<&Document>) -> bool {
        let text = text(document);
        self.last
            .as_ref()
            .is_some_and(|(_, refused)| *refused == text)
    }

    /// Handles a refusal of the document without newcomers: foreign statements or members are at
    /// fault.
    fn without_any_newcomer<Id: Clone>(&mut self, sync: &CurrentSync<'_, Id>) {
        let others = self.others(sync);
        let proven = self.ids.refused(&sync.ids, sync.now) == sync.ids;
        let removable = sync
            .document
            .as_ref()
            .is_some_and(|document| ids_are_removable(document, sync.installation));
        let members = members(sync);
        self.searched = true;
        // An ID that is shown in place of a principal is a fact. Every other suspicion is a guess,
        // for which a revocation does not wait.
        let is_guess = !matches!(
            &others,
            By::Foreign(Suspect {
                why: Why::Gone(_),
                ..
            })
        );
        match &others {
            By::Foreign(_)
                if !sync.ids.is_empty()
                    && self.without_ids.is_empty()
                    && sync.revokes
                    && proven
                    && removable =>
            {
                self.without_ids = sync.ids.clone();
            }
            By::Foreign(_) if !is_guess || !sync.revokes => self.block(others, sync.now),
            _ if members.is_empty() => self.block(others, sync.now),
            _ => {
                if self.cleared_of != members {
                    self.cleared.clear();
                    self.cleared_of = members.clone();
                }
                self.phase = Phase::Evidence { members };
            }
        }
    }

    /// Returns foreign statements as the cause, with the statement that is likely at fault.
    fn others<Id>(&self, sync: &CurrentSync<'_, Id>) -> By {
        let suspects = sync
            .document
            .as_ref()
            .map(|document| suspects(document, sync.installation))
            .unwrap_or_default();
        suspects
            .into_iter()
            .find(|suspect| match &suspect.why {
                Why::Gone(id) => !self.without_ids.contains(id),
                Why::Action(_) | Why::Element(_) => true,
            })
            .map_or(By::SomeForeign, By::Foreign)
    }

    /// Handles the case that no member by itself is at fault, as far as members were tried.
    fn no_single_member<Id: Clone>(
        &mut self,
        sync: &CurrentSync<'_, Id>,
        good: BTreeSet<String>,
        all_tried: bool,
    ) {
        if sync.revokes {
            self.phase = Phase::Apart { good };
            return;
        }
        self.block(By::Members(&members(sync) - &good), sync.now);
        if all_tried {
            self.cleared.clear();
        }
    }

    /// Returns the principals that need more access than the document grants, and are not known to
    /// be refused.
    fn newcomers<Id: Clone>(
        &self,
        sync: &CurrentSync<'_, Id>,
        without: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let asked = sync.asked.iter().flat_map(|grant| &grant.contributions);
        for Contribution { actions, callers } in asked {
            for one in callers.each() {
                if sync.held.allowed().actions(actions, &one).len() < actions.len() {
                    found.extend(one.principals() - without);
                }
            }
        }
        found
    }
}

/// Principals left out of a document although grants ask for them and they are not proven to be
/// refused.
#[derive(Default)]
struct Left {
    /// A single member. AWS refused the document with it; if it accepts the document without it,
    /// then it refuses this principal.
    one: Option<String>,
    set_aside: BTreeSet<String>,
}

/// Returns the principals that the document names for access that is still asked for.
fn members<Id: Clone>(sync: &CurrentSync<'_, Id>) -> BTreeSet<String> {
    let scope = Scope {
        growth: Growth::Only(BTreeSet::new()),
        ..Scope::default()
    };
    let kept = limited(&sync.asked, &scope, &sync.held);
    let contributions = kept.iter().flat_map(|grant| &grant.contributions);
    contributions
        .flat_map(|kept| kept.callers.principals())
        .filter(|name| *name != "*")
        .cloned()
        .collect()
}

/// Returns the principals that our statements in the document name, and that AWS has accepted.
pub(super) fn principals<Id>(sync: &CurrentSync<'_, Id>) -> BTreeSet<String> {
    sync.held
        .allowed()
        .parts()
        .iter()
        .flat_map(|part| part.callers.principals())
        .cloned()
        .collect()
}

/// Returns the document that would be written; the current document if nothing changes.
fn written<Id>(plan: &Plan<Id>) -> Option<Document> {
    match &plan.change {
        PolicyUpdate::Set(document) => Some(document.clone()),
        PolicyUpdate::Delete => None,
        PolicyUpdate::None => plan.current.clone(),
    }
}

fn text(document: Option<&Document>) -> String {
    document.map(Document::to_string).unwrap_or_default()
}

fn with(some: &BTreeSet<String>, more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    some.iter().cloned().chain(more).collect()
}
