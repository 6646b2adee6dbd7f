//! Managers of fields, as `metadata.managedFields` records them.

use super::super::schema::Schema;
use super::set::FieldSet;
use super::typed::{self, Duplicates, compare};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The most managers of updates that an object remembers.
const MOST_UPDATERS: usize = 10;
/// The manager of the updates that are older.
const OLD_UPDATES: &str = "ancient-changes";
/// The manager of fields that were set before the first apply.
const BEFORE_APPLY: &str = "before-first-apply";

/// Fields that nobody owns.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Resource whose fields are managed.
#[derive(Clone, Copy)]
pub(in super::super) struct Layout<'a> {
    pub(in super::super) schema: &'a Schema,
    pub(in super::super) api_version: &'a str,
    /// Fields that this endpoint ignores.
    pub(in super::super) ignored: &'a FieldSet,
    /// `status`, or empty.
    pub(in super::super) subresource: &'a str,
    /// What an object has at least.
    pub(in super::super) skeleton: &'a Value,
}

/// Author of a write.
#[derive(Clone, Copy)]
pub(in super::super) struct Author<'a> {
    pub(in super::super) manager: &'a str,
    pub(in super::super) now: Timestamp,
}

/// Why an apply failed.
#[derive(Debug, PartialEq)]
pub(in super::super) enum ApplyProblem {
    /// Others own these fields: for each, the manager's description and the field.
    Conflicts(Vec<(String, String)>),
    /// The applied value does not fit the schema.
    Untyped(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    operation: Operation,
    manager: String,
    subresource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

#[derive(Clone, Debug, Default)]
struct Owned {
    fields: FieldSet,
    time: Option<String>,
}

type Managers = BTreeMap<Identity, Owned>;

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

impl Identity {
    fn of(operation: Operation, layout: Layout<'_>, manager: &str) -> Self {
        let manager = if manager.is_empty() {
            "unknown"
        } else {
            manager
        };
        Self {
            operation,
            manager: manager.to_owned(),
            subresource: layout.subresource.to_owned(),
        }
    }

    fn description(&self, api_version: &str) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {api_version}");
        }
        text
    }
}

/// Takes `metadata.managedFields` from an object.
fn take(object: &mut Value) -> Option<Value> {
    object["metadata"].as_object_mut()?.remove("managedFields")
}

fn decode(managed: Option<&Value>) -> Managers {
    let entries = managed.and_then(Value::as_array).into_iter().flatten();
    let decoded = entries.map(|entry| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let operation = match entry["operation"].as_str() {
            Some("Apply") => Operation::Apply,
            _ => Operation::Update,
        };
        let identity = Identity {
            operation,
            manager: text("manager"),
            subresource: text("subresource"),
        };
        let owned = Owned {
            fields: FieldSet::from_json(&entry["fieldsV1"]),
            time: entry["time"].as_str().map(String::from),
        };
        (identity, owned)
    });
    decoded.collect()
}

fn encode(managers: &Managers, api_version: &str) -> Value {
    let mut entries: Vec<(&Identity, &Owned)> = managers.iter().collect();
    entries.sort_by_key(|(identity, owned)| {
        let Identity {
            operation,
            manager,
            subresource,
        } = identity;
        (*operation, owned.time.clone(), manager, subresource)
    });
    let encoded = entries.into_iter().map(|(identity, owned)| {
        let mut entry = json!({
            "manager": identity.manager,
            "operation": identity.operation.name(),
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned.fields.to_json(),
        });
        if let Some(time) = &owned.time {
            entry["time"] = json!(time);
        }
        if !identity.subresource.is_empty() {
            entry["subresource"] = json!(identity.subresource);
        }
        entry
    });
    encoded.collect()
}

fn put(object: &mut Value, managers: &Managers, api_version: &str) {
    if !managers.is_empty() {
        object["metadata"]["managedFields"] = encode(managers, api_version);
    }
}

/// Records in the new version of an object who owns what after an update. `live` is the stored
/// version, or an empty one.
pub(in super::super) fn record_update(
    layout: Layout<'_>,
    author: Author<'_>,
    live: &Value,
    new: &mut Value,
) {
    let mut live = live.clone();
    let stored = take(&mut live);
    let given = take(new);
    let is_reset = given
        .as_ref()
        .and_then(Value::as_array)
        .is_some_and(|entries| {
            entries.is_empty() || (entries.len() == 1 && entries[0] == json!({}))
        });
    let mut managers = decode(given.as_ref());
    if !layout.subresource.is_empty() || (managers.is_empty() && !is_reset) {
        managers = decode(stored.as_ref());
    } else if is_reset {
        managers.clear();
    }
    let is_new = live["metadata"]["uid"].is_null();
    let problem = |value| typed::problem(Some(layout.schema), value, "", Duplicates::Allowed);
    let is_untracked = managers.is_empty() && !is_new;
    if is_untracked || problem(&live).or_else(|| problem(new)).is_some() {
        return;
    }
    update(layout, author, (&live, new), &mut managers);
    limit_updaters(&mut managers);
    put(new, &managers, layout.api_version);
}

fn update(
    layout: Layout<'_>,
    author: Author<'_>,
    (live, new): (&Value, &Value),
    managers: &mut Managers,
) {
    let comparison = compare(layout.schema, live, new);
    let ignored = layout.ignored;
    let changed = comparison.modified.union(&comparison.added);
    let (taken, removed) = (
        changed.without(ignored),
        comparison.removed.without(ignored),
    );
    for owned in managers.values_mut() {
        owned.fields = owned.fields.difference(&taken).difference(&removed);
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    let own = taken.difference(&UNOWNED);
    if own.is_empty() {
        return;
    }
    let identity = Identity::of(Operation::Update, layout, author.manager);
    let entry = managers.entry(identity).or_default();
    entry.fields = entry.fields.union(&own);
    entry.time = Some(seconds(author.now));
}

/// Merges the oldest updaters into one if there are too many.
fn limit_updaters(managers: &mut Managers) {
    let mut updaters: Vec<(Option<String>, Identity)> = managers
        .iter()
        .filter(|(identity, _)| {
            identity.operation == Operation::Update && identity.subresource.is_empty()
        })
        .map(|(identity, owned)| (owned.time.clone(), identity.clone()))
        .collect();
    updaters.sort();
    let surplus = updaters.len().saturating_sub(MOST_UPDATERS);
    if surplus == 0 {
        return;
    }
    let old = Identity {
        operation: Operation::Update,
        manager: OLD_UPDATES.to_owned(),
        subresource: String::new(),
    };
    for (_, identity) in updaters.into_iter().take(surplus + 1) {
        let Some(owned) = managers.remove(&identity) else {
            continue;
        };
        let merged = managers.entry(old.clone()).or_default();
        merged.fields = merged.fields.union(&owned.fields);
        merged.time = owned.time.max(merged.time.take());
    }
}

/// Applies a configuration to the stored version of an object, or to an empty one. Returns the new
/// version, with its managers.
///
/// # Errors
/// When others own its fields and `force` is not set, or when it does not fit the schema.
pub(in super::super) fn apply(
    layout: Layout<'_>,
    author: Author<'_>,
    (live, applied): (&Value, &Value),
    force: bool,
) -> Result<Value, ApplyProblem> {
    let schema = layout.schema;
    if let Some(problem) = typed::problem(Some(schema), applied, "", Duplicates::Refused) {
        return Err(ApplyProblem::Untyped(problem));
    }
    let mut live = live.clone();
    let mut managers = decode(take(&mut live).as_ref());
    if managers.is_empty() && !live["metadata"]["uid"].is_null() {
        let before = Author {
            manager: BEFORE_APPLY,
            ..author
        };
        update(layout, before, (layout.skeleton, &live), &mut managers);
    }
    let identity = Identity::of(Operation::Apply, layout, author.manager);
    let merged = typed::merge(schema, &live, applied);
    let last = managers.get(&identity).cloned().unwrap_or_default();
    let own = typed::fields(schema, applied).without(layout.ignored);
    managers.entry(identity.clone()).or_default().fields = own;
    let new = pruned(schema, &merged, &managers, &last.fields);
    let comparison = compare(schema, &live, &new);
    let changed = comparison
        .modified
        .union(&comparison.added)
        .without(layout.ignored);
    let removed = comparison.removed.without(layout.ignored);
    let others = managers.iter_mut().filter(|(other, _)| **other != identity);
    let mut conflicts = Vec::new();
    for (other, owned) in others {
        let conflicting = owned.fields.intersection(&changed);
        let description = other.description(layout.api_version);
        let names = conflicting.names().into_iter();
        conflicts.extend(names.map(|name| (description.clone(), name)));
        owned.fields = owned.fields.difference(&conflicting).difference(&removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(ApplyProblem::Conflicts(conflicts));
    }
    if let Some(owned) = managers.get_mut(&identity) {
        owned.fields = owned.fields.difference(&UNOWNED);
        if new != live {
            owned.time = Some(seconds(author.now));
        } else {
            owned.time = last.time;
        }
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    let mut new = new;
    put(&mut new, &managers, layout.api_version);
    Ok(new)
}

/// Removes what the manager applied last time and does not apply now, unless another manager owns
/// it.
fn pruned(schema: &Schema, merged: &Value, managers: &Managers, last: &FieldSet) -> Value {
    if last.is_empty() {
        return merged.clone();
    }
    let named = |set: &FieldSet| typed::with_named_fields(Some(schema), set);
    let without = |set: &FieldSet| {
        typed::remove(Some(schema), merged, set).unwrap_or_else(|| Value::Object(Map::new()))
    };
    let fields_of = |value: &Value| named(&typed::fields(schema, value));
    let mut owned = FieldSet::default();
    for manager in managers.values() {
        owned = owned.union(&manager.fields);
    }
    let all = fields_of(merged);
    let pruned = without(&named(last));
    let kept = fields_of(&pruned).union(&named(&owned));
    let pruned = without(&all.difference(&kept));
    let gone = all
        .difference(&fields_of(&pruned))
        .intersection(&named(last));
    without(&gone)
}

/// Returns the new version of an object with the old times of its managers, if it differs from the
/// old version only in these times.
pub(in super::super) fn with_old_times(old: &Value, new: &mut Value) {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        let entries = object["metadata"]["managedFields"].as_array_mut();
        for entry in entries.into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        object
    };
    if old["metadata"]["managedFields"] != new["metadata"]["managedFields"]
        && timeless(old) == timeless(new)
    {
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
    }
}

/// Returns the names of an object's managers.
pub(in super::super) fn names(object: &Value) -> BTreeSet<String> {
    decode(object["metadata"].get("managedFields"))
        .into_keys()
        .map(|identity| identity.manager)
        .collect()
}

/// Returns a time as the API writes it, without fractions of a second.
pub(in super::super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::of(&json!({
            "type": "object",
            "properties": {
                "metadata": {"type": "object", "properties": {
                    "uid": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                }},
                "status": {"type": "object", "properties": {
                    "phase": {"type": "string"},
                    "conditions": {
                        "type": "array",
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {"type": "object", "properties": {
                            "type": {"type": "string"}, "reason": {"type": "string"},
                        }},
                    },
                    "notes": {"type": "array", "items": {"type": "string"}},
                }},
            },
        }))
    }

    /// Calls a function with the layout of a resource and a manager.
    fn with_layout<T>(manager: &str, call: impl FnOnce(Layout<'_>, Author<'_>) -> T) -> T {
        let (schema, ignored) = (schema(), FieldSet::default());
        let layout = Layout {
            schema: &schema,
            api_version: "g/v1",
            ignored: &ignored,
            subresource: "",
            skeleton: &Value::Null,
        };
        let author = Author {
            manager,
            now: Timestamp::UNIX_EPOCH,
        };
        call(layout, author)
    }

    fn applied_by(
        manager: &str,
        live: &Value,
        status: &Value,
        force: bool,
    ) -> Result<Value, ApplyProblem> {
        let applied = json!({"status": status});
        with_layout(manager, |layout, author| {
            apply(layout, author, (live, &applied), force)
        })
    }

    fn updated_by(manager: &str, live: &Value, mut new: Value) -> Value {
        with_layout(manager, |layout, author| {
            record_update(layout, author, live, &mut new);
        });
        new
    }

    fn stored() -> Value {
        json!({"metadata": {"uid": "1"}})
    }

    #[test]
    fn field_that_is_not_applied_any_more_is_removed() {
        let conditions = json!([{"type": "A", "reason": "x"}, {"type": "B", "reason": "y"}]);
        let first = json!({"phase": "p", "conditions": conditions, "notes": ["n"]});
        let live = applied_by("m", &stored(), &first, true).unwrap();
        let second = json!({"conditions": [{"type": "B", "reason": "z"}]});
        let live = applied_by("m", &live, &second, true).unwrap();
        assert_eq!(live["status"], second);
    }

    #[test]
    fn field_of_another_manager_stays() {
        let live = applied_by("m", &stored(), &json!({"phase": "p", "notes": ["n"]}), true);
        let live = updated_by(
            "other",
            &live.unwrap(),
            json!({
                "metadata": {"uid": "1"},
                "status": {"phase": "q", "notes": ["n"]},
            }),
        );
        let live = applied_by("m", &live, &json!({}), true).unwrap();
        assert_eq!(live["status"], json!({"phase": "q"}));
        // The first one owns the empty status that it applied.
        assert_eq!(names(&live), ["m".to_owned(), "other".to_owned()].into());
    }

    #[test]
    fn apply_without_force_conflicts_with_other_managers() {
        let live = applied_by("a", &stored(), &json!({"phase": "p"}), false).unwrap();
        assert!(applied_by("b", &live, &json!({"phase": "p"}), false).is_ok());
        let conflict = applied_by("b", &live, &json!({"phase": "q"}), false);
        let expected = vec![("\"a\"".to_owned(), ".status.phase".to_owned())];
        assert_eq!(conflict, Err(ApplyProblem::Conflicts(expected)));
        let forced = applied_by("b", &live, &json!({"phase": "q"}), true).unwrap();
        assert_eq!(names(&forced), ["b".to_owned()].into());
    }

    #[test]
    fn unknown_field_cannot_be_applied() {
        let problem = applied_by("a", &stored(), &json!({"phaze": "p"}), true);
        let why = ".status.phaze: field not declared in schema".to_owned();
        assert_eq!(problem, Err(ApplyProblem::Untyped(why)));
    }

    #[test]
    fn repeated_apply_keeps_the_time() {
        let status = json!({"phase": "p"});
        let mut live = applied_by("m", &stored(), &status, true).unwrap();
        live["metadata"]["managedFields"][0]["time"] = json!("1969-01-01T00:00:00Z");
        let mut again = applied_by("m", &live, &status, true).unwrap();
        with_old_times(&live, &mut again);
        assert_eq!(again, live);
    }
}
