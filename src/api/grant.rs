//! `CrossAccountRegistryGrant`: one consumer account's access to repositories of one registry account.

use super::rule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Lets workloads of one AWS account (the consumer) pull from, and push to, private ECR repositories of another account
/// (the registry), without access keys. The operator makes the IAM roles, their trust and the repository policies true
/// in both accounts, and keeps them true until the resource is deleted.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "registrygrants.dev",
    version = "v1alpha1",
    kind = "CrossAccountRegistryGrant",
    plural = "crossaccountregistrygrants",
    shortname = "carg",
    namespaced,
    status = "CrossAccountRegistryGrantStatus",
    derive = "PartialEq",
    doc = "Lets workloads of one AWS account (the consumer) pull from, and push to, private ECR repositories of another account (the registry), without access keys.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.access"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registry.accountID"),
    printcolumn(name = "Consumer", type_ = "string", json_path = ".spec.consumer.accountID"),
    printcolumn(name = "Repositories", type_ = "string", json_path = ".status.repositories.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = rule("size(self.metadata.name) <= 190", "metadata.name must have at most 190 characters: together with the namespace it has to fit an AWS tag"),
)]
#[x_kube(
    validation = rule("self.registry.accountID != self.consumer.accountID", "spec.consumer.accountID must differ from spec.registry.accountID: inside one account identity policies are enough, no grant is needed"),
    validation = rule(
        "self.access == 'PullPush' || !has(self.registry.role) || !has(self.registry.role.managedPolicies) || !self.registry.role.managedPolicies.exists(p, p == 'AmazonEC2ContainerRegistryPowerUser')",
        "spec.registry.role.managedPolicies: with access Pull, AmazonEC2ContainerRegistryPowerUser would allow pushing; use AmazonEC2ContainerRegistryPullOnly or AmazonEC2ContainerRegistryReadOnly",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct CrossAccountRegistryGrantSpec {
    /// What the consumer may do. `Pull`: BatchGetImage, GetDownloadUrlForLayer, BatchCheckLayerAvailability.
    /// `PullPush`: these, and PutImage, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, ListImages.
    pub access: Access,

    /// By which paths the consumer gets in. `Direct`: the repository policy names the consumer; this is the path of the
    /// kubelet, of docker on EC2, of ECS. `AssumeRole`: the consumer assumes a role in the registry account. Both unless set.
    #[serde(default = "both_paths")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub paths: Vec<AccessPath>,

    /// The account that owns the repositories, and what of it is granted.
    pub registry: RegistrySpec,

    /// The account whose workloads get access, and which of its identities.
    pub consumer: ConsumerSpec,
}

/// What a grant lets the consumer do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Read images.
    Pull,
    /// Read and write images.
    PullPush,
}

/// A way by which the consumer reaches the repositories.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessPath {
    /// Through the repository policy.
    Direct,
    /// Through a role in the registry account.
    AssumeRole,
}

fn both_paths() -> Vec<AccessPath> {
    vec![AccessPath::Direct, AccessPath::AssumeRole]
}

/// The registry side of a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("self.accountID == oldSelf.accountID", "spec.registry.accountID cannot be changed: delete the grant and create it anew"),
    validation = rule(
        "(has(self.role) && has(self.role.name) ? self.role.name : '') == (has(oldSelf.role) && has(oldSelf.role.name) ? oldSelf.role.name : '')",
        "spec.registry.role.name cannot be set, changed or removed later: consumers refer to the role by its ARN; delete the grant and create it anew",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// The registry account's number: 12 digits, quoted. Cannot be changed. An AWSAccount of this name must exist, with
    /// a rule that this grant fits.
    #[serde(rename = "accountID")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule("self.matches('^[0-9]{12}$')", "must be an AWS account number: exactly 12 digits, quoted"))]
    pub account_id: String,

    /// The regions whose repositories are granted, for instance `us-east-1`.
    #[schemars(length(min = 1, max = 32), inner(length(max = 32)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(r, r.matches('^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$'))", "each must be a region such as us-east-1"),
    )]
    pub regions: Vec<String>,

    /// The repositories: full names (`team-b/web`), or prefixes that end in `*` (`team-b/*`), which also reach repositories
    /// created later. A name has 2 to 256 characters: lowercase letters, digits, and `.`, `_`, `-`, `/` between them.
    #[schemars(length(min = 1, max = 100), inner(length(max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            r"self.all(r, size(r) >= 2 && r.matches('^([a-z0-9]+([._-][a-z0-9]+)*/)*([a-z0-9]+([._-][a-z0-9]+)*|[a-z0-9]+([._-][a-z0-9]+)*[._-]?[*]|[*])$'))",
            "each must be a repository name (lowercase letters and digits, with single . _ - / between them, 2 to 256 characters), or a prefix of one that ends in *",
        ),
    )]
    pub repositories: Vec<String>,

    /// The role in the registry account that the consumer assumes, for path `AssumeRole`. Defaults hold where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RegistryRoleSpec>,
}

/// The role in the registry account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRoleSpec {
    /// The role's name, up to 64 characters of letters, digits and `+ = , . @ - _`. Cannot be changed. Unset: made of
    /// namespace and name, truncated, with a hash that keeps it unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,64}$')", "must be an IAM role name: 1 to 64 letters, digits and + = , . @ - _ (no path: the AWSAccount sets it)"))]
    pub name: Option<String>,

    /// AWS managed policies that the role gets instead of an inline policy. They open EVERY repository of the account to the
    /// role, whatever `repositories` says; only where the AWSAccount's rule lists them. Unset: an inline policy for
    /// just these repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub managed_policies: Vec<ManagedPolicy>,

    /// Whether the repository policy names the role as well. The role does not need it, since its own policies allow it
    /// inside its account; it is the literal form of many hand-made set-ups.
    #[serde(default)]
    pub name_in_repository_policy: bool,

    /// How long a session of the role may last, in seconds: 3600 to 43200. A session that was itself made from a role (role
    /// chaining, as on EC2) lasts 3600 at most.
    #[serde(default = "one_hour")]
    #[schemars(range(min = 3600, max = 43200))]
    pub max_session_seconds: i32,

    /// The `sts:ExternalId` that the consumer must present: 2 to 1224 letters, digits and `+ = , . @ : / - _`. Unset: none is asked.
    #[serde(rename = "externalID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@:/_-]*$')", "must be letters, digits and + = , . @ : / - _"))]
    pub external_id: Option<String>,
}

impl Default for RegistryRoleSpec {
    fn default() -> Self {
        Self {
            name: None,
            managed_policies: Vec::new(),
            name_in_repository_policy: false,
            max_session_seconds: one_hour(),
            external_id: None,
        }
    }
}

fn one_hour() -> i32 {
    3600
}

/// The AWS managed policies that a registry role may carry. All of them apply to every repository of the account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManagedPolicy {
    /// Pull and push.
    AmazonEC2ContainerRegistryPowerUser,
    /// Pull.
    AmazonEC2ContainerRegistryPullOnly,
    /// Pull, list and describe.
    AmazonEC2ContainerRegistryReadOnly,
}

/// The consumer side of a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("self.accountID == oldSelf.accountID", "spec.consumer.accountID cannot be changed: delete the grant and create it anew"),
    validation = rule("!(has(self.wholeAccount) && self.wholeAccount && has(self.roles))", "spec.consumer: wholeAccount and roles exclude each other"),
    validation = rule(
        "(has(self.wholeAccount) && self.wholeAccount) || has(self.roles) || has(self.instanceRole)",
        "spec.consumer must say who gets access: wholeAccount: true, or roles, or instanceRole (then that role alone)",
    ),
    validation = rule(
        "has(self.instanceRole) == has(oldSelf.instanceRole) && (!has(self.instanceRole) || self.instanceRole == oldSelf.instanceRole)",
        "spec.consumer.instanceRole cannot be set, changed or removed later: nodes depend on it; delete the grant and create it anew",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerSpec {
    /// The consumer account's number: 12 digits, quoted. Cannot be changed.
    #[serde(rename = "accountID")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule("self.matches('^[0-9]{12}$')", "must be an AWS account number: exactly 12 digits, quoted"))]
    pub account_id: String,

    /// Every identity of the consumer account gets access that the consumer account itself allows (the account's root as
    /// principal). Excludes `roles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_account: Option<bool>,

    /// Only these roles of the consumer account: what stands after `role/` in the role's ARN, path included
    /// (`registry-grants/miq-instance`); `*` stands for any characters, `/` too (`ci/*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(max = 576)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            "self.all(r, r.matches('^[A-Za-z0-9+=,.@_-][A-Za-z0-9+=,.@_/*-]*$') && !r.contains('//') && !r.endsWith('/'))",
            "each must be what stands after role/ in a role's ARN, path included, such as ci/deployer or ci/* (a lone * is wholeAccount: true)",
        ),
    )]
    pub roles: Option<Vec<String>>,

    /// The EC2 instance role in the consumer account that the operator makes and keeps: its trust for EC2, its permissions
    /// for this grant, and its instance profile. Cannot be changed. Needs an AWSAccount for the consumer account, with a
    /// rule that admits it. Unset: the operator writes nothing in the consumer account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_role: Option<InstanceRoleSpec>,
}

/// The instance role in the consumer account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRoleSpec {
    /// The role's name, up to 64 characters of letters, digits and `+ = , . @ - _`.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,64}$')", "must be an IAM role name: 1 to 64 letters, digits and + = , . @ - _ (no path: the AWSAccount sets it)"))]
    pub name: String,

    /// The name of the instance profile that holds the role, up to 128 characters. Unset: the role's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,128}$')", "must be an instance profile name: 1 to 128 letters, digits and + = , . @ - _"))]
    pub instance_profile: Option<String>,
}

/// What the operator found and did, as of `observedGeneration`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CrossAccountRegistryGrantStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `AccountsReady`, `RoleReady`, `RepositoryPoliciesReady`, `ConsumerReady`; and `Reconciling` or `Stalled` while
    /// they hold. The reasons are listed in the API reference.
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

    /// What the operator may have touched in AWS for this grant. Recorded before the first write, and shortened only after
    /// what is left out has been revoked, so that nothing is forgotten when the spec changes or the operator is stopped half-way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// What exists in the registry account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The registry's host names, one a region: what stands before the repository in an image's name.
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
    #[serde(rename = "instanceProfileARN", default, skip_serializing_if = "Option::is_none")]
    pub instance_profile_arn: Option<String>,
}

/// How far the repositories are. With path `AssumeRole` alone no repository policy is needed, and this is absent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoriesStatus {
    /// Granted of all, for instance `2/3`.
    pub summary: String,
    /// How many repositories' policies grant the access.
    pub granted: i32,
    /// How many named repositories do not exist yet.
    pub waiting: i32,
    /// How many could not be granted.
    pub failed: i32,
    /// The first hundred that are not granted, then those that are, by region and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["region".into(), "name".into()]))]
    pub items: Vec<RepositoryStatus>,
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
}

/// What the operator may have touched in AWS for a grant: where to look. Tags and Sids decide what may be removed there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The last spec that was admitted and carried out. A grant whose new spec is `Invalid` keeps this one, as far as the rules of
    /// the AWSAccounts admit it still.
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

/// A copy of the spec: its own definition stands under `spec`, and what is stored here is checked like a spec before it is used.
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
    /// The instance profile's name.
    pub instance_profile: String,
}
