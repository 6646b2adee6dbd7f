//! Shared cache of policies that many grants depend on and that the operator never writes: managed
//! policies (permissions boundaries among them) and registry policies. Concurrent requests for one
//! policy share a read. A request for a fresher policy reads it again.

use crate::aws::Account;
use crate::grant::AccountId;
use crate::policy::evaluate::Named;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// A policy that could not be read is read again at a request after this time, whatever age the
/// request allows.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// A policy without a request in this time is forgotten.
const IDLE_FOR: Duration = Duration::from_secs(7200);

/// Cache of accounts' policies.
#[derive(Default)]
pub struct PolicyCache(Mutex<HashMap<(AccountId, Which), Kept>>);

/// Kind and name of a policy in an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// The managed policy of this ARN.
    Managed(String),
    /// The registry policy of this region.
    Registry(String),
}

/// A policy, and the time of its last request. The lock is held during a read, so that concurrent
/// requests read once.
type Kept = (Arc<tokio::sync::Mutex<Option<Fact>>>, Instant);

struct Fact {
    /// When the read began: later changes may be missing.
    read: Instant,
    policy: Option<Named>,
}

impl PolicyCache {
    /// Returns the managed policy of this ARN, not older than `fresh`.
    pub async fn managed_policy(&self, account: &Account, arn: &str, fresh: Duration) -> Named {
        let read = async { Some(account.managed_policy(arn).await) };
        let found = self
            .get(&account.id, Which::Managed(arn.to_owned()), fresh, read)
            .await;
        found.unwrap_or_else(|| Named::unreadable(format!("policy {arn}"), "it was not read"))
    }

    /// Returns the registry policy of a region, not older than `fresh`. `None`: there is none.
    pub async fn registry_policy(
        &self,
        account: &Account,
        region: &str,
        fresh: Duration,
    ) -> Option<Named> {
        self.get(
            &account.id,
            Which::Registry(region.to_owned()),
            fresh,
            account.registry_policy(region),
        )
        .await
    }

    async fn get(
        &self,
        account: &AccountId,
        which: Which,
        fresh: Duration,
        read: impl Future<Output = Option<Named>>,
    ) -> Option<Named> {
        let asked = Instant::now();
        let slot = {
            let mut policy_cache = self.0.lock().expect("no panic while held");
            let key = (account.clone(), which);
            if !policy_cache.contains_key(&key) {
                policy_cache.retain(|_, (_, asked)| asked.elapsed() < IDLE_FOR);
            }
            let (slot, last) = policy_cache
                .entry(key)
                .or_insert_with(|| (Arc::default(), asked));
            *last = asked;
            slot.clone()
        };
        let mut fact = slot.lock().await;
        if let Some(Fact { read, policy }) = &*fact {
            let failed = policy
                .as_ref()
                .is_some_and(|policy| policy.document.is_err());
            let longest = if failed { fresh.min(FAILED_FOR) } else { fresh };
            // A read that began after this call is as fresh as can be.
            if *read >= asked || read.elapsed() < longest {
                return policy.clone();
            }
        }
        let begun = Instant::now();
        let policy = read.await;
        *fact = Some(Fact {
            read: begun,
            policy: policy.clone(),
        });
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::oneshot;

    fn account() -> AccountId {
        "111111111111".parse().unwrap()
    }

    async fn read(policy_cache: &PolicyCache, fresh: Duration, name: &str) -> String {
        let read = async {
            tokio::task::yield_now().await;
            Some(Named::unreadable(name.to_owned(), "of no account"))
        };
        policy_cache
            .get(&account(), Which::Managed("p".into()), fresh, read)
            .await
            .unwrap()
            .name
    }

    #[tokio::test]
    async fn running_read_does_not_serve_a_fresh_request() {
        let policy_cache = PolicyCache::default();
        let (go_on, waits) = oneshot::channel::<()>();
        let slow = async {
            waits.await.unwrap();
            Some(Named::unreadable("old".to_owned(), "of no account"))
        };
        let account = account();
        let slow = policy_cache.get(&account, Which::Managed("p".into()), Duration::ZERO, slow);
        let second = async {
            let asks = read(&policy_cache, Duration::ZERO, "new");
            tokio::pin!(asks);
            assert!(
                futures::poll!(&mut asks).is_pending(),
                "it waits for the first one"
            );
            go_on.send(()).unwrap();
            asks.await
        };
        let (first, second) = futures::join!(slow, second);
        assert_eq!((first.unwrap().name, second), ("old".into(), "new".into()));
    }

    #[tokio::test]
    async fn simultaneous_requests_cause_at_most_two_reads() {
        let policy_cache = PolicyCache::default();
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let mut read = futures::future::join_all(
            names
                .iter()
                .map(|name| read(&policy_cache, Duration::ZERO, name)),
        )
        .await;
        read.dedup();
        assert!(read.len() <= 2, "{read:?}");
    }
}
