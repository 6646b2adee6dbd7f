//! The sweep's part of an `AWSAccount`'s status: AWS resources of this installation in the account
//! that no grant claims (orphans).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The field manager of the sweep's status. It differs from that of the conditions, so that neither
/// removes the other's fields.
pub const SWEEP_FIELD_MANAGER: &str = "registry-grants-sweep";

/// The annotation of an `AWSAccount` by which an admin confirms the removal of everything that the
/// sweep found. Its value is that of `status.sweep.confirm`.
pub const CONFIRM_SWEEP: &str = "registrygrants.dev/confirm-sweep";

/// The maximum number of findings that are listed.
pub const MAX_FINDINGS: usize = 50;

/// The result of the last sweep of the account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SweepStatus {
    /// Whether orphans are removed, or only reported.
    pub mode: SweepMode,

    /// The number of orphans: roles, instance profiles and repository policies with this
    /// installation's mark that no grant claims.
    pub found: i32,

    /// The number of orphans that are kept because others use them, too. `items` shows for each
    /// what uses it.
    pub kept: i32,

    /// What happens next, and what to do.
    pub message: String,

    /// The value that the annotation `registrygrants.dev/confirm-sweep` must have to confirm the
    /// removal: the number of orphans, and a hash of exactly these. Unset: there is nothing to
    /// confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,

    /// The first 50 orphans, by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["arn".into()]))]
    pub items: Vec<SweepFinding>,

    /// The regions whose repositories were searched: every region that a grant on this account has
    /// named since the `AWSAccount` was created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub regions: Vec<String>,

    /// The number of repository policies that the operator's role in the account may not read. It
    /// cannot have written them, unless it had more permissions before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied_repositories: i32,

    /// What could not be read or removed, the first 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub problems: Vec<String>,
}

/// What happens to the orphans that a sweep finds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SweepMode {
    /// Orphans are reported.
    #[default]
    Report,
    /// Orphans are reported, and removed when it is safe.
    Remove,
}

/// An AWS resource of this installation that no grant claims.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct SweepFinding {
    /// The resource's ARN; for statements in a repository policy, the ARN of the repository.
    pub arn: String,
    /// The grant that it was created for, `namespace/name`, according to its tag. Absent for
    /// statements in a policy, which do not contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Why it is never removed, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}
