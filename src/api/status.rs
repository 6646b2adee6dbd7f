//! The status of a `CrossAccountRegistryGrant`.

use super::grant::AccessPath;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the operator found and did, as of `observedGeneration`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CrossAccountRegistryGrantStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `AccountsReady`, `RoleReady`, `RepositoryPoliciesReady`, `ConsumerReady`; and
    /// `Reconciling` or `Stalled` while they hold. The reasons are listed in the API reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What exists in the registry account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryStatus>,

    /// What exists in the consumer account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerStatus>,

    /// How far the repositories are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<RepositoriesStatus>,

    /// Whether access works, as far as the policies say that were read on both sides: for the
    /// instance role, and for each role that is named exactly, by each path. Organization policies
    /// (SCPs, RCPs), endpoint policies and session policies are not seen. At most a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["principal".into(), "path".into(), "action".into()]))]
    pub access: Vec<AccessStatus>,

    /// With mode `Observe`: what would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingStatus>,

    /// What became of the statements that `spec.registry.replaceSids` names: the first hundred,
    /// those that stay before those that were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "name".into(), "sid".into()]))]
    pub replacements: Vec<Replacement>,

    /// The value of the annotation `registrygrants.dev/reconcile` that was followed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile: Option<String>,

    /// What the operator may have touched in AWS for this grant. Each place is recorded before the
    /// first write there, once it could be read, and removed only after it has been revoked, so
    /// that nothing is forgotten when the spec changes or the operator is stopped half-way. A place
    /// that is not here was never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// Whether somebody can do something by one path.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// Who: a role's ARN, a pattern of such ARNs, an account's root for whomever the account itself
    /// allows, an organization, or a service.
    pub principal: String,
    /// By which path.
    pub path: AccessPath,
    /// What is done with images.
    pub action: AccessAction,
    /// Whether it works.
    pub verdict: AccessVerdict,
    /// The link that is missing, the statement that denies, what it depends on, or what could not
    /// be read, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What somebody does with images.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum AccessAction {
    /// Pulls them.
    Pull,
    /// Pushes them.
    Push,
}

/// Whether access works.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum AccessVerdict {
    /// The policies that were read allow it.
    Allowed,
    /// They do not.
    Denied,
    /// It depends: on which of many identities asks, or on a condition whose value is known only
    /// when somebody asks.
    Depends,
    /// A policy that matters could not be read.
    Unknown,
}

/// What mode `Observe` would do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingStatus {
    /// How many changes there would be in AWS, one call each.
    pub changes: i32,
    /// The first fifty of them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub items: Vec<String>,
}

/// What exists in the registry account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The registry's host names, one a region: what stands before the repository in an image's
    /// name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The ARN of the role that the consumer assumes.
    #[serde(rename = "roleARN", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// That role's unique ID (`AROA…`); it changes when the role is deleted and created again.
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

/// How far the repositories are. With path `AssumeRole` alone no repository policy is needed, and
/// this is absent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoriesStatus {
    /// Granted of all, for instance `2/3`.
    pub summary: String,
    /// How many repositories' policies grant the access.
    pub granted: i32,
    /// How many named repositories do not exist yet, or would be changed where the grant is only
    /// observed.
    pub waiting: i32,
    /// How many could not be granted.
    pub failed: i32,
    /// The first hundred that are not granted, then those that are, by region and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "name".into()]))]
    pub items: Vec<RepositoryStatus>,
}

/// A statement of others that this grant takes the place of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub name: String,
    /// The statement's Sid.
    pub sid: String,
    /// Whether it was removed.
    pub state: ReplacementState,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of a statement that is to be replaced.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum ReplacementState {
    /// It was removed: the operator's statements allow at least as much.
    Replaced,
    /// It stays: the operator's statements do not allow as much, or it is not an `Allow`.
    Kept,
}

/// One repository.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The repository's region.
    pub region: String,
    /// The repository's name.
    pub name: String,
    /// `Granted`, or the reason why not, as in the conditions.
    pub reason: String,
    /// How full the repository's policy is with everybody's statements: percent of ECR's 10,240
    /// characters, rounded up to the next ten so that a status does not change with every other
    /// grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_full_percent: Option<i32>,
}

/// What the operator may have touched in AWS for a grant: where to look. Tags and Sids decide what
/// may be removed there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The last spec that was admitted and carried out. A grant whose new spec is `Invalid` keeps
    /// this one, as far as the rules of the AWSAccounts admit it still.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub spec: Value,
    /// Where repository policies may carry this grant: per region, names and prefixes.
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

/// A copy of the spec: its own definition stands under `spec`, and what is stored here is checked
/// like a spec before it is used.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The repositories of one region that may carry a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedRepositories {
    /// The region.
    pub region: String,
    /// Names, and prefixes that end in `*`.
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub patterns: Vec<String>,
}

/// An instance role that may carry a grant, with its instance profile.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct AppliedInstanceRole {
    /// The role's name.
    pub role: String,
    /// The path that it was made under.
    pub path: String,
    /// The instance profile's name; empty where the role is others', who keep its profile.
    pub instance_profile: String,
}
