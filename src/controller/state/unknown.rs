//! Grants of this installation that are not in the cache, because this version of the operator
//! cannot read them: they are stored under another version's definition, for instance after a
//! downgrade. What they have in AWS is theirs all the same.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::stored::Stored;
use crate::grant::GrantName;
use crate::grant::desired::Owner;
use crate::policy::Installation;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// UIDs by name.
type Grants = BTreeMap<GrantName, String>;

/// Which grants are unknown.
#[derive(Debug, Default)]
pub struct UnknownGrants {
    /// Whether there may be others in any case: a plan is made from files, which need not hold all
    /// grants.
    assumed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Grants,
    /// Those of the list that is being read.
    listed: Grants,
}

impl UnknownGrants {
    /// There may be unknown grants, or there are none.
    pub fn assumed(assumed: bool) -> Self {
        Self {
            assumed,
            ..Self::default()
        }
    }

    /// Takes note of an event of the watch.
    pub fn note(&self, event: &Event<Stored<CrossAccountRegistryGrant>>) {
        let mut state = self.state.lock().expect("no panic while held");
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(Stored(Ok(_))) => {}
            Event::InitApply(Stored(Err(invalid))) => {
                // Until the list has ended, those that were known before count as well.
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

    /// Whether there may be any.
    pub fn may_exist(&self) -> bool {
        self.assumed
            || !self
                .state
                .lock()
                .expect("no panic while held")
                .known
                .is_empty()
    }

    /// Those whose names are known, as owners of what they have in AWS.
    pub fn owners(&self, installation: &Installation) -> Vec<Owner> {
        let state = self.state.lock().expect("no panic while held");
        let owner = |(grant, uid): (&GrantName, &String)| Owner {
            installation: installation.clone(),
            grant: grant.clone(),
            uid: uid.clone(),
        };
        state.known.iter().map(owner).collect()
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
    fn a_grant_counts_until_it_can_be_read_or_is_gone() {
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
    fn a_list_replaces_what_was_known_once_it_has_ended() {
        let unknown = UnknownGrants::default();
        unknown.note(&Event::Apply(stored("a", json!(7))));
        unknown.note(&Event::Init);
        unknown.note(&Event::InitApply(stored("a", json!("Pull"))));
        assert!(unknown.may_exist(), "the list may go on");
        unknown.note(&Event::InitDone);
        assert!(!unknown.may_exist());
        unknown.note(&Event::Init);
        unknown.note(&Event::InitApply(stored("b", json!(7))));
        assert!(unknown.may_exist());
        unknown.note(&Event::InitDone);
        assert!(unknown.may_exist());
    }
}
