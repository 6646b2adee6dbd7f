//! What the cluster knows, from the watch caches.

use crate::api::AWSAccount;
use crate::grant::{AccountId, Directory};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The watch caches of accounts and namespaces.
pub struct Caches {
    pub accounts: Store<AWSAccount>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

impl Caches {
    /// Waits until both were listed once; false when the watches have ended.
    pub async fn filled(&self) -> bool {
        self.accounts.wait_until_ready().await.is_ok() && self.namespaces.wait_until_ready().await.is_ok()
    }
}

impl Directory for Caches {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.accounts.get(&ObjectRef::new(id.as_str()))
    }

    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.map(|namespace| namespace.labels().clone()).unwrap_or_default()
    }
}
