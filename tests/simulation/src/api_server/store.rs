//! Storage with one revision counter for all objects, and a history of changes, like etcd.

use super::kinds::Kind;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

/// Identity of an object among all that exist at one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty if the kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Creates a key. `namespace` is empty for kinds that have none.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One version of an object.
#[derive(Debug)]
pub struct Stored {
    value: Value,
    revision: u64,
    text: OnceLock<Bytes>,
}

impl Stored {
    fn new(mut value: Value, revision: u64) -> Arc<Self> {
        value["metadata"]["resourceVersion"] = json!(revision.to_string());
        Arc::new(Self {
            value,
            revision,
            text: OnceLock::new(),
        })
    }

    /// Returns the object.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the revision of the write that stored it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the object's JSON text.
    pub(super) fn text(&self) -> &Bytes {
        self.text
            .get_or_init(|| Bytes::from(self.value.to_string()))
    }
}

/// One change of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision of the change.
    pub revision: u64,
    /// The object.
    pub key: Key,
    /// The version before. `None`: the object is new.
    pub old: Option<Arc<Stored>>,
    /// The version after; of a deleted object, the last one with the revision of the deletion.
    pub new: Arc<Stored>,
    /// Whether the object was deleted.
    pub is_deletion: bool,
    /// When it happened, on tokio's time.
    pub at: Instant,
}

/// All objects, and their history since the last compaction.
#[derive(Clone, Debug, Default)]
pub struct Store {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Arc<Change>>,
}

impl Store {
    /// Returns the revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the revision up to which the history was removed.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Returns an object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    /// Returns all objects of a kind, by namespace and name.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Arc<Stored>)> {
        let from = Key::new(kind, "", "");
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// Returns the objects of a kind as they were at a revision. `None`: the history does not reach
    /// back that far.
    pub(super) fn objects_at(
        &self,
        kind: Kind,
        revision: u64,
    ) -> Option<BTreeMap<Key, Arc<Stored>>> {
        if revision < self.compacted {
            return None;
        }
        let mut objects: BTreeMap<Key, Arc<Stored>> = self
            .objects(kind)
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect();
        for change in self.history.iter().rev() {
            if change.revision <= revision {
                break;
            }
            if change.key.kind != kind {
                continue;
            }
            match &change.old {
                Some(old) => drop(objects.insert(change.key.clone(), old.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        Some(objects)
    }

    /// Returns the first change of a kind after a revision.
    pub(super) fn change_after(&self, kind: Kind, revision: u64) -> Option<&Arc<Change>> {
        let after = self
            .history
            .partition_point(|change| change.revision <= revision);
        self.history
            .range(after..)
            .find(|change| change.key.kind == kind)
    }

    /// Returns the change that storing this value would be. A value without its key's object
    /// creates it.
    pub(super) fn storing(&self, key: Key, value: Value) -> Change {
        let revision = self.revision + 1;
        Change {
            revision,
            old: self.objects.get(&key).cloned(),
            key,
            new: Stored::new(value, revision),
            is_deletion: false,
            at: Instant::now(),
        }
    }

    /// Returns the change that the deletion of an object would be. `last` is its last version.
    pub(super) fn deleting(&self, key: Key, last: Value) -> Change {
        Change {
            is_deletion: true,
            ..self.storing(key, last)
        }
    }

    /// Carries out a change.
    pub(super) fn commit(&mut self, change: Change) {
        self.revision = change.revision;
        if change.is_deletion {
            self.objects.remove(&change.key);
        } else {
            self.objects.insert(change.key.clone(), change.new.clone());
        }
        self.history.push_back(Arc::new(change));
    }

    /// Removes the history up to and including a revision.
    pub(super) fn compact(&mut self, revision: u64) {
        let revision = revision.min(self.revision);
        self.compacted = self.compacted.max(revision);
        while self
            .history
            .front()
            .is_some_and(|change| change.revision <= revision)
        {
            self.history.pop_front();
        }
    }

    /// Returns the store without its history, as a backup has it.
    pub(super) fn without_history(&self) -> Self {
        let mut store = self.clone();
        store.compact(store.revision);
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(names: &[&str]) -> Store {
        let mut store = Store::default();
        for name in names {
            let key = Key::new(Kind::Grant, "team", name);
            let change = match store.get(&key) {
                Some(last) => store.deleting(key, last.value().clone()),
                None => store.storing(key, json!({"metadata": {}})),
            };
            store.commit(change);
        }
        store
    }

    fn names_at(store: &Store, revision: u64) -> Option<Vec<String>> {
        let objects = store.objects_at(Kind::Grant, revision)?;
        Some(objects.into_keys().map(|key| key.name).collect())
    }

    #[test]
    fn earlier_revisions_are_rebuilt_from_the_history() {
        let mut store = stored(&["a", "b", "a", "c"]);
        assert_eq!(names_at(&store, 0), Some(vec![]));
        assert_eq!(names_at(&store, 2), Some(vec!["a".into(), "b".into()]));
        assert_eq!(names_at(&store, 3), Some(vec!["b".into()]));
        assert_eq!(names_at(&store, 4), Some(vec!["b".into(), "c".into()]));
        store.compact(3);
        assert_eq!(names_at(&store, 2), None);
        assert_eq!(names_at(&store, 3), Some(vec!["b".into()]));
    }

    #[test]
    fn changes_are_found_by_revision_and_kind() {
        let mut store = stored(&["a", "b"]);
        let account = store.storing(Key::new(Kind::Account, "", "1"), json!({"metadata": {}}));
        store.commit(account);
        let next = store.change_after(Kind::Grant, 1).unwrap();
        assert_eq!((next.revision, next.key.name.as_str()), (2, "b"));
        assert!(store.change_after(Kind::Grant, 2).is_none());
        assert_eq!(store.change_after(Kind::Account, 0).unwrap().revision, 3);
    }
}
