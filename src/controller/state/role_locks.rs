//! Locks for the roles that several grants may share: one grant at a time works on a role. Also
//! remembers which trust policies IAM refused.

use super::keyed_locks::KeyedLocks;
use super::slots::{self, Slot, Slots};
use crate::grant::AccountId;
use crate::policy::dead_ids::Refusals;
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::task::Poll;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// Locks of the instance roles that are worked on, and the refusals of their trust policies.
pub struct RoleLocks {
    locks: KeyedLocks<(AccountId, String)>,
    /// The roles whose trust policy IAM refused.
    refusals: Mutex<HashMap<(AccountId, String), Refusals>>,
    started: Instant,
}

impl Default for RoleLocks {
    fn default() -> Self {
        Self {
            locks: KeyedLocks::default(),
            refusals: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl RoleLocks {
    /// Waits until no other work on the role is in progress. Between a read and the write that
    /// follows from it, another grant's work could interfere: of two grants that leave a role at
    /// once, each would assume that the other one stays.
    async fn alone_on(&self, account: &AccountId, role: &str) -> OwnedMutexGuard<()> {
        self.locks
            .of((account.clone(), role.to_owned()))
            .lock_owned()
            .await
    }

    /// Waits for the role like `alone_on`, and then for a work slot in its account. Grants that
    /// wait for a shared role thus hold no slot.
    pub async fn alone_in_turn(
        &self,
        slots: &Slots,
        account: &AccountId,
        role: &str,
    ) -> (OwnedMutexGuard<()>, Slot) {
        let waits = self.alone_on(account, role);
        tokio::pin!(waits);
        let alone = match futures::poll!(&mut waits) {
            Poll::Ready(alone) => alone,
            Poll::Pending => {
                slots::give_back();
                waits.await
            }
        };
        (alone, slots.enter(account.as_str(), true).await)
    }

    /// Records that IAM refused a role's trust policy while it showed these unique IDs. Returns
    /// those that are proven dead.
    pub fn refused(
        &self,
        account: &AccountId,
        role: &str,
        shown: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut refusals = self.refusals.lock().expect("no panic while held");
        refusals
            .entry((account.clone(), role.to_owned()))
            .or_default()
            .refused(shown, self.started.elapsed())
    }

    /// Forgets a role whose trust policy could be written, or needs no write any more.
    pub fn forget_refusals(&self, account: &AccountId, role: &str) {
        self.refusals
            .lock()
            .expect("no panic while held")
            .remove(&(account.clone(), role.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;

    #[tokio::test]
    async fn grants_that_wait_for_one_role_take_no_slots_of_its_account() {
        let (roles, slots) = (Arc::new(RoleLocks::default()), Slots::new(4));
        let account: AccountId = "111111111111".parse().unwrap();
        let (alone, turn) = roles.alone_in_turn(&slots, &account, "shared").await;
        let wait = |first: Option<Slot>| {
            let (roles, slots, account) = (roles.clone(), slots.clone(), account.clone());
            tokio::spawn(slots::beginning_with(first, async move {
                drop(roles.alone_in_turn(&slots, &account, "shared").await);
            }))
        };
        // Some of them have waited for a slot before they began.
        let first = slots.enter(account.as_str(), false).await;
        let waiting = [
            wait(Some(first)),
            wait(None),
            wait(None),
            wait(None),
            wait(None),
        ];
        tokio::task::yield_now().await;
        let enter = || slots.enter(account.as_str(), false).now_or_never();
        let others = [enter(), enter(), enter()];
        assert!(
            others.iter().all(Option::is_some),
            "other work gets the account's other slots"
        );
        drop((alone, turn, others));
        for task in waiting {
            task.await.unwrap();
        }
    }
}
