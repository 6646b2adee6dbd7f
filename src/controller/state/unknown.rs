//! Grants of this installation that are not in the cache, because this version of the operator
//! cannot read them: they are stored under another version's CRD, for instance after a downgrade.
//! Their access in AWS remains theirs.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::stored::Stored;
use crate::grant::GrantName;
use crate::grant::ownership::Owner;
use crate::policy::Installation;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// UIDs by name.
type Grants = BTreeMap<GrantName, String>;

/// Grants that are unknown.
#[derive(Debug, Default)]
pub struct UnknownGrants {
    /// Whether unknown grants are assumed in any case: a plan is made from files, which need not
    /// contain all grants.
    assumed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Grants,
    /// The unknown grants of the list that is being read.
    listed: Grants,
}

impl UnknownGrants {
    /// Sets whether unknown grants are assumed in any case.
    pub fn assumed(assumed: bool) -> Self {
        Self {
            assumed,
            ..Self::default()
        }
    }

    /// Notes an event of the watch.
    pub fn note(&self, event: &Event<Stored<CrossAccountRegistryGrant>>) {
        let mut state = self.state.lock().expect("no panic while held");
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(Stored(Ok(_))) => {}
            Event::InitApply(Stored(Err(invalid))) => {
                // Until the list has ended, the unknown grants from before count as well.
                let (name, uid) = identity(&invalid.metadata);
                state.known.insert(name.clone(), uid.clone());
                state.listed.insert(name, uid);
            }
            Event::InitDone => state.known = std::mem::take(&mut state.listed),
            Event::Apply(Stored(Err(invalid))) => {
                let (name, uid) = identity(&invalid.metadata);
                state.known.insert(name, uid);
            }
            Event::Apply(Stored(Ok(grant))) | Event::Delete(Stored(Ok(grant))) => {
                state.known.remove(&identity(&grant.metadata).0);
            }
            Event::Delete(Stored(Err(invalid))) => {
                state.known.remove(&identity(&invalid.metadata).0);
            }
        }
    }

    /// Returns whether there may be any unknown grants.
    pub fn may_exist(&self) -> bool {
        self.assumed
            || !self
                .state
                .lock()
                .expect("no panic while held")
                .known
                .is_empty()
    }

    /// Returns the unknown grants whose names are known, as owners of their access in AWS.
    pub fn owners(&self, installation: &Installation) -> Vec<Owner> {
        let state = self.state.lock().expect("no panic while held");
        state
            .known
            .iter()
            .map(|(grant, uid)| Owner::of(grant.clone(), uid, installation))
            .collect()
    }
}

fn identity(metadata: &ObjectMeta) -> (GrantName, String) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = GrantName {
        namespace: text(&metadata.namespace),
        name: text(&metadata.name),
    };
    (name, text(&metadata.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Seen = Stored<CrossAccountRegistryGrant>;

    fn stored(name: &str, access: serde_json::Value) -> Seen {
        let spec = json!({
            "access": access,
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        });
        let object = json!({
            "apiVersion": "registrygrants.dev/v1alpha1",
            "kind": "CrossAccountRegistryGrant",
            "metadata": {"name": name, "namespace": "team-b"},
            "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn unknown_grant_counts_until_readable_or_gone() {
        let unknown = UnknownGrants::default();
        unknown.note(&Event::Apply(stored("a", json!(7))));
        unknown.note(&Event::Apply(stored("b", json!(7))));
        unknown.note(&Event::Apply(stored("c", json!("Pull"))));
        assert!(unknown.may_exist());
        unknown.note(&Event::Apply(stored("a", json!("Pull"))));
        assert!(unknown.may_exist());
        unknown.note(&Event::Delete(stored("b", json!(7))));
        assert!(!unknown.may_exist());
    }

    #[test]
    fn completed_list_replaces_the_unknown_grants() {
        let unknown = UnknownGrants::default();
        unknown.note(&Event::Apply(stored("a", json!(7))));
        unknown.note(&Event::Init);
        unknown.note(&Event::InitApply(stored("a", json!("Pull"))));
        assert!(unknown.may_exist(), "the list may continue");
        unknown.note(&Event::InitDone);
        assert!(!unknown.may_exist());
        unknown.note(&Event::Init);
        unknown.note(&Event::InitApply(stored("b", json!(7))));
        assert!(unknown.may_exist());
        unknown.note(&Event::InitDone);
        assert!(unknown.may_exist());
    }
}
