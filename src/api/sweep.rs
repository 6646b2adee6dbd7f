//! The sweep's part of an `AWSAccount`'s status: what of this installation's is in the account
//! though no grant claims it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The field manager of the sweep's status: another one than that of the conditions, so that
/// neither takes the other's part away.
pub const SWEEP_FIELD_MANAGER: &str = "registry-grants-sweep";

/// The annotation of an `AWSAccount` by which an admin confirms that as many things as the sweep
/// found are removed: its value is that of `status.sweep.confirm`.
pub const CONFIRM_SWEEP: &str = "registrygrants.dev/confirm-sweep";

/// The most findings that are listed.
pub const MAX_FINDINGS: usize = 50;

/// What the last sweep found in the account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SweepStatus {
    /// Whether what is found is removed, or only reported.
    pub mode: SweepMode,

    /// How many roles, instance profiles and repositories' policies carry this installation's mark,
    /// though no grant claims them.
    pub found: i32,

    /// Of these, how many are left alone because others use them, too: `items` says of each what it
    /// is.
    pub kept: i32,

    /// What comes next, and what to do.
    pub message: String,

    /// What the annotation `registrygrants.dev/confirm-sweep` must say so that what was found is
    /// removed: their number, and a mark of just these. Unset: there is nothing to confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,

    /// The first fifty of what was found, by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["arn".into()]))]
    pub items: Vec<SweepFinding>,

    /// The regions whose repositories were looked at: every one that a grant on this account has
    /// named since the `AWSAccount` was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub regions: Vec<String>,

    /// How many repositories' policies the operator's role in the account may not read. It cannot
    /// have written them, unless it was allowed more before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied_repositories: i32,

    /// What could not be looked at or removed, the first ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub problems: Vec<String>,
}

/// What becomes of what a sweep finds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SweepMode {
    /// It is reported.
    #[default]
    Report,
    /// It is reported, and removed where nothing speaks against it.
    Remove,
}

/// Something of this installation's that no grant claims.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct SweepFinding {
    /// Its ARN; for statements in a policy, that of the repository.
    pub arn: String,
    /// The grant that it was made for, `namespace/name`, as its tag says. Statements in a policy do
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Why it is never removed, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}
