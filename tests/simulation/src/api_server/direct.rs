//! The server as the simulation sees it: what it reads, changes and controls beside all clients.

use super::core::Core;
use super::fields::managers;
use super::kinds::Kind;
use super::metadata::text;
use super::observe::{Faults, LoggedCall, NoFaults, Observer};
use super::request::{Parsed, Verb};
use super::service::Connection;
use super::status::Failure;
use super::store::{Key, Store};
use super::write::{Content, Write};
use kube::core::Status;
use registry_grants::clock::WallClock;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// A Kubernetes API server in memory. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Mutex<Core>>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// Backup of a server's objects.
#[derive(Clone, Debug)]
pub struct Snapshot(Store);

impl Snapshot {
    /// Returns the objects.
    pub fn store(&self) -> &Store {
        &self.0
    }
}

type Written = Result<Value, Box<Status>>;

impl ApiServer {
    /// Creates a server with the namespaces that every cluster has. `seed` determines UIDs.
    pub fn new(seed: u64, clock: WallClock) -> Self {
        let mut core = Core::new(seed, clock, Box::new(NoFaults));
        core.create_first_namespaces();
        Self {
            core: Arc::new(Mutex::new(core)),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("nothing panics while it is locked")
    }

    /// Connects a client. Faults, observers and the log know it by its identity.
    pub fn connect(&self, identity: &str) -> Connection {
        Connection::new(self.core.clone(), identity)
    }

    /// Replaces the source of faults.
    pub fn set_faults(&self, faults: impl Faults + 'static) {
        self.core().faults = Box::new(faults);
    }

    /// Adds an observer of all changes.
    pub fn observe(&self, observer: impl Observer + 'static) {
        self.core().observers.push(Box::new(observer));
    }

    /// Ends all observation. An observer that holds this server would keep it for ever.
    pub fn stop_observing(&self) {
        self.core().observers.clear();
    }

    /// Returns the log of all requests since the last call of this method. It grows until then.
    pub fn take_log(&self) -> Vec<LoggedCall> {
        std::mem::take(&mut self.core().log)
    }

    /// Returns the revision of the last change.
    pub fn revision(&self) -> u64 {
        self.core().store.revision()
    }

    /// Removes the history up to and including a revision. Lists and watches from before it expire.
    pub fn compact(&self, revision: u64) {
        self.core().store.compact(revision);
    }

    /// Breaks the connections of all watches that run now.
    pub fn break_watches(&self) {
        self.core().break_watches();
    }

    /// Returns a backup of all objects.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.core().store.without_history())
    }

    /// Replaces all objects and the revision by those of a backup, as the restoration of a cluster
    /// does. Watches break. To clone a cluster, restore its backup on a server with another seed.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut core = self.core();
        core.store = snapshot.0.clone();
        core.break_watches();
    }

    /// Returns an object.
    pub fn get(&self, key: &Key) -> Option<Value> {
        let core = self.core();
        core.store.get(key).map(|stored| stored.value().clone())
    }

    /// Returns all objects of a kind, by namespace and name.
    pub fn list(&self, kind: Kind) -> Vec<Value> {
        let core = self.core();
        let objects = core.store.objects(kind);
        objects.map(|(_, stored)| stored.value().clone()).collect()
    }

    /// Reads the store.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.core().store)
    }

    /// Returns the field managers of an object.
    pub fn managers(&self, key: &Key) -> BTreeSet<String> {
        self.get(key)
            .map(|object| managers::names(&object))
            .unwrap_or_default()
    }

    /// Creates an object, with all checks.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn create(&self, kind: Kind, mut object: Value) -> Written {
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name());
        let key = Key::new(kind, text(&object, "namespace"), "");
        self.write(Verb::Create, &key, false, &object)
    }

    /// Creates a namespace with these labels.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn create_namespace(&self, name: &str, labels: &Value) -> Written {
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        self.create(Kind::Namespace, namespace)
    }

    /// Changes an object, with all checks. The status stays as it is.
    ///
    /// # Errors
    /// When the object does not exist, or the API server refuses the change.
    pub fn edit(&self, key: &Key, edit: impl FnOnce(&mut Value)) -> Written {
        self.edit_endpoint(key, false, edit)
    }

    /// Changes the status of an object, with all checks. Everything else stays as it is.
    ///
    /// # Errors
    /// When the object does not exist, or the API server refuses the change.
    pub fn edit_status(&self, key: &Key, edit: impl FnOnce(&mut Value)) -> Written {
        self.edit_endpoint(key, true, edit)
    }

    fn edit_endpoint(&self, key: &Key, is_status: bool, edit: impl FnOnce(&mut Value)) -> Written {
        let missing = || refusal(&Failure::not_found(key.kind.resource(), &key.name));
        let mut object = self.get(key).ok_or_else(missing)?;
        edit(&mut object);
        self.write(Verb::Update, key, is_status, &object)
    }

    /// Sets an annotation, or removes it.
    ///
    /// # Errors
    /// Like [`Self::edit`].
    pub fn annotate(&self, key: &Key, name: &str, value: Option<&str>) -> Written {
        self.edit(key, |object| set(object, "annotations", name, value))
    }

    /// Sets a label, or removes it.
    ///
    /// # Errors
    /// Like [`Self::edit`].
    pub fn label(&self, key: &Key, name: &str, value: Option<&str>) -> Written {
        self.edit(key, |object| set(object, "labels", name, value))
    }

    /// Removes all finalizers.
    ///
    /// # Errors
    /// Like [`Self::edit`].
    pub fn remove_finalizers(&self, key: &Key) -> Written {
        self.edit(key, |object| object["metadata"]["finalizers"] = json!([]))
    }

    /// Deletes an object, which stays while it has finalizers.
    ///
    /// # Errors
    /// When the object does not exist, or may not be deleted.
    pub fn delete(&self, key: &Key) -> Written {
        self.write(Verb::Delete, key, false, &Value::Null)
    }

    /// Does what the controller of namespaces does: deletes the contents of namespaces that are
    /// being deleted, and removes those that are empty.
    pub fn run_namespace_controller(&self) {
        let namespaces = self.list(Kind::Namespace).into_iter();
        for namespace in namespaces.filter(super::metadata::is_deleting) {
            let name = text(&namespace, "name");
            let contents = || {
                self.read(|store| {
                    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_namespaced());
                    let keys = kinds.flat_map(|kind| store.objects(kind));
                    let keys = keys.filter(|(key, _)| key.namespace == name);
                    keys.map(|(key, _)| key.clone()).collect::<Vec<Key>>()
                })
            };
            for key in contents() {
                // An object that is already being deleted stays as it is.
                drop(self.delete(&key));
            }
            if contents().is_empty() {
                let key = Key::new(Kind::Namespace, "", name);
                self.remove_unchecked(&key);
            }
        }
    }

    /// Stores an object as it is, without any check: an object that another version of a definition
    /// admitted, for instance.
    pub fn put_unchecked(&self, key: &Key, object: Value) {
        self.core().put(None, key.clone(), object);
    }

    /// Removes an object without any check, whatever its finalizers.
    pub fn remove_unchecked(&self, key: &Key) {
        let mut core = self.core();
        let stored = core.store.get(key).map(|stored| stored.value().clone());
        if let Some(last) = stored {
            core.remove(None, key.clone(), last);
        }
    }

    fn write(&self, verb: Verb, key: &Key, is_status: bool, body: &Value) -> Written {
        let request = Parsed::direct(verb, key, is_status, body);
        let mut core = self.core();
        let write = Write {
            core: &mut core,
            call: None,
            request: &request,
        };
        match write.run() {
            Ok(answer) => Ok(match answer.content {
                Content::Stored(stored) => stored.value().clone(),
                Content::Value(value) => value,
            }),
            Err(failure) => Err(refusal(&failure)),
        }
    }
}

fn refusal(failure: &Failure) -> Box<Status> {
    let status = serde_json::from_value(failure.to_value());
    Box::new(status.expect("a failure is a Status object"))
}

fn set(object: &mut Value, map: &str, name: &str, value: Option<&str>) {
    let map = &mut object["metadata"][map];
    match value {
        Some(value) => map[name] = json!(value),
        None => {
            if let Some(map) = map.as_object_mut() {
                map.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be_shared(_: &(impl Send + Sync)) {}

    #[tokio::test]
    async fn server_and_connections_may_be_shared_by_threads() {
        let clock = WallClock::starting_at("2026-01-01T00:00:00Z".parse().expect("a time"));
        let server = ApiServer::new(1, clock);
        may_be_shared(&server);
        may_be_shared(&server.connect("a client"));
    }
}
