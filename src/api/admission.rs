//! What admission refuses in an object, by the definitions and without a cluster.
//!
//! - `structure`: types, bounds, enumerations and unknown fields.
//!
//! kube's evaluator runs the definitions' CEL rules, and the few lines in [`structure`] check the
//! rest. So manifests in files are held to the very rules that the API server holds them to.
//!
//! Where the two can differ:
//! - The API server evaluates no CEL rule at all where the structure is wrong; here both are
//!   reported.
//! - Unknown fields are refused by the API server only where strict validation is asked for, as
//!   `kubectl` does; else they are dropped.
//! - Ratcheting: what an update leaves unchanged is not validated again by the API server, here it
//!   is.

mod structure;

use super::{AWSAccount, CrossAccountRegistryGrant};
use kube::CustomResourceExt;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;
use std::sync::{LazyLock, Mutex, PoisonError};

static GRANTS: LazyLock<Mutex<Admission>> =
    LazyLock::new(|| Mutex::new(Admission::of::<CrossAccountRegistryGrant>()));
static ACCOUNTS: LazyLock<Mutex<Admission>> =
    LazyLock::new(|| Mutex::new(Admission::of::<AWSAccount>()));

/// Why a new `CrossAccountRegistryGrant` is refused, as people write it: `field: message`, each.
/// Fields that are `null` are not there, as the API server has it, and its status is not looked at.
/// Empty: it is admitted.
pub fn refusals_of_grant(manifest: Value) -> Vec<String> {
    GRANTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .refusals_of_manifest(manifest)
}

/// The same for an `AWSAccount`.
pub fn refusals_of_account(manifest: Value) -> Vec<String> {
    ACCOUNTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .refusals_of_manifest(manifest)
}

/// The definition of a kind, as far as it refuses objects.
pub(super) struct Admission {
    schema: Value,
    rules: CompiledSchema,
    validator: Validator,
}

impl Admission {
    /// Of this kind.
    pub fn of<K: CustomResourceExt>() -> Self {
        let mut definition = serde_json::to_value(K::crd()).unwrap_or_default();
        let schema = definition
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
            .map(Value::take);
        let schema = schema.unwrap_or_default();
        Self {
            rules: compile_schema(&schema),
            schema,
            validator: Validator::new(),
        }
    }

    /// Why an object is refused: `field: message`, each. Empty: it is admitted. With the object
    /// before, as an update of it.
    pub fn refusals(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut refusals = structure::violations(&self.schema, object);
        if let Err(errors) = self.validator.validate_compiled(&self.rules, object, old) {
            refusals.extend(errors.iter().map(ToString::to_string));
        }
        refusals
    }

    fn refusals_of_manifest(&self, mut object: Value) -> Vec<String> {
        without_nulls(&mut object);
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        self.refusals(&object, None)
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
