//! Evaluates the custom resource definitions' admission rules without a cluster.
//!
//! - `structure`: types, bounds, enumerations and unknown fields.
//!
//! kube's evaluator runs the definitions' CEL rules, and [`structure`] checks the rest. So
//! manifests in files must pass the same rules as in the API server.
//!
//! The results can differ from the API server's:
//! - The API server evaluates no CEL rule if the structure is invalid. Here both are reported.
//! - The API server refuses unknown fields only under strict validation, which `kubectl` uses.
//!   Otherwise it drops them.
//! - Ratcheting: the API server does not validate unchanged fields of an update again. Here they
//!   are validated.

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

/// Returns why a new `CrossAccountRegistryGrant` is refused, `field: message` each. Empty if it is
/// admitted. Fields that are `null` count as absent, as in the API server, and the status is
/// ignored.
pub fn refusals_of_grant(manifest: Value) -> Vec<String> {
    GRANTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .refusals_of_manifest(manifest)
}

/// Returns why a new `AWSAccount` is refused, like [`refusals_of_grant`].
pub fn refusals_of_account(manifest: Value) -> Vec<String> {
    ACCOUNTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .refusals_of_manifest(manifest)
}

/// The validation rules of a kind's definition.
pub(super) struct Admission {
    schema: Value,
    rules: CompiledSchema,
    validator: Validator,
}

impl Admission {
    /// Compiles the rules of a kind's definition.
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

    /// Returns why an object is refused, `field: message` each. Empty if it is admitted. If `old`
    /// is given, the object is validated as an update of it.
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
