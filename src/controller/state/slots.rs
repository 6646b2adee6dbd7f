//! Work slots: a few grants at a time work in each account, so that the rate limit or the silence
//! of one account does not hold up the others. Work holds a slot only in the account that it calls,
//! and only while it calls it.
//!
//! Revocations go first, then users' changes, then retries, then resyncs. Within a priority, the
//! namespace that was served longest ago is next. Every eighth slot goes to the work that has
//! waited longest, whatever its priority, so that no flood of urgent work keeps the rest waiting
//! for ever. Work on a repository or a role waits here while it holds the lock of that, so this
//! also bounds how long others wait for the lock.

use crate::aws::rate_limit::{self, Priority, Tenant, Work};
use crate::controller::state::pending::Waiting;
use std::cell::Cell;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

#[cfg(test)]
mod tests;

tokio::task_local! {
    /// The slot that the current work began with, until its first use.
    static FIRST: Cell<Option<Slot>>;
}

/// One of so many slots is assigned in the order of arrival.
const BY_ARRIVAL: u64 = 8;

/// The slots of all accounts. Clones share them.
#[derive(Clone)]
pub struct Slots(Arc<Shared>);

struct Shared {
    of_each: usize,
    lines: Mutex<HashMap<String, Line>>,
}

/// An account's slots.
#[derive(Default)]
struct Line {
    busy: usize,
    waiting: Vec<Waiter>,
    /// The number of revocations in progress on repositories and roles that grants share in this
    /// account.
    revocations: usize,
    /// When each namespace was served last, by the number of the slot. Kept while the account has
    /// any work.
    served: HashMap<Tenant, u64>,
    /// The number of slots that were assigned.
    handed_out: u64,
    arrivals: u64,
}

struct Waiter {
    work: Work,
    /// Whether others, of any priority, wait for the same work.
    for_all: bool,
    arrival: u64,
    ready: oneshot::Sender<Slot>,
}

/// Guard of work in an account: dropping it frees the slot.
#[must_use]
pub struct Slot {
    shared: Arc<Shared>,
    account: String,
}

/// Guard of a revocation that waits for repositories or roles that grants share in an account.
#[must_use]
pub struct Revoking {
    shared: Arc<Shared>,
    account: String,
}

impl Slots {
    /// Creates this number of slots for each account.
    pub fn new(of_each: u16) -> Self {
        Self(Arc::new(Shared {
            of_each: usize::from(of_each.max(1)),
            lines: Mutex::default(),
        }))
    }

    /// Waits for a slot in an account, for the work of the current task. Work with `for_all` is
    /// that on a shared document: while a revocation waits for any such document of the account,
    /// the work is as urgent as the revocation.
    pub async fn enter(&self, account: &str, for_all: bool) -> Slot {
        if let Ok(Some(first)) = FIRST.try_with(Cell::take)
            && first.account == account
        {
            return first;
        }
        let (ready, slot) = oneshot::channel();
        self.0.change(account, |line| {
            line.arrivals += 1;
            let arrival = line.arrivals;
            line.waiting.push(Waiter {
                work: Work::current(),
                for_all,
                arrival,
                ready,
            });
        });
        match slot.await {
            Ok(slot) => slot,
            // Unreachable: a line with a waiter is kept.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits for the first slot of work that may change while it waits. `plan` returns the work and
    /// the account where it begins, or `None` if it needs no slot. It is called again after each
    /// change.
    pub async fn first(
        &self,
        plan: impl Fn() -> Option<(Work, String)>,
        waiting: &Waiting,
    ) -> Option<Slot> {
        let mut planned = plan()?;
        loop {
            let (work, account) = planned.clone();
            let mut entered = pin!(rate_limit::with(work, self.enter(&account, false)));
            planned = loop {
                tokio::select! {
                    biased;
                    slot = &mut entered => return Some(slot),
                    () = waiting.changed() => {
                        let now = plan()?;
                        if now != planned {
                            break now;
                        }
                    }
                }
            };
        }
    }

    /// Notes that a revocation is in progress on repositories or roles that grants share in an
    /// account.
    pub fn revoking(&self, account: &str) -> Revoking {
        self.0.change(account, |line| line.revocations += 1);
        Revoking {
            shared: self.0.clone(),
            account: account.to_owned(),
        }
    }
}

/// Runs work with a slot that was obtained before it began: the work's first request gets this
/// slot, if it is for the same account.
pub async fn beginning_with<F: Future>(first: Option<Slot>, work: F) -> F::Output {
    FIRST.scope(Cell::new(first), work).await
}

/// Returns the slot that the current work began with, if it has not been used, because the work is
/// going to wait for something else.
pub fn give_back() {
    drop(FIRST.try_with(Cell::take));
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.change(&self.account, |line| {
            line.busy = line.busy.saturating_sub(1)
        });
    }
}

impl Drop for Revoking {
    fn drop(&mut self) {
        self.shared.change(&self.account, |line| {
            line.revocations = line.revocations.saturating_sub(1)
        });
    }
}

impl Shared {
    /// Changes a line, and assigns the slots that are free afterwards.
    fn change(self: &Arc<Self>, account: &str, change: impl FnOnce(&mut Line)) {
        let mut next = Vec::new();
        {
            let mut lines = self.lines.lock().expect("no panic while held");
            let line = lines.entry(account.to_owned()).or_default();
            change(line);
            line.waiting.retain(|waiter| !waiter.ready.is_closed());
            while let Some(waiter) = line.next(self.of_each) {
                line.busy += 1;
                next.push(waiter.ready);
            }
            if line.busy == 0 && line.waiting.is_empty() && line.revocations == 0 {
                lines.remove(account);
            }
        }
        for ready in next {
            // A waiter that has stopped waiting returns its slot by dropping it.
            drop(ready.send(Slot {
                shared: self.clone(),
                account: account.to_owned(),
            }));
        }
    }
}

impl Line {
    fn next(&mut self, of_each: usize) -> Option<Waiter> {
        let urgency = |waiter: &Waiter| match waiter.for_all && self.revocations > 0 {
            true => Priority::Revocation,
            false => waiter.work.urgency,
        };
        let rank = |waiter: &Waiter| {
            (
                urgency(waiter),
                self.served
                    .get(&waiter.work.tenant)
                    .copied()
                    .unwrap_or_default(),
                waiter.arrival,
            )
        };
        let waiting = || self.waiting.iter().enumerate();
        let may = |(_, waiter): &(usize, &Waiter)| self.busy < at_most(urgency(waiter), of_each);
        let (mut index, _) = waiting()
            .filter(may)
            .min_by_key(|(_, waiter)| rank(waiter))?;
        if (self.handed_out + 1).is_multiple_of(BY_ARRIVAL) {
            // The oldest waiter gets this slot, even if work of its priority leaves such a slot to
            // others: while urgent work keeps coming, it would never get another one.
            index = waiting().min_by_key(|(_, waiter)| waiter.arrival)?.0;
        }
        let waiter = self.waiting.swap_remove(index);
        self.handed_out += 1;
        self.served
            .insert(waiter.work.tenant.clone(), self.handed_out);
        Some(waiter)
    }
}

/// Returns up to how many slots may be in use once work of this priority has begun. Resyncs and
/// retries leave one slot to changes, and revocations have some additional ones of their own.
fn at_most(urgency: Priority, of_each: usize) -> usize {
    match urgency {
        Priority::Revocation => of_each + of_each.div_ceil(2),
        Priority::Change => of_each,
        Priority::Retry | Priority::Resync => (of_each - 1).max(1),
    }
}
