//! The steps of the search: they decide which document is next.

use super::*;
use crate::policy::repository::scope::{Growth, Scope, limited};
use crate::policy::repository::suspects::{Why, ids_are_removable, suspects};
use crate::policy::repository::{Contribution, plan_within};

impl Phase {
    pub(super) fn newcomers(groups: impl IntoIterator<Item = Group>, one_is_bad: bool) -> Self {
        let groups = groups.into_iter().collect();
        Self::Newcomers {
            groups,
            admitted: BTreeSet::new(),
            one_is_bad,
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

/// Moves the group on top of the stack to the admitted principals. `by_writing` says whether AWS
/// accepted it in a write.
pub(super) fn taken(groups: &mut Vec<Group>, admitted: &mut BTreeSet<String>, by_writing: bool) {
    let Some(group) = groups.pop() else { return };
    admitted.extend(group.who);
    if let Some(next) = groups.last_mut() {
        next.one_is_bad |= group.or_of_the_next && by_writing;
    }
}

impl<A: Clone> Search<A> {
    /// Takes one step. Returns `None` if the step only changed the state of the search.
    pub(super) fn step<Id: Ord + Clone>(
        &mut self,
        read: &Read<Id>,
        grants: &[GrantContribution<Id>],
        installation: &Installation,
        now: Duration,
    ) -> Result<Option<Next<Id>>, Stop> {
        let plan = |scope: &Scope| plan_within(read.document.clone(), grants, scope, installation);
        let without: BTreeSet<String> = self
            .refused
            .keys()
            .filter(|name| !self.retried.contains(*name))
            .cloned()
            .collect();
        let whole = Scope {
            without: without.clone(),
            ..Scope::default()
        };
        let kept = Scope {
            without: without.clone(),
            growth: Growth::Only(BTreeSet::new()),
            without_ids: self.without_ids.clone(),
        };
        match self.phase.clone() {
            Phase::Whole => {
                let whole = plan(&whole);
                if whole.change == PolicyUpdate::None {
                    self.blocked = None;
                    self.rest();
                    return Ok(Some(Next::Done(Box::new(whole))));
                }
                if !self.searched {
                    self.fingerprint = hash(&(&read.text, text(&written(&whole))));
                }
                let waits = |blocked: &Blocked<A>| {
                    blocked.fingerprint == self.fingerprint
                        && now.saturating_sub(blocked.at) < pause(blocked.times)
                };
                if self.blocked.as_ref().is_some_and(waits) {
                    return Ok(Some(Next::Done(Box::new(plan(&kept)))));
                }
                let send = self.send(whole, read, grants, installation, Left::default())?;
                Ok(Some(send))
            }
            Phase::Kept => {
                let plan = plan(&kept);
                let document = written(&plan);
                if read.document.is_none() && document.is_none() {
                    self.phase = Phase::newcomers([], self.last.is_some());
                } else if self.was_refused_before(document.as_ref()) {
                    self.without_any_newcomer(read, installation, now);
                } else {
                    return self
                        .send(plan, read, grants, installation, Left::default())
                        .map(Some);
                }
                Ok(None)
            }
            Phase::Members(None, members) => Ok(Some(Next::Ask(members))),
            Phase::Members(Some(queue), good) => {
                let next = queue
                    .iter()
                    .find(|name| !self.cleared.contains(*name))
                    .filter(|_| self.probes < PROBES);
                let Some(name) = next.cloned() else {
                    self.no_single_member(
                        read,
                        good,
                        queue.iter().all(|name| self.cleared.contains(name)),
                        now,
                    );
                    return Ok(None);
                };
                self.probes += 1;
                let scope = Scope {
                    without: with(&without, [name.clone()]),
                    ..kept
                };
                let left = Left {
                    one: Some(name.clone()),
                    ..Left::default()
                };
                let plan = plan(&scope);
                if self.was_refused_before(written(&plan).as_ref()) {
                    self.cleared.insert(name);
                    return Ok(None);
                }
                self.send(plan, read, grants, installation, left).map(Some)
            }
            Phase::Apart { good } => {
                let aside: BTreeSet<String> = members(read).difference(&good).cloned().collect();
                let scope = Scope {
                    without: with(&without, aside.iter().cloned()),
                    ..kept
                };
                let plan = plan(&scope);
                if !read.revokes {
                    self.rest();
                } else if !self.was_refused_before(written(&plan).as_ref()) {
                    let left = Left {
                        set_aside: aside,
                        ..Left::default()
                    };
                    return self.send(plan, read, grants, installation, left).map(Some);
                } else if good.is_empty() {
                    self.block(self.others(read, installation), now);
                } else {
                    self.phase = Phase::Apart {
                        good: BTreeSet::new(),
                    };
                }
                Ok(None)
            }
            Phase::Newcomers {
                mut groups,
                mut admitted,
                one_is_bad,
            } => {
                let Some(group) = groups.last().cloned() else {
                    let mut who = self.newcomers(read, &without);
                    who.retain(|name| !admitted.contains(name));
                    if who.is_empty() {
                        (self.phase, self.searched) = (Phase::Whole, true);
                        self.retried.clear();
                    } else {
                        groups.push(Group {
                            one_is_bad,
                            ..Group::of(who)
                        });
                        self.phase = Phase::Newcomers {
                            groups,
                            admitted,
                            one_is_bad: false,
                        };
                    }
                    return Ok(None);
                };
                let scope = Scope {
                    growth: Growth::Only(with(&admitted, group.who.iter().cloned())),
                    ..kept
                };
                let plan = plan(&scope);
                if group.one_is_bad {
                    groups.pop();
                    match group.who.len() {
                        0 => {}
                        // AWS accepts this principal in the current document, so it is not refused
                        // by itself and must not lose access. Its growth is tried. If AWS refuses
                        // the growth, the other groups are tried first.
                        1 if !group.who.is_disjoint(&principals(read)) => {
                            let is_stuck = |group: &Group| group.was_tried && group.one_is_bad;
                            if !group.was_tried {
                                groups.push(Group {
                                    one_is_bad: false,
                                    ..group
                                });
                            } else if groups.iter().all(is_stuck) {
                                self.block(By::Unknown, now);
                                return Ok(None);
                            } else {
                                groups.insert(
                                    0,
                                    Group {
                                        or_of_the_next: false,
                                        ..group
                                    },
                                );
                            }
                        }
                        1 => group.who.into_iter().for_each(|name| self.refuse(name)),
                        _ => groups.extend(group.halves()),
                    }
                } else if plan.change == PolicyUpdate::None {
                    taken(&mut groups, &mut admitted, false);
                } else {
                    return self
                        .send(plan, read, grants, installation, Left::default())
                        .map(Some);
                }
                self.phase = Phase::Newcomers {
                    groups,
                    admitted,
                    one_is_bad,
                };
                Ok(None)
            }
        }
    }

    /// Returns a plan's document for writing, if the rule allows it.
    fn send<Id: Ord + Clone>(
        &mut self,
        plan: Plan<Id>,
        read: &Read<Id>,
        grants: &[GrantContribution<Id>],
        installation: &Installation,
        left: Left,
    ) -> Result<Next<Id>, Stop> {
        let document = written(&plan);
        // A principal that AWS accepts in the document just read is not refused by itself, whatever
        // was concluded before.
        let accepted = principals(read);
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
            read.document.as_ref(),
            document,
            grants,
            losing,
            installation,
        )?;
        let document = write.document();
        let principals = document
            .into_iter()
            .flat_map(|document| &document.statements);
        self.sent = Some(Sent {
            document: text(&document.cloned()),
            named: principals
                .flat_map(Statement::aws_principals)
                .map(String::from)
                .collect(),
            without: left.one,
            set_aside: left.set_aside,
            ids: plan.without_ids.clone(),
        });
        Ok(Next::Write(Box::new(SearchStep { plan, write })))
    }

    fn was_refused_before(&self, document: Option<&Document>) -> bool {
        let text = text(&document.cloned());
        self.last
            .as_ref()
            .is_some_and(|(_, refused)| *refused == text)
    }

    /// Handles a refusal of the document without newcomers: foreign statements or members are at
    /// fault.
    fn without_any_newcomer<Id: Clone>(
        &mut self,
        read: &Read<Id>,
        installation: &Installation,
        now: Duration,
    ) {
        let others = self.others(read, installation);
        let proven = self.ids.refused(&read.ids, now) == read.ids;
        let removable = read
            .document
            .as_ref()
            .is_some_and(|document| ids_are_removable(document, installation));
        let members = members(read);
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
                if !read.ids.is_empty()
                    && self.without_ids.is_empty()
                    && read.revokes
                    && proven
                    && removable =>
            {
                self.without_ids = read.ids.clone();
            }
            By::Foreign(_) if !is_guess || !read.revokes => self.block(others, now),
            _ if members.is_empty() => self.block(others, now),
            _ => {
                if self.cleared_of != members {
                    (self.cleared, self.cleared_of) = (BTreeSet::new(), members.clone());
                }
                self.phase = Phase::Members(None, members);
            }
        }
    }

    /// Returns foreign statements as the cause, with the statement that is likely at fault.
    fn others<Id>(&self, read: &Read<Id>, installation: &Installation) -> By {
        let suspects = read
            .document
            .as_ref()
            .map(|document| suspects(document, installation))
            .unwrap_or_default();
        let still_there = |suspect: &Suspect| match &suspect.why {
            Why::Gone(id) => !self.without_ids.contains(id),
            Why::Action(_) | Why::Element(_) => true,
        };
        suspects
            .into_iter()
            .find(still_there)
            .map_or(By::SomeForeign, By::Foreign)
    }

    /// Handles the case that no member by itself is at fault, as far as members were tried.
    fn no_single_member<Id: Clone>(
        &mut self,
        read: &Read<Id>,
        good: BTreeSet<String>,
        all_tried: bool,
        now: Duration,
    ) {
        if read.revokes {
            self.phase = Phase::Apart { good };
            return;
        }
        let likely = members(read).difference(&good).cloned().collect();
        self.block(By::Members(likely), now);
        if all_tried {
            self.cleared.clear();
        }
    }

    /// Returns the principals that need more access than the document grants, and are not known to
    /// be refused.
    fn newcomers<Id: Clone>(
        &self,
        read: &Read<Id>,
        without: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let asked = read.asked.iter().flat_map(|grant| &grant.contributions);
        let grows = |Contribution { actions, callers }: &Contribution| {
            let missing = |one: &crate::policy::principals::PrincipalSet| {
                read.held.allowed().actions(actions, one).len() < actions.len()
            };
            callers
                .each()
                .into_iter()
                .filter(missing)
                .flat_map(|one| one.principals().clone())
                .collect::<Vec<_>>()
        };
        asked
            .flat_map(grows)
            .filter(|name| !without.contains(name))
            .collect()
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
fn members<Id: Clone>(read: &Read<Id>) -> BTreeSet<String> {
    let scope = Scope {
        growth: Growth::Only(BTreeSet::new()),
        ..Scope::default()
    };
    let kept = limited(&read.asked, &scope, &read.held);
    let contributions = kept.iter().flat_map(|grant| &grant.contributions);
    contributions
        .flat_map(|kept| kept.callers.principals())
        .filter(|name| *name != "*")
        .cloned()
        .collect()
}

/// Returns the principals that our statements in the document name, and that AWS has accepted.
pub(super) fn principals<Id>(read: &Read<Id>) -> BTreeSet<String> {
    read.held
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

fn text(document: &Option<Document>) -> String {
    document
        .as_ref()
        .map(Document::to_string)
        .unwrap_or_default()
}

fn with(some: &BTreeSet<String>, more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    some.iter().cloned().chain(more).collect()
}
