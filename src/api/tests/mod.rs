//! What admission refuses, and where it says so, without a cluster: the definitions' CEL rules by kube's evaluator, and the structure
//! (types, bounds, enumerations, unknown fields) by the few lines in [`structure`].
//!
//! Every case of these tables was held against a real API server (1.36), and it refuses and admits the same. Where the two can differ:
//! - A field that is `null`: the API server evaluates no rule of that field; kube's evaluator does, and the rule fails on the type.
//! - The API server refuses a *definition* whose rules may cost too much; costs are not counted here. The integration tests
//!   install the definitions for real.
//! - The API server evaluates no CEL rule at all where the structure is wrong; here both are told.
//! - Unknown fields are refused by the API server only where strict validation is asked for, as `kubectl` does; else they are dropped.
//! - Ratcheting: what an update leaves unchanged is not validated again by the API server, here it is.

mod account;
mod consumer;
mod grant;
mod structure;

use kube::CustomResourceExt;
use kube::core::cel::Validator;
use serde_json::Value;

/// Why an object is refused: `field: message`, each. Empty: it is admitted.
fn refusals<K: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
    let definition = serde_json::to_value(K::crd()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut refusals = structure::violations(schema, object);
    if let Err(errors) = Validator::new().validate(schema, object, old) {
        refusals.extend(errors.iter().map(ToString::to_string));
    }
    refusals
}

/// The object with the value at this place; `null`: without it.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")).as_object_mut().unwrap();
    match value {
        Value::Null => drop(parent.remove(key)),
        value => drop(parent.insert(key.into(), value)),
    }
    object
}
