//! Grants that disappeared together with many others, so that nothing is revoked for them (see [`super::vanished`]). What they have in AWS stays there
//! until the sweep removes it, or a grant of the same name is there again.

use super::repositories::Repository;
use crate::api::CrossAccountRegistryGrant;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The grants that this process saw disappear.
#[derive(Default)]
pub struct LostGrants(Mutex<Vec<Lost>>);

struct Lost {
    grant: Arc<CrossAccountRegistryGrant>,
    /// The repositories where the sweep has decided that nothing of it is to stay.
    removed_from: BTreeSet<Repository>,
}

impl LostGrants {
    /// Notes that a grant disappeared. Its record stays in the ledger.
    pub fn add(&self, grant: Arc<CrossAccountRegistryGrant>) {
        self.0.lock().expect("no panic while held").push(Lost { grant, removed_from: BTreeSet::new() });
    }

    /// Those of a kind. `cache` has the grants that are there.
    pub fn grants(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        is_of_the_kind: impl Fn(&CrossAccountRegistryGrant) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        self.select(cache, |lost| is_of_the_kind(&lost.grant))
    }

    /// Those of a kind that may still have access to a repository.
    pub fn grants_on(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        repository: &Repository,
        is_of_the_kind: impl Fn(&CrossAccountRegistryGrant) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        self.select(cache, |lost| !lost.removed_from.contains(repository) && is_of_the_kind(&lost.grant))
    }

    /// Notes that nothing of any of them is to stay in a repository's policy.
    pub fn remove_from(&self, repository: &Repository) {
        for lost in self.0.lock().expect("no panic while held").iter_mut() {
            lost.removed_from.insert(repository.clone());
        }
    }

    fn select(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        matches: impl Fn(&Lost) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        let mut all = self.0.lock().expect("no panic while held");
        all.retain(|lost| cache.get(&ObjectRef::from_obj(&*lost.grant)).is_none());
        all.iter().filter(|lost| matches(lost)).map(|lost| lost.grant.clone()).collect()
    }
}
