//! The claims as last recorded in each grant's status, for the watch cache lags behind our own
//! writes.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::{Applied, AppliedInstanceRole};
use crate::controller::state::keyed_locks::KeyedLocks;
use crate::controller::state::slots;
use crate::grant::GrantName;
use kube::{Resource, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

/// What is known of each grant, by its UID, ahead of the watch cache.
#[derive(Default)]
pub struct ClaimsCache {
    claims: Mutex<HashMap<String, Option<Applied>>>,
    /// The grants of which nothing was left when that was looked for last.
    nothing_left: Mutex<HashSet<String>>,
    /// The grants without a record for whose access was looked since the start.
    searched: Mutex<HashSet<String>>,
    roles: Mutex<HashMap<String, bool>>,
    carried_out: Mutex<HashMap<String, u64>>,
    at_work: KeyedLocks<GrantName>,
}

impl ClaimsCache {
    /// Has every later use of the claims panic.
    #[cfg(test)]
    pub fn poison(&self) {
        let poisoned = std::panic::AssertUnwindSafe(|| {
            let _claims = self.claims.lock();
            panic!("poisons the lock");
        });
        assert!(std::panic::catch_unwind(poisoned).is_err());
    }

    /// What the grant has on record.
    pub fn claims(&self, grant: &CrossAccountRegistryGrant) -> Option<Applied> {
        let recorded = grant.uid().and_then(|uid| {
            self.claims
                .lock()
                .expect("no panic while held")
                .get(&uid)
                .cloned()
        });
        recorded.unwrap_or_else(|| {
            grant
                .status
                .as_ref()
                .and_then(|status| status.applied.clone())
        })
    }

    /// Whether the grant may be carried by this repository's policy. (Asked of every grant for
    /// every repository, hence without a copy.)
    pub fn covers(
        &self,
        grant: &CrossAccountRegistryGrant,
        region: &str,
        repository: &str,
    ) -> bool {
        let covers = |applied: &Applied| applied.covers(region, repository);
        let recorded = self.claims.lock().expect("no panic while held");
        match grant.meta().uid.as_ref().and_then(|uid| recorded.get(uid)) {
            Some(claims) => claims.as_ref().is_some_and(covers),
            None => grant
                .status
                .as_ref()
                .and_then(|status| status.applied.as_ref())
                .is_some_and(covers),
        }
    }

    /// Whether nothing is on record for the grant (yet).
    pub fn has_no_claims(&self, grant: &CrossAccountRegistryGrant) -> bool {
        let recorded = self.claims.lock().expect("no panic while held");
        match grant.meta().uid.as_ref().and_then(|uid| recorded.get(uid)) {
            Some(applied) => applied.is_none(),
            None => grant
                .status
                .as_ref()
                .and_then(|status| status.applied.as_ref())
                .is_none(),
        }
    }

    /// Whether the grant may have something on this instance role in this instance profile.
    pub fn claims_instance_role(
        &self,
        grant: &CrossAccountRegistryGrant,
        role: &str,
        profile: &str,
    ) -> bool {
        let is_it = |claimed: &AppliedInstanceRole| {
            claimed.role == role && claimed.instance_profile == profile
        };
        let claims = |applied: &Applied| applied.instance_roles.iter().any(is_it);
        let recorded = self.claims.lock().expect("no panic while held");
        match grant.meta().uid.as_ref().and_then(|uid| recorded.get(uid)) {
            Some(applied) => applied.as_ref().is_some_and(claims),
            None => grant
                .status
                .as_ref()
                .and_then(|status| status.applied.as_ref())
                .is_some_and(claims),
        }
    }

    /// Whether the grant may have this role in the registry account.
    pub fn claims_registry_role(&self, grant: &CrossAccountRegistryGrant, role: &str) -> bool {
        let claims = |applied: &Applied| {
            applied
                .registry_roles
                .iter()
                .any(|claimed| claimed.eq_ignore_ascii_case(role))
        };
        let recorded = self.claims.lock().expect("no panic while held");
        match grant.meta().uid.as_ref().and_then(|uid| recorded.get(uid)) {
            Some(applied) => applied.as_ref().is_some_and(claims),
            None => grant
                .status
                .as_ref()
                .and_then(|status| status.applied.as_ref())
                .is_some_and(claims),
        }
    }

    /// Notes that nothing of the grant was left in AWS when that was looked for.
    pub fn record_nothing_left(&self, uid: &str) {
        self.nothing_left
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned());
    }

    /// Whether nothing of the grant was left, and nothing was put on record since.
    pub fn has_nothing_left(&self, grant: &CrossAccountRegistryGrant) -> bool {
        let nothing_left = self.nothing_left.lock().expect("no panic while held");
        grant
            .meta()
            .uid
            .as_ref()
            .is_some_and(|uid| nothing_left.contains(uid))
    }

    /// Notes that what the grant may have without a record was looked for.
    pub fn record_search(&self, uid: &str) {
        self.searched
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned());
    }

    /// Whether what the grant may have without a record was looked for since the start.
    pub fn was_searched_for(&self, uid: &str) -> bool {
        self.searched
            .lock()
            .expect("no panic while held")
            .contains(uid)
    }

    /// Notes what was just recorded.
    pub fn record(&self, grant: &CrossAccountRegistryGrant, applied: Option<Applied>) {
        if let Some(uid) = grant.uid() {
            if applied.is_some() {
                self.nothing_left
                    .lock()
                    .expect("no panic while held")
                    .remove(&uid);
            }
            self.claims
                .lock()
                .expect("no panic while held")
                .insert(uid, applied);
        }
    }

    /// Notes whether the grant's role in the registry account was just found, or made, to be there
    /// and its own.
    pub fn record_role(&self, uid: &str, is_ours: bool) {
        self.roles
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned(), is_ours);
    }

    /// Whether the grant's role in the registry account is there and its own. Before the first look
    /// since the start, the status' word counts, so that a restart takes nothing out of a
    /// repository policy; `None`: nobody can say yet.
    pub fn role_is_ours(&self, grant: &CrossAccountRegistryGrant) -> Option<bool> {
        let recorded = grant.uid().and_then(|uid| {
            self.roles
                .lock()
                .expect("no panic while held")
                .get(&uid)
                .copied()
        });
        let told = || {
            grant
                .status
                .as_ref()?
                .registry
                .as_ref()?
                .role_id
                .as_ref()
                .map(|_| true)
        };
        recorded.or_else(told)
    }

    /// Notes what is carried out for the grant now, by a hash of it, and says whether it was the
    /// same before. After a start nobody knows.
    pub fn carries_out(&self, uid: &str, what: u64) -> bool {
        self.carried_out
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned(), what)
            == Some(what)
    }

    /// Waits until nothing else is done for a grant of this name. A grant that vanished is revoked
    /// after the reconciliation that was under way, which could still make something. Its successor
    /// is reconciled after that revocation, which could otherwise remove the roles that the two
    /// have in common.
    pub async fn alone_on(&self, grant: &GrantName) -> OwnedMutexGuard<()> {
        let turn = self.at_work.of(grant.clone());
        if let Ok(alone) = turn.clone().try_lock_owned() {
            return alone;
        }
        tracing::debug!(%grant, "other work on a grant of this name is under way, waiting for its end");
        slots::give_back();
        turn.lock_owned().await
    }

    /// Forgets a grant that is gone.
    pub fn forget(&self, grant: &CrossAccountRegistryGrant) {
        if let Some(uid) = grant.uid() {
            self.claims
                .lock()
                .expect("no panic while held")
                .remove(&uid);
            self.nothing_left
                .lock()
                .expect("no panic while held")
                .remove(&uid);
            self.searched
                .lock()
                .expect("no panic while held")
                .remove(&uid);
            self.roles.lock().expect("no panic while held").remove(&uid);
            self.carried_out
                .lock()
                .expect("no panic while held")
                .remove(&uid);
        }
    }
}
