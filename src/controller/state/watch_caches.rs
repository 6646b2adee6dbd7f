//! The watch caches, and whether they are filled.

use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::grant::{AccountId, AccountLookup};
use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Error, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// The watch caches of accounts and namespaces.
pub struct WatchCaches {
    pub accounts: Store<AWSAccount>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Kind of a watch cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    Grants,
    Accounts,
    Namespaces,
}

/// The caches that are filled. (The stores' own `wait_until_ready` does not serve: of several tasks
/// that wait for one store it wakes only the last.)
pub struct CacheSync(watch::Sender<BTreeSet<Cache>>);

impl Default for CacheSync {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl CacheSync {
    /// Passes a cache's events on, and notes when its list is complete.
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

impl WatchCaches {
    /// Returns the name of an account or namespace of a grant that the API server has and the
    /// caches do not have yet. `None`: there is none. Each kind is watched by itself, so a grant
    /// can arrive before an account that was created first. An object that a cache lacks may exist
    /// nevertheless.
    ///
    /// # Errors
    /// When the API server cannot be reached, or refuses.
    pub async fn behind(
        &self,
        client: &Client,
        grant: &CrossAccountRegistryGrant,
    ) -> Result<Option<String>, Error> {
        let accounts = [
            Some(&grant.spec.registry.account_id),
            grant.spec.consumer.account_id.as_ref(),
        ];
        for account in accounts.into_iter().flatten() {
            if self.accounts.get(&ObjectRef::new(account)).is_some() {
                continue;
            }
            match Api::<AWSAccount>::all(client.clone())
                .get_opt(account)
                .await
            {
                Ok(Some(_)) => return Ok(Some(format!("AWSAccount {account}"))),
                // An account that this version cannot read never gets into the cache.
                Ok(None) | Err(Error::SerdeError(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let namespace = grant.namespace().unwrap_or_default();
        if self.namespaces.get(&ObjectRef::new(&namespace)).is_none()
            && Api::<Namespace>::all(client.clone())
                .get_metadata_opt(&namespace)
                .await?
                .is_some()
        {
            return Ok(Some(format!("namespace {namespace}")));
        }
        Ok(None)
    }
}

impl AccountLookup for WatchCaches {
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
    use kube::client::Body;
    use kube::runtime::reflector;
    use serde_json::{Value, json};

    const REGISTRY: &str = "111111111111";
    const CONSUMER: &str = "222222222222";

    fn grant() -> CrossAccountRegistryGrant {
        let spec = json!({
            "access": "Pull",
            "registry": {"accountID": REGISTRY, "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": CONSUMER, "wholeAccount": true},
        });
        let object = json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrant",
            "metadata": {"name": "grant", "namespace": "team-b"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn account(id: &str) -> Value {
        json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": "AWSAccount", "metadata": {"name": id}, "spec": {}})
    }

    /// Runs `behind` with caches that contain `cached`, for an API server that contains `stored`.
    async fn behind(cached: &[&str], stored: &'static [&'static str]) -> Option<String> {
        let (accounts, mut of_accounts) = reflector::store();
        let (namespaces, mut of_namespaces) = reflector::store();
        for name in cached {
            if name.starts_with(|c: char| c.is_ascii_digit()) {
                of_accounts.apply_watcher_event(&Event::Apply(
                    serde_json::from_value(account(name)).unwrap(),
                ));
            } else {
                let namespace = json!({"metadata": {"name": name}});
                of_namespaces
                    .apply_watcher_event(&Event::Apply(serde_json::from_value(namespace).unwrap()));
            }
        }
        let server = tower::service_fn(move |request: http::Request<Body>| async move {
            let name = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let found = stored.contains(&name.as_str());
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let unreadable = json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": "AWSAccount", "metadata": {"name": name}, "spec": 7});
            let body = match (found, stored.contains(&"unreadable"), name.as_str()) {
                (false, _, _) => status,
                (true, true, CONSUMER) => unreadable,
                (true, _, "team-b") => json!({"metadata": {"name": name}}),
                (true, _, _) => account(&name),
            };
            let answer = http::Response::builder().status(if found { 200 } else { 404 });
            Ok::<_, std::convert::Infallible>(
                answer
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap(),
            )
        });
        let caches = WatchCaches {
            accounts,
            namespaces,
        };
        caches
            .behind(&Client::new(server, "default"), &grant())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn account_is_missing_only_if_the_api_server_lacks_it() {
        assert_eq!(behind(&[REGISTRY, CONSUMER, "team-b"], &[]).await, None);
        let late = behind(&[REGISTRY, "team-b"], &[REGISTRY, CONSUMER, "team-b"]).await;
        assert_eq!(late.as_deref(), Some("AWSAccount 222222222222"));
        assert_eq!(
            behind(&[CONSUMER, "team-b"], &[CONSUMER, "team-b"]).await,
            None,
            "there is none"
        );
        let late = behind(&[REGISTRY, CONSUMER], &["team-b"]).await;
        assert_eq!(late.as_deref(), Some("namespace team-b"));
    }

    #[tokio::test]
    async fn unreadable_account_delays_no_grant() {
        assert_eq!(
            behind(&[REGISTRY, "team-b"], &[CONSUMER, "unreadable"]).await,
            None
        );
    }

    #[tokio::test]
    async fn filled_caches_wake_all_waiting_tasks() {
        let filled = Arc::new(CacheSync::default());
        let wait = |wanted: &'static [Cache]| {
            let filled = filled.clone();
            tokio::spawn(async move { filled.wait_for(wanted).await })
        };
        let waiting = [
            wait(&[Cache::Accounts]),
            wait(&[Cache::Accounts]),
            wait(&[Cache::Accounts, Cache::Grants]),
        ];
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
