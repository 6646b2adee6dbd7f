//! Places where access was revoked lately, ahead of the watch cache.

use crate::api::account_status::RecentlyRevoked;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::AccountId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub type KnownRevocations = Arc<tokio::sync::Mutex<Option<Vec<RecentlyRevoked>>>>;

/// Recorded places of each account, ahead of the watch cache. Each account has one write at a time.
#[derive(Default)]
pub struct Recent(Mutex<HashMap<AccountId, KnownRevocations>>);

impl Recent {
    /// Returns the record of an account. A write of it needs its lock.
    pub fn record(&self, account: &AccountId) -> KnownRevocations {
        let mut all = self.0.lock().expect("no panic while held");
        all.entry(account.clone()).or_default().clone()
    }

    /// Returns the record of an account, if this process has written one.
    pub fn known(&self, account: &AccountId) -> Option<KnownRevocations> {
        let all = self.0.lock().expect("no panic while held");
        all.get(account).cloned()
    }
}

/// Place where access was revoked.
pub struct Revoked {
    pub repository: RepositoryKey,
    /// Whether this revocation changed the policy just now.
    pub changed: bool,
}
