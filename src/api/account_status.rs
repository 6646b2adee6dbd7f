//! The status of an `AWSAccount`.

use super::sweep::SweepStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the operator can work in the account, and who needs it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AWSAccountStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the operator has credentials, and they are for this account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What the settings allow that may not be meant: roles without a permissions boundary,
    /// selectors that match nearly every namespace. A warning refuses nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,

    /// Who the operator is in this account, as `sts:GetCallerIdentity` said.
    #[serde(rename = "callerARN", default, skip_serializing_if = "Option::is_none")]
    pub caller_arn: Option<String>,

    /// What this installation has in the account though no grant claims it. Absent until the first
    /// sweep, and where sweeps are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepStatus>,

    /// How many grants use the account. An account in use cannot be deleted where the chart's
    /// admission policies are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantCounts>,

    /// The repositories in whose policies access was revoked within the last hour, the latest
    /// first, at most a hundred. They are read again after a start of the operator: somebody who
    /// had read such a policy before may have written it back as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "repository".into()]))]
    pub recently_revoked: Vec<RecentlyRevoked>,

    /// What shows that another operator with this installation's ID writes in the account. While it
    /// is there, nothing new is granted in the account, what was granted stays, and deleted grants
    /// are revoked. It goes with the annotation `registrygrants.dev/sole-writer: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_writer: Option<SecondWriter>,

    /// The repositories whose policies somebody else keeps replacing (reason `ContestedPolicy` on
    /// grants), by what was found at the last look; at most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "repository".into()]))]
    pub contested_policies: Vec<ContestedPolicy>,

    /// The last error that kept the operator from working in the account. It stays when the account
    /// is `Ready` again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The field manager of `status.secondWriter`.
pub const SECOND_WRITER_FIELD_MANAGER: &str = "registry-grants-second-writer";

/// What shows that another operator with this installation's ID writes in an account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecondWriter {
    /// Since when nothing new is granted in the account.
    pub since: Time,
    /// What was seen.
    #[schemars(length(max = 10))]
    pub evidence: Vec<String>,
}

/// The field manager of `status.contestedPolicies`.
pub const CONTESTED_FIELD_MANAGER: &str = "registry-grants-contested";

/// The maximum number of items in `status.contestedPolicies`.
pub const MAX_CONTESTED_POLICIES: usize = 20;

/// The maximum number of Sids in one of them.
pub const MAX_CONTESTED_SIDS: usize = 50;

/// A repository whose policy somebody else keeps replacing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContestedPolicy {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub repository: String,
    /// The Sids of the statements that are not this installation's, as far as they have one: they
    /// say whose tool it may be. At most fifty, and a hundred bytes of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub sids: Vec<String>,
}

/// The field manager of `status.recentlyRevoked`: another one than that of the conditions, which
/// are applied whole.
pub const REVOKED_FIELD_MANAGER: &str = "registry-grants-revoked";

/// The most places that are on record as revoked lately.
pub const MAX_RECENTLY_REVOKED: usize = 100;

/// A repository in whose policy access was revoked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecentlyRevoked {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub repository: String,
    /// When access was revoked there last.
    pub time: Time,
}

/// How many grants use an account: those whose spec names it, until they are gone.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrantCounts {
    /// As the owner of repositories.
    pub registry: i32,
    /// As the account that pulls and pushes.
    pub consumer: i32,
}

/// An error of the past, or of now.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The reason, as in the condition `Ready`.
    pub reason: String,
    /// What happened, where, and what to do.
    pub message: String,
    /// When it was first seen, since it last was not.
    pub time: Time,
}
