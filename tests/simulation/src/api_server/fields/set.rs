//! Sets of fields. An element of a path is in the notation of `fieldsV1`: `f:name` is a field,
//! `v:"value"` an item of a set, and `k:{"key":"value"}` an item of a map.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Set of fields, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct FieldSet {
    pub(super) members: BTreeSet<String>,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Returns the set of these paths, each a list of field names.
    pub(in super::super) fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<String> = path.iter().map(|name| format!("f:{name}")).collect();
            set.insert(&path);
        }
        set
    }

    pub(super) fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => drop(self.members.insert(last.clone())),
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    pub(super) fn child(&self, element: &str) -> Option<&Self> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let joined = match union.children.get(element) {
                Some(own) => own.union(child),
                None => child.clone(),
            };
            union.children.insert(element.clone(), joined);
        }
        union
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Returns the fields that are not in `other`. The children of its fields stay.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let rest = match other.children.get(element) {
                Some(other) => child.difference(other),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Returns the fields that are neither in `other` nor below one of its fields.
    pub(super) fn without(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            if other.members.contains(element) {
                return None;
            }
            let rest = match other.children.get(element) {
                Some(other) => child.without(other),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Returns each field, as messages name it.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.add_names("", &mut names);
        names
    }

    fn add_names(&self, before: &str, names: &mut Vec<String>) {
        for member in &self.members {
            names.push(format!("{before}{}", element_name(member)));
        }
        for (element, child) in &self.children {
            child.add_names(&format!("{before}{}", element_name(element)), names);
        }
    }

    /// Returns the JSON form, `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        for member in &self.members {
            fields.insert(member.clone(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            if child.is_empty() {
                continue;
            }
            let mut json = child.to_json();
            if let (true, Some(json)) = (self.members.contains(element), json.as_object_mut()) {
                json.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(element.clone(), json);
        }
        Value::Object(fields)
    }

    /// Reads the JSON form.
    pub(super) fn from_json(json: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in json.as_object().into_iter().flatten() {
            if element == "." {
                continue;
            }
            let child = Self::from_json(below);
            if child.is_empty() || below.get(".").is_some() {
                set.members.insert(element.clone());
            }
            if !child.is_empty() {
                set.children.insert(element.clone(), child);
            }
        }
        set
    }
}

fn element_name(element: &str) -> String {
    match element.split_at(2) {
        ("f:", name) => format!(".{name}"),
        ("v:", value) => format!("[={value}]"),
        (_, keys) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_form_is_read_as_it_was_written() {
        let json = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {".": {}, "f:reason": {}}}},
        });
        let set = FieldSet::from_json(&json);
        assert_eq!(set.to_json(), json);
        let names = [
            ".metadata.labels",
            ".metadata.labels.a",
            ".status.conditions[type=\"Ready\"]",
            ".status.conditions[type=\"Ready\"].reason",
        ];
        assert_eq!(set.names(), names);
    }

    #[test]
    fn difference_keeps_what_is_below_a_field() {
        let set = FieldSet::of(&[&["a"], &["a", "b"], &["c"]]);
        let other = FieldSet::of(&[&["a"]]);
        assert_eq!(set.difference(&other), FieldSet::of(&[&["a", "b"], &["c"]]));
        assert_eq!(set.without(&other), FieldSet::of(&[&["c"]]));
        assert_eq!(set.intersection(&other), other);
    }
}
