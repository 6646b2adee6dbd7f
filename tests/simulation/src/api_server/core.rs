//! State of one server. Everything here happens with the state locked, and at one moment.

use super::kinds::Kind;
use super::observe::{Faults, LoggedCall, Observer, Outcome};
use super::request::Call;
use super::store::{Change, Key, Store, Stored};
use k8s_openapi::jiff::Timestamp;
use registry_grants::clock::WallClock;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// Namespaces that every cluster has.
pub(super) const FIRST_NAMESPACES: [&str; 4] =
    ["default", "kube-node-lease", "kube-public", "kube-system"];

pub(super) struct Core {
    pub(super) store: Store,
    pub(super) clock: WallClock,
    pub(super) faults: Box<dyn Faults>,
    pub(super) observers: Vec<Box<dyn Observer>>,
    pub(super) log: Vec<LoggedCall>,
    pub(super) calls: u64,
    ids: Ids,
    /// Announces changes to watches: the revision, and which watches must end.
    pub(super) news: watch::Sender<News>,
}

/// What watches wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) revision: u64,
    /// Watches that started before this call break.
    pub(super) broken_before: u64,
}

impl Core {
    pub(super) fn new(seed: u64, clock: WallClock, faults: Box<dyn Faults>) -> Self {
        Self {
            store: Store::default(),
            clock,
            faults,
            observers: Vec::new(),
            log: Vec::new(),
            calls: 0,
            ids: Ids { seed, drawn: 0 },
            news: watch::Sender::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stores a value.
    pub(super) fn put(&mut self, call: Option<&Call>, key: Key, value: Value) -> Arc<Stored> {
        let change = self.store.storing(key, value);
        self.commit(call, change)
    }

    /// Removes an object, and returns its last version.
    pub(super) fn remove(&mut self, call: Option<&Call>, key: Key, last: Value) -> Arc<Stored> {
        let change = self.store.deleting(key, last);
        self.commit(call, change)
    }

    fn commit(&mut self, call: Option<&Call>, change: Change) -> Arc<Stored> {
        for observer in &mut self.observers {
            observer.before(call, &change, &self.store);
        }
        self.store.commit(change.clone());
        for observer in &mut self.observers {
            observer.after(call, &change, &self.store);
        }
        let revision = change.revision;
        self.news.send_modify(|news| news.revision = revision);
        change.new
    }

    /// Breaks all watches that run now.
    pub(super) fn break_watches(&mut self) {
        let next = self.calls + 1;
        self.news.send_modify(|news| news.broken_before = next);
    }

    pub(super) fn note(&mut self, call: &Call, outcome: Outcome) {
        self.log.push(LoggedCall {
            time: self.now(),
            call: call.clone(),
            outcome,
            revision: self.store.revision(),
        });
    }

    pub(super) fn new_uid(&mut self) -> String {
        self.ids.uid()
    }

    pub(super) fn new_suffix(&mut self) -> String {
        self.ids.suffix()
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Arc<Stored>> {
        self.store.get(&Key::new(Kind::Namespace, "", name))
    }

    /// Creates the namespaces that every cluster has.
    pub(super) fn create_first_namespaces(&mut self) {
        for name in FIRST_NAMESPACES {
            let uid = self.new_uid();
            let time = super::fields::managers::seconds(self.now());
            let namespace = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "uid": uid,
                    "creationTimestamp": time,
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            });
            self.put(None, Key::new(Kind::Namespace, "", name), namespace);
        }
    }
}

/// Identifiers, which differ between seeds and are the same for one seed.
#[derive(Debug)]
struct Ids {
    seed: u64,
    drawn: u64,
}

impl Ids {
    /// Returns the next number: the generator SplitMix64.
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        let mut mixed = self
            .seed
            .wrapping_mul(0xA24B_AED4_963E_E407)
            .wrapping_add(self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn uid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let (first, second, third) = (high >> 32, (high >> 16) & 0xFFFF, high & 0xFFF);
        let (fourth, fifth) = ((low >> 48) & 0x3FFF | 0x8000, low & 0xFFFF_FFFF_FFFF);
        format!("{first:08x}-{second:04x}-4{third:03x}-{fourth:04x}-{fifth:012x}")
    }

    /// Returns five characters for a generated name.
    fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut number = self.next();
        let mut suffix = String::new();
        for _ in 0..5 {
            let length = ALPHABET.len() as u64;
            let at = usize::try_from(number % length).unwrap_or_default();
            suffix.push(char::from(ALPHABET[at]));
            number /= length;
        }
        suffix
    }
}
