//! What the cluster knows, from the watch caches.

use crate::api::AWSAccount;
use crate::grant::{AccountId, Directory};
use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// The watch caches of accounts and namespaces.
pub struct Caches {
    pub accounts: Store<AWSAccount>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Which caches there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    Grants,
    Accounts,
    Namespaces,
}

/// Which caches hold all there is. (Not by the stores' own `wait_until_ready`: of several who wait for one store it wakes only the
/// last.)
pub struct Filled(watch::Sender<BTreeSet<Cache>>);

impl Default for Filled {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl Filled {
    /// Passes a cache's events on, and takes note when it was listed to its end.
    pub fn watched<K, S>(
        self: &Arc<Self>,
        cache: Cache,
        events: S,
    ) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K, S>
    where
        S: Stream<Item = watcher::Result<Event<K>>>,
    {
        let filled = self.clone();
        events.inspect_ok(move |event| {
            if matches!(event, Event::InitDone) {
                filled.0.send_if_modified(|caches| caches.insert(cache));
            }
        })
    }

    /// Waits until these caches are filled.
    pub async fn wait_for(&self, wanted: &[Cache]) {
        let mut caches = self.0.subscribe();
        let all = |caches: &BTreeSet<Cache>| wanted.iter().all(|cache| caches.contains(cache));
        // The sender lives as long as `self`.
        let _ = caches.wait_for(all).await;
    }
}

impl Directory for Caches {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.accounts.get(&ObjectRef::new(id.as_str()))
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.map(|namespace| namespace.labels().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_the_caches_is_woken() {
        let filled = Arc::new(Filled::default());
        let wait = |wanted: &'static [Cache]| {
            let filled = filled.clone();
            tokio::spawn(async move { filled.wait_for(wanted).await })
        };
        let waiting = [wait(&[Cache::Accounts]), wait(&[Cache::Accounts]), wait(&[Cache::Accounts, Cache::Grants])];
        tokio::task::yield_now().await;
        for cache in [Cache::Accounts, Cache::Grants] {
            let listed = futures::stream::iter([Ok(Event::<()>::Init), Ok(Event::InitDone)]);
            let _: Vec<_> = filled.watched(cache, listed).try_collect().await.unwrap();
        }
        for task in waiting {
            task.await.unwrap();
        }
    }
}
