//! The status of an `AWSAccount`.

use super::sweep::SweepStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the operator can work in the account, and how many grants use it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AWSAccountStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready` is true if the operator has credentials that belong to this account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Settings that may allow more than intended: roles without a permissions boundary, selectors
    /// that match nearly every namespace. A warning refuses nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,

    /// The operator's identity in this account, as `sts:GetCallerIdentity` reports it.
    #[serde(rename = "callerARN", default, skip_serializing_if = "Option::is_none")]
    pub caller_arn: Option<String>,

    /// The result of the last sweep: AWS resources of this installation in the account that no
    /// grant claims. Absent until the first sweep, and where sweeps are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepStatus>,

    /// The number of grants that use the account. An account in use cannot be deleted if the
    /// chart's admission policies are enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantCounts>,

    /// The repositories in whose policies access was revoked within the last hour, the latest
    /// first, at most 100. The operator reads them again after a restart, because another client
    /// may have written an older version of such a policy back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "repository".into()]))]
    pub recently_revoked: Vec<RecentlyRevoked>,

    /// Evidence that another operator with this installation's ID writes in the account. While this
    /// field is set, no new access is granted in the account, existing access stays, and deleted
    /// grants are revoked. The annotation `registrygrants.dev/sole-writer: "true"` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_writer: Option<SecondWriter>,

    /// The repositories whose policies another tool keeps replacing (reason `ContestedPolicy` on
    /// grants), as of the last sync; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "repository".into()]))]
    pub contested_policies: Vec<ContestedPolicy>,

    /// The last error that kept the operator from working in the account. It remains after the
    /// account is `Ready` again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The field manager of `status.secondWriter`.
pub const SECOND_WRITER_FIELD_MANAGER: &str = "registry-grants-second-writer";

/// Evidence that another operator with this installation's ID writes in an account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecondWriter {
    /// The time since when no new access is granted in the account.
    pub since: Time,
    /// What the operator observed.
    #[schemars(length(max = 10))]
    pub evidence: Vec<String>,
}

/// The field manager of `status.contestedPolicies`.
pub const CONTESTED_FIELD_MANAGER: &str = "registry-grants-contested";

/// The maximum number of items in `status.contestedPolicies`.
pub const MAX_CONTESTED_POLICIES: usize = 20;

/// The maximum number of Sids in one of them.
pub const MAX_CONTESTED_SIDS: usize = 50;

/// A repository whose policy another tool keeps replacing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContestedPolicy {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub repository: String,
    /// The Sids of the policy's foreign statements that have one. They may show which tool writes
    /// the policy. At most 50, each cut to 100 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub sids: Vec<String>,
}

/// The field manager of `status.recentlyRevoked`. It differs from that of the conditions, which are
/// applied as one unit.
pub const REVOKED_FIELD_MANAGER: &str = "registry-grants-revoked";

/// The maximum number of items in `status.recentlyRevoked`.
pub const MAX_RECENTLY_REVOKED: usize = 100;

/// A repository in whose policy access was revoked recently.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecentlyRevoked {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub repository: String,
    /// The time of the last revocation there.
    pub time: Time,
}

/// The number of grants that use an account: those whose spec names it, until they are gone.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrantCounts {
    /// Grants that use it as the registry.
    pub registry: i32,
    /// Grants that use it as the consumer.
    pub consumer: i32,
}

/// An error that occurred before, or still occurs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The reason, as in the condition `Ready`.
    pub reason: String,
    /// What happened, where, and what to do.
    pub message: String,
    /// The time when this error began.
    pub time: Time,
}
