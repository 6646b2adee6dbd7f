//! The status of a `CrossAccountRegistryGrant`.

use super::access_path::AccessPath;
use super::conditions::{self, ConditionType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The observed state of the grant, as of `observedGeneration`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CrossAccountRegistryGrantStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The conditions `Ready`, `AccountsReady`, `RoleReady`, `RepositoryPoliciesReady` and
    /// `ConsumerReady`; and `Reconciling` or `Stalled` while they apply. The operations guide lists
    /// the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What exists in the registry account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryStatus>,

    /// What exists in the consumer account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerStatus>,

    /// The state of the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<RepositoriesStatus>,

    /// Whether access works, according to the policies that the operator read on both sides: for
    /// the instance role and each role that the spec names exactly, by each path. Organization
    /// policies (SCPs, RCPs), VPC endpoint policies and session policies are not considered. At
    /// most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["principal".into(), "path".into(), "action".into()]))]
    pub access: Vec<AccessStatus>,

    /// With mode `Observe`: the planned changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingStatus>,

    /// The state of the statements that `spec.registry.replaceSids` names: the first 100, those
    /// that were kept before those that were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "name".into(), "sid".into()]))]
    pub replacements: Vec<Replacement>,

    /// The last value of the annotation `registrygrants.dev/reconcile` that the operator acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile: Option<String>,

    /// The places in AWS where the operator may have written for this grant. The operator records a
    /// place before its first write there, once it could be read, and removes it only after
    /// revoking it. So nothing is forgotten when the spec changes or the operator stops in the
    /// middle. A place that is not listed was never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

impl CrossAccountRegistryGrantStatus {
    /// Returns status, reason and message of the condition `Ready`.
    pub fn ready(&self) -> Option<(&str, &str, &str)> {
        let condition = conditions::find(&self.conditions, ConditionType::Ready)?;
        Some((&condition.status, &condition.reason, &condition.message))
    }
}

/// Whether an identity has access by one path.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// The identity: a role's ARN, a pattern of such ARNs, an account's root for every identity
    /// that the account itself allows, an organization, or a service.
    pub principal: String,
    /// The path of the access.
    pub path: AccessPath,
    /// The action: pull or push.
    pub action: AccessAction,
    /// Whether the policies allow the access.
    pub verdict: AccessVerdict,
    /// Why access is not certain: the missing permission, the statement that denies, the condition
    /// that it depends on, or the policy that could not be read, with its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// An action on images.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum AccessAction {
    /// Pulls images.
    Pull,
    /// Pushes images.
    Push,
}

/// Whether access works.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum AccessVerdict {
    /// The policies that were read allow it.
    Allowed,
    /// The policies that were read deny it, or do not allow it.
    Denied,
    /// It depends on which of several identities calls, or on a condition whose value is known only
    /// at the time of the call.
    Depends,
    /// A policy that matters could not be read.
    Unknown,
}

/// The changes that mode `Observe` does not make.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingStatus {
    /// The number of planned changes in AWS, one call each.
    pub changes: i32,
    /// The first 50 planned changes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub items: Vec<String>,
}

/// What exists in the registry account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The registry's host names, one per region: the part of an image's name before the
    /// repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The ARN of the role that the consumer assumes.
    #[serde(rename = "roleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The role's unique ID (`AROA…`). It changes when the role is deleted and created again.
    #[serde(rename = "roleID", default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
}

/// What exists in the consumer account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// The ARN of the instance role.
    #[serde(rename = "roleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The instance role's unique ID.
    #[serde(rename = "roleID", default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// The ARN of the instance profile.
    #[serde(
        rename = "instanceProfileARN",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub instance_profile_arn: Option<String>,
}

/// The state of the repositories. Absent with path `AssumeRole` alone, which needs no repository
/// policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoriesStatus {
    /// The number of granted repositories out of all, for instance `2/3`.
    pub summary: String,
    /// The number of repositories whose policies grant the access.
    pub granted: i32,
    /// The number of named repositories that do not exist yet, or that would be changed if the
    /// grant were not only observed.
    pub waiting: i32,
    /// The number of repositories that could not be granted.
    pub failed: i32,
    /// The first 100 repositories: those that are not granted, then those that are, by region and
    /// name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "name".into()]))]
    pub items: Vec<RepositoryStatus>,
}

/// A foreign statement that this grant replaces.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub name: String,
    /// The statement's Sid.
    pub sid: String,
    /// Whether the statement was removed.
    pub state: ReplacementState,
    /// Why the statement was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The state of a statement that is to be replaced.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum ReplacementState {
    /// The statement was removed: the operator's statements allow at least as much.
    Replaced,
    /// The statement was kept: the operator's statements do not allow as much, or it is not an
    /// `Allow`.
    Kept,
}

/// The state of one repository.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub name: String,
    /// `Granted`, or the reason why not, as in the conditions.
    pub reason: String,
    /// How much of ECR's limit of 10,240 characters the repository policy uses, with all
    /// statements, in percent. Rounded up to the next ten, so that a status does not change with
    /// every other grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_full_percent: Option<i32>,
}

/// The places in AWS where the operator may have written for a grant. They say where to search;
/// tags and Sids decide what may be removed there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The last spec that was admitted and applied. A grant whose new spec is `Invalid` keeps this
    /// one, as far as the rules of the AWSAccounts still admit it.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub spec: Value,
    /// The repositories whose policies may contain statements for this grant: names and prefixes,
    /// per region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into()]))]
    pub repositories: Vec<AppliedRepositories>,
    /// Roles in the registry account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub registry_roles: Vec<String>,
    /// Roles in the consumer account, each with its instance profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["role".into(), "path".into(), "instanceProfile".into()]))]
    pub instance_roles: Vec<AppliedInstanceRole>,
}

/// A copy of the spec. The definition under `spec` describes its fields, and the operator checks
/// what is stored here like a spec before it uses it.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The repositories of one region that may contain statements for a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedRepositories {
    /// The region.
    pub region: String,
    /// Names, and prefixes that end in `*`.
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub patterns: Vec<String>,
}

/// An instance role where a grant may have written, with its instance profile.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct AppliedInstanceRole {
    /// The role's name.
    pub role: String,
    /// The role's path.
    pub path: String,
    /// The instance profile's name; empty if the role belongs to someone else, who manages its
    /// profile.
    pub instance_profile: String,
}
