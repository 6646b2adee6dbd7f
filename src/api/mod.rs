//! The custom resources as they appear in the API: types and admission rules, without behaviour.
//!
//! - [`grant`]: the spec of a `CrossAccountRegistryGrant`.
//! - [`consumer`]: the consumer side of that spec.
//! - [`access_path`]: the paths of access, which spec and status name.
//! - [`status`]: the status of a grant, with its claims.
//! - [`account`]: the spec of an `AWSAccount`, with its rules.
//! - [`account_status`]: the status of an `AWSAccount`.
//! - [`sweep`]: the sweep's part of that status.
//! - [`conditions`]: every condition type and every reason.
//! - [`admission`]: the definitions' admission rules, evaluated without a cluster.
//!
//! The field descriptions are what `kubectl explain` shows. The validation rules on these types let
//! the API server check what can be checked without AWS. The operator checks it again, because its
//! decision is the one that counts.

pub mod access_path;
pub mod account;
pub mod account_status;
pub mod admission;
pub mod conditions;
pub mod consumer;
pub mod grant;
pub mod status;
pub mod sweep;

#[cfg(test)]
mod tests;

pub use account::{AWSAccount, AWSAccountSpec};
pub use grant::{CrossAccountRegistryGrant, CrossAccountRegistryGrantSpec};

use kube::core::Rule;

/// The API group of both resources.
pub const GROUP: &str = "registrygrants.dev";

/// The finalizer that keeps a grant until its access in AWS is revoked.
pub const FINALIZER: &str = "registrygrants.dev/revoke";

/// The annotation that requests a reconcile: when its value changes, the grant is reconciled
/// without waiting for the next resync.
pub const RECONCILE: &str = "registrygrants.dev/reconcile";

/// The annotation (`true`) that lets a grant give up places that the operator has lost access to,
/// when the grant is deleted or its spec no longer names them. What the grant has there stays in
/// AWS.
pub const ABANDON: &str = "registrygrants.dev/abandon";

/// The annotation on an `AWSAccount` (`true`) that confirms that no other operator with this
/// installation's ID works in the account. It ends the pause that `status.secondWriter` reports.
pub const SOLE_WRITER: &str = "registrygrants.dev/sole-writer";

/// The annotations that the operator reads. The watch caches keep no others.
pub const ANNOTATIONS: [&str; 4] = [RECONCILE, ABANDON, sweep::CONFIRM_SWEEP, SOLE_WRITER];

/// The field manager of the operator's status writes.
pub const FIELD_MANAGER: &str = "registry-grants";

fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(message)
}
