//! What admission refuses, and with which messages, without a cluster: by [`super::admission`].
//!
//! Every case of these tables was compared with a real API server (1.36), which refuses and admits
//! the same. The results can differ, in addition to what [`super::admission`] lists:
//! - A field that is `null`: the API server evaluates no rule of that field. kube's evaluator does,
//!   and the rule fails on the type.
//! - The API server refuses a *definition* whose rules may cost too much. Costs are not counted
//!   here. The integration tests install the definitions in a real API server.

mod account;
mod consumer;
mod grant;

use super::admission::Admission;
use kube::CustomResourceExt;
use serde_json::Value;

/// Returns why an object is refused, `field: message` each. Empty if it is admitted.
fn refusals<K: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
    Admission::of::<K>().refusals(object, old)
}

/// Returns the object with the value at this place, or without the field if the value is `null`.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("no {parent}"))
        .as_object_mut()
        .unwrap();
    match value {
        Value::Null => drop(parent.remove(key)),
        value => drop(parent.insert(key.into(), value)),
    }
    object
}
