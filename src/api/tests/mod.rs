//! What admission refuses, and where it says so, without a cluster: by [`super::admission`].
//!
//! Every case of these tables was held against a real API server (1.36), and it refuses and admits
//! the same. Where the two can differ, beside what stands there:
//! - A field that is `null`: the API server evaluates no rule of that field; kube's evaluator does,
//!   and the rule fails on the type.
//! - The API server refuses a *definition* whose rules may cost too much; costs are not counted
//!   here. The integration tests install the definitions for real.

mod account;
mod consumer;
mod grant;

use super::admission::Admission;
use kube::CustomResourceExt;
use serde_json::Value;

/// Why an object is refused: `field: message`, each. Empty: it is admitted.
fn refusals<K: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
    Admission::of::<K>().refusals(object, old)
}

/// The object with the value at this place; `null`: without it.
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
