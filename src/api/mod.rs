//! The custom resources as they are on the wire: types, admission rules, no behaviour.
//!
//! - [`grant`]: the spec of a `CrossAccountRegistryGrant`.
//! - [`consumer`]: the consumer side of that spec.
//! - [`status`]: the status of a grant, with its claims.
//! - [`account`]: the spec of an `AWSAccount`, with its rules.
//! - [`account_status`]: the status of an `AWSAccount`.
//! - [`sweep`]: the sweep's part of that status.
//! - [`conditions`]: every condition type and every reason.
//! - [`admission`]: the definitions' admission rules, evaluated without a cluster.
//!
//! Every field's description here is what `kubectl explain` shows. The API server checks what can
//! be checked without AWS, by the rules on these types. The operator checks it again, because it is
//! the authority.

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

/// The finalizer that holds a grant until what it gave has been taken back in AWS.
pub const FINALIZER: &str = "registrygrants.dev/revoke";

/// Its value changed: the grant is looked at now, and not at the next resync.
pub const RECONCILE: &str = "registrygrants.dev/reconcile";

/// `true` on a grant that is being deleted: where the operator cannot get into an account any more,
/// what is there is left behind.
pub const ABANDON: &str = "registrygrants.dev/abandon";

/// On an `AWSAccount`, the annotation that says (`true`) that no other operator with this
/// installation's ID works in the account. It ends the pause that `status.secondWriter` tells of.
pub const SOLE_WRITER: &str = "registrygrants.dev/sole-writer";

/// The annotations that the operator reads. The watch caches keep no others.
pub const ANNOTATIONS: [&str; 4] = [RECONCILE, ABANDON, sweep::CONFIRM_SWEEP, SOLE_WRITER];

/// The field manager of the operator's status writes.
pub const FIELD_MANAGER: &str = "registry-grants";

fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(message)
}
