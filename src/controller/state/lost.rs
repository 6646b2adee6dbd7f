//! Grants that disappeared without having been revoked (see [`crate::controller::vanished`]). Until
//! they are dealt with they count as known: their access is not another operator's. Where many
//! disappeared together, nothing is revoked for them. Their access then stays until the sweep
//! removes it, or a grant of the same name exists again.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::state::repository::RepositoryKey;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Grants that this process saw disappear.
#[derive(Default)]
pub struct LostGrants(Mutex<Vec<Lost>>);

struct Lost {
    grant: Arc<CrossAccountRegistryGrant>,
    /// Whether it is to be revoked. As long as that is not decided, it keeps its access.
    is_revoked: bool,
    /// The repositories where the sweep has decided that none of its access stays.
    removed_from: BTreeSet<RepositoryKey>,
}

impl LostGrants {
    /// Notes that a grant with a record disappears. Call it before the cache loses the grant, so
    /// that it is never unknown.
    pub fn add(&self, grant: Arc<CrossAccountRegistryGrant>) {
        let is_revoked = grant.meta().deletion_timestamp.is_some();
        self.0.lock().expect("no panic while held").push(Lost {
            grant,
            is_revoked,
            removed_from: BTreeSet::new(),
        });
    }

    /// Notes that a grant is revoked from now on.
    pub fn revoke(&self, grant: &CrossAccountRegistryGrant) {
        let mut all = self.0.lock().expect("no panic while held");
        all.iter_mut()
            .filter(|lost| lost.grant.uid() == grant.uid())
            .for_each(|lost| lost.is_revoked = true);
    }

    /// Forgets a grant that was revoked, or that exists after all.
    pub fn forget(&self, grant: &CrossAccountRegistryGrant) {
        self.0
            .lock()
            .expect("no panic while held")
            .retain(|lost| lost.grant.uid() != grant.uid());
    }

    /// Notes that none of their access stays in a repository policy.
    pub fn remove_from(&self, repository: &RepositoryKey) {
        for lost in self.0.lock().expect("no panic while held").iter_mut() {
            lost.removed_from.insert(repository.clone());
        }
    }

    /// Returns all lost grants.
    pub fn all(&self) -> Vec<Arc<CrossAccountRegistryGrant>> {
        self.0
            .lock()
            .expect("no panic while held")
            .iter()
            .map(|lost| lost.grant.clone())
            .collect()
    }

    /// Returns the grants of a kind that keep their access. `cache` contains the grants that exist.
    pub fn kept(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        is_of_the_kind: impl Fn(&CrossAccountRegistryGrant) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        self.select(cache, |lost| is_of_the_kind(&lost.grant))
    }

    /// Returns the grants of a kind that keep their access in a repository policy.
    pub fn kept_on(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        repository: &RepositoryKey,
        is_of_the_kind: impl Fn(&CrossAccountRegistryGrant) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        self.select(cache, |lost| {
            !lost.removed_from.contains(repository) && is_of_the_kind(&lost.grant)
        })
    }

    fn select(
        &self,
        cache: &Store<CrossAccountRegistryGrant>,
        matches: impl Fn(&Lost) -> bool,
    ) -> Vec<Arc<CrossAccountRegistryGrant>> {
        let cached = |lost: &Lost| cache.get(&ObjectRef::from_obj(&*lost.grant));
        let mut all = self.0.lock().expect("no panic while held");
        // Drops the grants whose name another grant has now.
        all.retain(|lost| {
            lost.is_revoked || cached(lost).is_none_or(|there| there.uid() == lost.grant.uid())
        });
        let kept = all
            .iter()
            .filter(|lost| !lost.is_revoked && cached(lost).is_none() && matches(lost));
        kept.map(|lost| lost.grant.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::vanished::tests::grant;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    fn kept(lost: &LostGrants, cache: &Store<CrossAccountRegistryGrant>) -> Vec<String> {
        lost.kept(cache, |_| true)
            .iter()
            .filter_map(|grant| grant.uid())
            .collect()
    }

    #[test]
    fn lost_grant_keeps_its_access_until_decided_or_replaced() {
        let (lost, (cache, mut writer)) = (LostGrants::default(), reflector::store());
        writer.apply_watcher_event(&Event::Apply(grant("a", "1")));
        writer.apply_watcher_event(&Event::Apply(grant("b", "2")));
        lost.add(Arc::new(grant("a", "1")));
        lost.add(Arc::new(grant("b", "2")));
        assert!(kept(&lost, &cache).is_empty(), "the cache still has both");
        writer.apply_watcher_event(&Event::Delete(grant("a", "1")));
        writer.apply_watcher_event(&Event::Delete(grant("b", "2")));
        assert_eq!(kept(&lost, &cache), ["1", "2"]);
        lost.revoke(&grant("a", "1"));
        assert_eq!(kept(&lost, &cache), ["2"]);
        assert_eq!(lost.all().len(), 2, "what is being revoked is still known");
        writer.apply_watcher_event(&Event::Apply(grant("b", "3")));
        assert!(kept(&lost, &cache).is_empty(), "another grant has its name");
        lost.forget(&grant("a", "1"));
        assert!(lost.all().is_empty());
    }
}
