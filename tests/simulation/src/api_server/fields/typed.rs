//! Fields of a value by its schema. A value without a schema is open: its objects have fields, and
//! everything else is a leaf.

use super::super::schema::{ListType, Schema, ValueType};
use super::set::FieldSet;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Difference between two values.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// How ownership treats a value.
enum Shape<'a> {
    Leaf,
    Fields(Option<&'a Schema>),
    Items(&'a ListType, Option<&'a Schema>),
}

fn shape<'a>(schema: Option<&'a Schema>, value: &Value) -> Shape<'a> {
    match value {
        Value::Object(_) if schema.is_some_and(|schema| schema.is_atomic_map) => Shape::Leaf,
        Value::Object(_) => Shape::Fields(schema),
        Value::Array(_) => match schema {
            Some(schema) if schema.list != ListType::Atomic => {
                Shape::Items(&schema.list, schema.items.as_deref())
            }
            _ => Shape::Leaf,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Shape::Leaf,
    }
}

/// Returns the shape of two values that are compared or merged. Something empty adapts to the other
/// one.
fn joint_shape<'a>(
    schema: Option<&'a Schema>,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Shape<'a> {
    match [left, right].map(|value| value.filter(|value| !is_empty(value))) {
        [None, None] => Shape::Leaf,
        [Some(one), None] | [None, Some(one)] => shape(schema, one),
        [Some(left), Some(right)] if left.is_object() == right.is_object() => {
            shape(schema, if left.is_array() { left } else { right })
        }
        [Some(_), Some(_)] => Shape::Leaf,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Returns the schema of a field, and whether the schema names the field.
fn field<'a>(schema: Option<&'a Schema>, name: &str) -> (Option<&'a Schema>, bool) {
    let Some(schema) = schema else {
        return (None, false);
    };
    match schema.properties.get(name) {
        Some(named) => (Some(named), true),
        None => (schema.additional.as_deref(), false),
    }
}

fn element(list: &ListType, item: &Value) -> String {
    match list {
        ListType::Map(keys) => {
            let fields: Map<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
                .collect();
            format!("k:{}", Value::Object(fields))
        }
        ListType::Set | ListType::Atomic => format!("v:{item}"),
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn names<'a>(left: Option<&'a Value>, right: Option<&'a Value>) -> BTreeSet<&'a String> {
    let values = [left, right].into_iter().flatten();
    values
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .collect()
}

/// Returns the fields of a value.
pub(super) fn fields(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    add_fields(Some(schema), value, &mut Vec::new(), &mut set);
    set
}

fn add_fields(schema: Option<&Schema>, value: &Value, path: &mut Vec<String>, set: &mut FieldSet) {
    match shape(schema, value) {
        Shape::Leaf => set.insert(path),
        Shape::Fields(schema) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let (schema, is_named) = field(schema, name);
                path.push(format!("f:{name}"));
                add_fields(schema, value, path, set);
                let is_empty_object = value.is_object() && is_empty(value);
                if !is_named || value.is_null() || is_empty_object {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Shape::Items(list, schema) => {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for item in items(Some(value)) {
                *counts.entry(element(list, item)).or_default() += 1;
            }
            for item in items(Some(value)) {
                let element = element(list, item);
                let is_single = counts.get(&element) == Some(&1);
                path.push(element);
                if is_single {
                    add_fields(schema, item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// Compares two versions of a value.
pub(super) fn compare(schema: &Schema, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let values = (Some(old), Some(new));
    compare_at(Some(schema), values, &mut Vec::new(), &mut comparison);
    comparison
}

fn compare_at(
    schema: Option<&Schema>,
    (old, new): (Option<&Value>, Option<&Value>),
    path: &mut Vec<String>,
    comparison: &mut Comparison,
) {
    match joint_shape(schema, old, new) {
        Shape::Leaf => {
            if let (Some(old), Some(new)) = (old, new)
                && old != new
            {
                comparison.modified.insert(path);
            }
        }
        Shape::Fields(schema) => {
            for name in names(old, new) {
                let get =
                    |value: Option<&'_ Value>| value.and_then(|value| value.get(name)).cloned();
                let (old, new) = (get(old), get(new));
                if old == new {
                    continue;
                }
                path.push(format!("f:{name}"));
                let values = (old.as_ref(), new.as_ref());
                compare_at(field(schema, name).0, values, path, comparison);
                path.pop();
            }
        }
        Shape::Items(list, schema) => {
            let by_element = |value: Option<&Value>| -> BTreeMap<String, Value> {
                let items = items(value).iter();
                items
                    .map(|item| (element(list, item), item.clone()))
                    .collect()
            };
            let (old, new) = (by_element(old), by_element(new));
            let elements: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for element in elements {
                path.push(element.clone());
                let values = (old.get(element), new.get(element));
                compare_at(schema, values, path, comparison);
                path.pop();
            }
        }
    }
    match (old, new) {
        (None, Some(_)) => comparison.added.insert(path),
        (Some(_), None) => comparison.removed.insert(path),
        _ => {}
    }
}

/// Returns the live value with the applied one merged into it.
pub(super) fn merge(schema: &Schema, live: &Value, applied: &Value) -> Value {
    merged(Some(schema), Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn merged(schema: Option<&Schema>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    match joint_shape(schema, live, applied) {
        Shape::Leaf => applied.or(live).cloned(),
        Shape::Fields(schema) => {
            let mut fields = Map::new();
            for name in names(live, applied) {
                let get =
                    |value: Option<&'_ Value>| value.and_then(|value| value.get(name)).cloned();
                let (live, applied) = (get(live), get(applied));
                let schema = field(schema, name).0;
                if let Some(value) = merged(schema, live.as_ref(), applied.as_ref()) {
                    fields.insert(name.clone(), value);
                }
            }
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Shape::Items(list, schema) => {
            let merged = merged_items(list, schema, items(live), items(applied));
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

/// Merges lists: applied items keep the applied order, and other items stay before the applied item
/// that they were before.
fn merged_items(
    list: &ListType,
    schema: Option<&Schema>,
    live: &[Value],
    applied: &[Value],
) -> Vec<Value> {
    let elements =
        |items: &[Value]| -> Vec<String> { items.iter().map(|item| element(list, item)).collect() };
    let (live_elements, applied_elements) = (elements(live), elements(applied));
    let position = |element: &String| live_elements.iter().position(|live| live == element);
    let is_applied = |element: &String| applied_elements.contains(element);
    let mut shared: VecDeque<&String> = applied_elements
        .iter()
        .filter(|element| position(element).is_some())
        .collect();
    let mut next_shared = shared.pop_front();
    let mut done: BTreeSet<&String> = BTreeSet::new();
    let mut out = Vec::new();
    let (mut at_live, mut at_applied) = (0, 0);
    while at_live < live.len() || at_applied < applied.len() {
        if let Some(element) = live_elements.get(at_live) {
            let meets = applied_elements.get(at_applied) == Some(element);
            let waits = is_applied(element) && !meets && next_shared != Some(element);
            let is_done = done.contains(element);
            if waits && at_applied < applied.len() && next_shared.is_some() || is_done {
                at_live += 1;
                continue;
            }
            if !is_applied(element) {
                out.extend(merged(schema, Some(&live[at_live]), None));
                at_live += 1;
                continue;
            }
            at_live += usize::from(meets);
        }
        if let Some(element) = applied_elements.get(at_applied) {
            done.insert(element);
            let live = position(element).map(|at| &live[at]);
            out.extend(merged(schema, live, Some(&applied[at_applied])));
            at_applied += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    out
}

/// Returns the value without these fields. `None`: nothing is left.
pub(super) fn remove(schema: Option<&Schema>, value: &Value, set: &FieldSet) -> Option<Value> {
    match shape(schema, value) {
        Shape::Leaf => (!value.is_array() && !value.is_object()).then(|| value.clone()),
        Shape::Fields(schema) => {
            let mut kept = Map::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                let element = format!("f:{name}");
                if set.members.contains(&element) {
                    continue;
                }
                let value = match set.child(&element) {
                    Some(set) => remove(field(schema, name).0, value, set).unwrap_or(Value::Null),
                    None => value.clone(),
                };
                kept.insert(name.clone(), value);
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Shape::Items(list, schema) => {
            let mut kept = Vec::new();
            for item in items(Some(value)) {
                let element = element(list, item);
                if set.members.contains(&element) {
                    continue;
                }
                kept.push(match set.child(&element) {
                    Some(set) => remove(schema, item, set).unwrap_or(Value::Null),
                    None => item.clone(),
                });
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
    }
}

/// Returns the set with every named field that has a member below it.
pub(super) fn with_named_fields(schema: Option<&Schema>, set: &FieldSet) -> FieldSet {
    let mut members = set.members.clone();
    let mut children = BTreeMap::new();
    for (element, child) in &set.children {
        let below = match element.strip_prefix("f:") {
            Some(name) => {
                let (below, is_named) = field(schema, name);
                if is_named {
                    members.insert(element.clone());
                }
                below
            }
            None => schema.and_then(|schema| schema.items.as_deref()),
        };
        children.insert(element.clone(), with_named_fields(below, child));
    }
    FieldSet { members, children }
}

/// Whether a list may contain the same item twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    Allowed,
    Refused,
}

/// Returns why the fields of a value cannot be managed, with the field. `None`: they can.
pub(super) fn problem(
    schema: Option<&Schema>,
    value: &Value,
    path: &str,
    duplicates: Duplicates,
) -> Option<String> {
    let schema = schema?;
    if value.is_null() {
        return None;
    }
    if !schema.kind.admits(value) {
        let expected = match schema.kind {
            ValueType::Array => "list",
            ValueType::Object => "map",
            ValueType::Integer | ValueType::Number => "numeric (int or float)",
            kind => kind.name(),
        };
        let given = match value {
            Value::Array(_) => "list",
            Value::Object(_) => "map",
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Null | Value::Number(_) => "number",
        };
        return Some(format!("{path}: expected {expected}, got {given}"));
    }
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let place = format!("{path}.{name}");
            match schema.field(name) {
                Some(schema) => problem(Some(schema), value, &place, duplicates),
                None if schema.keeps_unknown || schema.kind == ValueType::Any => None,
                None => Some(format!("{place}: field not declared in schema")),
            }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, item)| {
            let place = format!("{path}[{at}]");
            identity_problem(schema, &items[..at], item, duplicates)
                .map(|why| format!("{path}: {why}"))
                .or_else(|| problem(schema.items.as_deref(), item, &place, duplicates))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Returns why an item of a set or map has no identity, or the same one as an earlier item.
fn identity_problem(
    schema: &Schema,
    earlier: &[Value],
    item: &Value,
    duplicates: Duplicates,
) -> Option<String> {
    if let ListType::Map(keys) = &schema.list
        && keys.iter().all(|key| item.get(key).is_none())
    {
        return Some(format!("an element omits all key fields {keys:?}"));
    }
    if schema.list == ListType::Atomic || duplicates == Duplicates::Allowed {
        return None;
    }
    let own = element(&schema.list, item);
    let is_repeated = earlier
        .iter()
        .any(|item| element(&schema.list, item) == own);
    is_repeated.then(|| format!("duplicate entries for key {}", &own[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::of(&json!({
            "type": "object",
            "properties": {
                "set": {
                    "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"},
                },
                "map": {
                    "type": "array",
                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {
                        "name": {"type": "string"}, "value": {"type": "integer"},
                    }},
                },
                "list": {"type": "array", "items": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        }))
    }

    fn merged_with(live: &Value, applied: &Value) -> Value {
        merge(&schema(), live, applied)
    }

    #[test]
    fn applied_items_keep_their_order() {
        let live = json!({"set": ["a", "b", "c", "d"], "list": ["x"]});
        let merged = merged_with(&live, &json!({"set": ["c", "a", "e"], "list": ["y"]}));
        assert_eq!(
            merged,
            json!({"set": ["b", "c", "d", "a", "e"], "list": ["y"]})
        );
    }

    #[test]
    fn items_of_a_map_are_merged_by_key() {
        let live = json!({"map": [{"name": "a", "value": 1}, {"name": "b", "value": 2}]});
        let merged = merged_with(&live, &json!({"map": [{"name": "b", "value": 3}]}));
        let expected = json!({"map": [{"name": "a", "value": 1}, {"name": "b", "value": 3}]});
        assert_eq!(merged, expected);
    }

    #[test]
    fn fields_name_leaves_and_items() {
        let value = json!({
            "set": ["a"], "map": [{"name": "b"}], "list": ["c"], "free": {"d": {"e": 1}},
        });
        let expected = json!({
            "f:set": {"v:\"a\"": {}},
            "f:map": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}},
            "f:list": {},
            "f:free": {"f:d": {".": {}, "f:e": {}}},
        });
        assert_eq!(fields(&schema(), &value).to_json(), expected);
    }

    #[test]
    fn comparison_tells_added_modified_and_removed() {
        let old = json!({"set": ["a", "b"], "list": ["c"], "free": {"x": 1}});
        let new = json!({"set": ["b", "d"], "list": ["e"]});
        let comparison = compare(&schema(), &old, &new);
        assert_eq!(comparison.added.names(), [".set[=\"d\"]"]);
        assert_eq!(comparison.modified.names(), [".list"]);
        assert_eq!(
            comparison.removed.names(),
            [".free", ".free.x", ".set[=\"a\"]"]
        );
    }

    #[test]
    fn values_that_do_not_fit_the_schema_have_a_problem() {
        let found = |value: Value| problem(Some(&schema()), &value, "", Duplicates::Refused);
        assert_eq!(found(json!({"set": ["a"], "free": {"any": 1}})), None);
        for value in [
            json!({"unknown": 1}),
            json!({"set": ["a", "a"]}),
            json!({"set": "a"}),
            json!({"map": [{"value": 1}]}),
        ] {
            assert!(found(value.clone()).is_some(), "{value}");
        }
    }
}
