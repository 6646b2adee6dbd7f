//! Named things with their recent past, so that a read may return an earlier state.

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How long earlier versions are kept. A read that lags further behind returns the oldest of them.
pub const KEPT: SignedDuration = SignedDuration::from_secs(600);

/// How many names of deleted things are kept before those without a recent past are dropped.
const TOMBSTONES: usize = 64;

/// Things by their names, each with its recent versions.
#[derive(Clone, Debug)]
pub struct Slots<T> {
    slots: BTreeMap<String, Slot<T>>,
    tombstones: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            tombstones: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Slot<T> {
    now: Option<Arc<T>>,
    since: Timestamp,
    /// Earlier versions and when each began, oldest first.
    earlier: VecDeque<(Timestamp, Option<Arc<T>>)>,
}

impl<T> Slot<T> {
    fn at(&self, time: Timestamp) -> Option<&Arc<T>> {
        if self.since <= time {
            return self.now.as_ref();
        }
        self.earlier
            .iter()
            .rev()
            .find(|(since, _)| *since <= time)
            .and_then(|(_, version)| version.as_ref())
    }

    fn put(&mut self, time: Timestamp, version: Option<Arc<T>>) {
        let before = std::mem::replace(&mut self.now, version);
        self.earlier.push_back((self.since, before));
        self.since = time;
        self.prune(time);
    }

    /// Drops what no read can see any more: versions that ended before the kept time.
    fn prune(&mut self, time: Timestamp) {
        let oldest = time.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        while let Some((next, _)) = self.earlier.get(1) {
            if *next > oldest {
                break;
            }
            self.earlier.pop_front();
        }
        if self.since <= oldest {
            self.earlier.clear();
        }
    }
}

impl<T> Slots<T> {
    /// Returns the present version.
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.slots.get(name)?.now.as_ref()
    }

    /// Returns the version of that time.
    pub fn at(&self, name: &str, time: Timestamp) -> Option<&Arc<T>> {
        self.slots.get(name)?.at(time)
    }

    /// Iterates over the present versions by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<T>)> {
        self.slots
            .iter()
            .filter_map(|(name, slot)| Some((name.as_str(), slot.now.as_ref()?)))
    }

    /// Iterates over the versions of that time, beginning with the first name after `after`.
    pub fn iter_at<'a>(
        &'a self,
        time: Timestamp,
        after: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<T>)> + use<'a, T> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (Excluded(after.to_owned()), Unbounded);
        self.slots
            .range::<String, _>(range)
            .filter_map(move |(name, slot)| Some((name.as_str(), slot.at(time)?)))
    }

    /// Returns how many things there are now.
    pub fn len(&self) -> usize {
        self.slots.len() - self.tombstones
    }

    /// Returns whether there is nothing now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces the present version; `None` deletes it.
    pub fn put(&mut self, name: &str, time: Timestamp, version: Option<Arc<T>>) {
        let is_gone = version.is_none();
        match self.slots.get_mut(name) {
            Some(slot) => {
                let was_gone = slot.now.is_none();
                slot.put(time, version);
                self.tombstones = self.tombstones + usize::from(is_gone) - usize::from(was_gone);
            }
            None if is_gone => return,
            None => {
                let slot = Slot {
                    now: version,
                    since: time,
                    earlier: VecDeque::new(),
                };
                self.slots.insert(name.to_owned(), slot);
            }
        }
        if self.tombstones > TOMBSTONES && self.tombstones > self.slots.len() / 2 {
            self.bury(time);
        }
    }

    fn bury(&mut self, time: Timestamp) {
        for slot in self.slots.values_mut() {
            slot.prune(time);
        }
        self.slots
            .retain(|_, slot| slot.now.is_some() || !slot.earlier.is_empty());
        self.tombstones = self
            .slots
            .values()
            .filter(|slot| slot.now.is_none())
            .count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    #[test]
    fn earlier_version_is_seen_at_its_time() {
        let mut slots = Slots::default();
        slots.put("a", at(10), Some(Arc::new(1)));
        slots.put("a", at(20), Some(Arc::new(2)));
        slots.put("a", at(30), None);
        let seen: Vec<_> = [9, 10, 19, 20, 29, 30]
            .map(|second| slots.at("a", at(second)).map(|value| **value))
            .into();
        assert_eq!(seen, [None, Some(1), Some(1), Some(2), Some(2), None]);
        assert_eq!((slots.len(), slots.get("a")), (0, None));
        assert_eq!(slots.iter_at(at(25), "").count(), 1);
        assert_eq!(slots.iter_at(at(25), "a").count(), 0);
    }

    #[test]
    fn deleted_names_are_dropped_once_nobody_can_see_them() {
        let mut slots = Slots::default();
        for number in 0..1000 {
            let name = number.to_string();
            slots.put(&name, at(number * 10), Some(Arc::new(number)));
            slots.put(&name, at(number * 10 + 1), None);
        }
        assert!(slots.slots.len() < 200, "{}", slots.slots.len());
        assert!(slots.is_empty());
    }
}
