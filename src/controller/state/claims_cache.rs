//! Caches the claims that were last recorded in each grant's status, because the watch cache lags
//! behind our own writes.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::Applied;
use crate::controller::state::keyed_locks::KeyedLocks;
use crate::controller::state::slots;
use crate::grant::GrantName;
use crate::grant::desired::Desired;
use kube::{Resource, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

/// State of each grant, by its UID, ahead of the watch cache.
#[derive(Default)]
pub struct ClaimsCache {
    claims: Mutex<HashMap<String, Option<Applied>>>,
    /// The grants of which the last search found nothing left.
    nothing_left: Mutex<HashSet<String>>,
    /// The grants without a record whose access was searched for since the start.
    searched: Mutex<HashSet<String>>,
    roles: Mutex<HashMap<String, bool>>,
    /// A hash of the state that was applied last.
    last_desired: Mutex<HashMap<String, u64>>,
    at_work: KeyedLocks<GrantName>,
}

impl ClaimsCache {
    /// Makes every later use of the claims panic.
    #[cfg(test)]
    pub fn poison(&self) {
        let poisoned = std::panic::AssertUnwindSafe(|| {
            let _claims = self.claims.lock();
            panic!("poisons the lock");
        });
        assert!(std::panic::catch_unwind(poisoned).is_err());
    }

    /// Passes on the grant's recorded claims: what was noted here last, else what its status says.
    /// (Some callers ask for every grant and every repository, hence without a copy.)
    fn with_claims<T>(
        &self,
        grant: &CrossAccountRegistryGrant,
        read: impl FnOnce(Option<&Applied>) -> T,
    ) -> T {
        let recorded = self.claims.lock().expect("no panic while held");
        let noted = grant.meta().uid.as_ref().and_then(|uid| recorded.get(uid));
        read(match noted {
            Some(claims) => claims.as_ref(),
            None => grant
                .status
                .as_ref()
                .and_then(|status| status.applied.as_ref()),
        })
    }

    /// Returns the grant's recorded claims.
    pub fn claims(&self, grant: &CrossAccountRegistryGrant) -> Option<Applied> {
        self.with_claims(grant, |claims| claims.cloned())
    }

    /// Returns whether this repository's policy may contain the grant's access.
    pub fn covers(
        &self,
        grant: &CrossAccountRegistryGrant,
        region: &str,
        repository: &str,
    ) -> bool {
        self.with_claims(grant, |claims| {
            claims.is_some_and(|applied| applied.covers(region, repository))
        })
    }

    /// Returns whether nothing is recorded for the grant (yet).
    pub fn has_no_claims(&self, grant: &CrossAccountRegistryGrant) -> bool {
        self.with_claims(grant, |claims| claims.is_none())
    }

    /// Returns whether the grant may have something on this instance role in this instance profile.
    pub fn claims_instance_role(
        &self,
        grant: &CrossAccountRegistryGrant,
        role: &str,
        profile: Option<&str>,
    ) -> bool {
        self.with_claims(grant, |claims| {
            claims.is_some_and(|applied| {
                applied
                    .instance_roles
                    .iter()
                    .any(|claimed| claimed.role == role && claimed.profile() == profile)
            })
        })
    }

    /// Returns whether the grant may have this role in the registry account.
    pub fn claims_registry_role(&self, grant: &CrossAccountRegistryGrant, role: &str) -> bool {
        let is_it = |claimed: &String| claimed.eq_ignore_ascii_case(role);
        self.with_claims(grant, |claims| {
            claims.is_some_and(|applied| applied.registry_roles.iter().any(is_it))
        })
    }

    /// Notes that a search found nothing of the grant left in AWS.
    pub fn record_nothing_left(&self, uid: &str) {
        self.nothing_left
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned());
    }

    /// Returns whether nothing of the grant was left, and nothing was recorded since.
    pub fn has_nothing_left(&self, grant: &CrossAccountRegistryGrant) -> bool {
        let nothing_left = self.nothing_left.lock().expect("no panic while held");
        grant
            .meta()
            .uid
            .as_ref()
            .is_some_and(|uid| nothing_left.contains(uid))
    }

    /// Notes that the access of a grant without a record was searched for.
    pub fn record_search(&self, uid: &str) {
        self.searched
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned());
    }

    /// Returns whether the access of a grant without a record was searched for since the start.
    pub fn was_searched_for(&self, uid: &str) -> bool {
        self.searched
            .lock()
            .expect("no panic while held")
            .contains(uid)
    }

    /// Notes the claims that were just recorded.
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

    /// Notes whether the grant's registry role was just found, or made, to exist and to be owned by
    /// the grant.
    pub fn record_role(&self, uid: &str, is_ours: bool) {
        self.roles
            .lock()
            .expect("no panic while held")
            .insert(uid.to_owned(), is_ours);
    }

    /// Returns whether the grant's registry role exists and is owned by the grant. Until the role
    /// is first read after a start, the status counts, so that a restart removes nothing from a
    /// repository policy. `None`: it is not known yet.
    pub fn role_is_ours(&self, grant: &CrossAccountRegistryGrant) -> Option<bool> {
        let recorded = grant.uid().and_then(|uid| {
            self.roles
                .lock()
                .expect("no panic while held")
                .get(&uid)
                .copied()
        });
        let by_status = || {
            grant
                .status
                .as_ref()?
                .registry
                .as_ref()?
                .role_id
                .as_ref()
                .map(|_| true)
        };
        recorded.or_else(by_status)
    }

    /// Remembers the state that is now applied for the grant, and returns whether it was the same
    /// before. After a start, the state before is not known.
    pub fn remembers_desired(&self, uid: &str, desired: Option<&Desired>) -> bool {
        let mut hasher = DefaultHasher::new();
        desired.hash(&mut hasher);
        let now = hasher.finish();
        let mut last = self.last_desired.lock().expect("no panic while held");
        last.insert(uid.to_owned(), now) == Some(now)
    }

    /// Waits until no other work for a grant of this name is in progress. The revocation of a
    /// vanished grant waits for the reconcile that was running, which could still create something.
    /// The successor's reconcile waits for that revocation, which could otherwise remove the roles
    /// that the two grants have in common.
    pub async fn alone_on(&self, grant: &GrantName) -> OwnedMutexGuard<()> {
        let turn = self.at_work.of(grant.clone());
        if let Ok(alone) = turn.clone().try_lock_owned() {
            return alone;
        }
        tracing::debug!(%grant, "waiting for other work on a grant of this name to end");
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
            self.last_desired
                .lock()
                .expect("no panic while held")
                .remove(&uid);
        }
    }
}
