//! `CrossAccountRegistryGrant`: one consumer account's access to repositories of one registry
//! account.

use super::rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::access_path::AccessPath;
pub use super::consumer::*;
pub use super::status::*;

/// Lets workloads of one AWS account (the consumer) pull from, and push to, private ECR
/// repositories of another account (the registry), without access keys. The operator maintains the
/// IAM roles, their trust policies and the repository policies in both accounts until the resource
/// is deleted.
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
    printcolumn(name = "Organization", type_ = "string", json_path = ".spec.consumer.organization.id", priority = 1),
    printcolumn(name = "Repositories", type_ = "string", json_path = ".status.repositories.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = rule("size(self.metadata.name) <= 190", "metadata.name must have at most 190 characters: together with the namespace it must fit into an AWS tag"),
)]
#[x_kube(
    validation = rule("!has(self.consumer.accountID) || self.registry.accountID != self.consumer.accountID", "spec.consumer.accountID must differ from spec.registry.accountID: access within one account needs no grant, identity policies are enough"),
    validation = rule(
        "self.access == 'PullPush' || !has(self.registry.role) || !has(self.registry.role.managedPolicies) || !self.registry.role.managedPolicies.exists(p, p == 'AmazonEC2ContainerRegistryPowerUser')",
        "spec.registry.role.managedPolicies: with access Pull, AmazonEC2ContainerRegistryPowerUser would allow pushing; use AmazonEC2ContainerRegistryPullOnly or AmazonEC2ContainerRegistryReadOnly",
    ),
    validation = rule("size(self.paths) < 2 || self.paths[0] != self.paths[1]", "spec.paths: Duplicate value: list each path only once"),
    validation = rule(
        "self.paths.exists(p, p == 'Direct') || !(has(self.consumer.lambda) && self.consumer.lambda)",
        "spec.consumer.lambda needs path Direct: Lambda fetches images by the repository policy",
    ),
    validation = rule(
        "self.paths.exists(p, p == 'Direct') || !has(self.registry.replaceSids) || size(self.registry.replaceSids) == 0",
        "spec.registry.replaceSids needs path Direct: without it this grant writes no statements that could replace others",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct CrossAccountRegistryGrantSpec {
    /// What the consumer may do. `Pull` allows BatchGetImage, GetDownloadUrlForLayer and
    /// BatchCheckLayerAvailability. `PullPush` also allows PutImage, InitiateLayerUpload,
    /// UploadLayerPart, CompleteLayerUpload and ListImages.
    pub access: Access,

    /// The paths by which the consumer gets access. `Direct`: the repository policy names the
    /// consumer; the kubelet, Docker on EC2 and ECS use this path. `AssumeRole`: the consumer
    /// assumes a role in the registry account. Defaults to both.
    #[serde(default = "both_paths")]
    #[schemars(length(min = 1, max = 2))]
    // Replaced as a whole. If server-side apply merged this list by item, the default's other path
    // would stay in it, because no field manager owns that item.
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub paths: Vec<AccessPath>,

    /// The account that owns the repositories, and what is granted in it.
    pub registry: RegistrySpec,

    /// The account whose workloads get access, and which of its identities.
    pub consumer: ConsumerSpec,

    /// What happens in AWS when the grant is deleted. `Delete` revokes the access. `Retain` leaves
    /// it in place, no longer managed by this operator; the rules of the AWSAccounts must say
    /// `allowRetain`, also at the time of the deletion.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// `Enforce` applies the grant. `Observe` writes nothing to AWS for it: the planned changes are
    /// in `status.pending`, and whether access works is in `status.access`; what was applied before
    /// stays and is not maintained. A grant that is deleted, or that no rule admits any more, is
    /// revoked in either mode.
    #[serde(default)]
    pub mode: Mode,

    /// While true, nothing is written or checked in AWS for this grant: what was applied stays as
    /// it is, and changes of the spec wait. A grant that is deleted, or that no rule admits any
    /// more, is revoked nevertheless.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether a grant is applied or only previewed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The grant is applied.
    #[default]
    Enforce,
    /// The status shows the changes that would apply the grant.
    Observe,
}

/// What happens to a grant's access when the grant is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The access is revoked, and what the operator created is removed.
    #[default]
    Delete,
    /// The access stays in AWS, unowned: roles lose this operator's tags, and repository policies
    /// get statements under Sids that no operator owns.
    Retain,
}

/// What a grant lets the consumer do.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Access {
    /// Read images.
    Pull,
    /// Read and write images.
    PullPush,
}

fn both_paths() -> Vec<AccessPath> {
    vec![AccessPath::Direct, AccessPath::AssumeRole]
}

/// The registry side of a grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("self.accountID == oldSelf.accountID", "spec.registry.accountID cannot be changed: delete the grant and create it again"),
    validation = rule(
        "(has(self.role) && has(self.role.name) ? self.role.name : '') == (has(oldSelf.role) && has(oldSelf.role.name) ? oldSelf.role.name : '')",
        "spec.registry.role.name cannot be set, changed or removed later: consumers refer to the role by its ARN; delete the grant and create it again",
    ),
    validation = rule(
        "(has(self.role) && has(self.role.path) ? self.role.path : '') == (has(oldSelf.role) && has(oldSelf.role.path) ? oldSelf.role.path : '')",
        "spec.registry.role.path cannot be set, changed or removed later: it is part of the role's ARN, which consumers refer to; delete the grant and create it again",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// The registry account's number: 12 digits, quoted. Cannot be changed. An AWSAccount of this
    /// name must exist and have a rule that admits this grant.
    #[serde(rename = "accountID")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule("self.matches('^[0-9]{12}$')", "must be an AWS account number: exactly 12 digits, quoted"))]
    pub account_id: String,

    /// The regions of the repositories, for instance `us-east-1`.
    #[schemars(length(min = 1, max = 32), inner(length(max = 32)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(r, r.matches('^([a-z]{2}|us-gov|eusc-[a-z]{2})-[a-z]+-[0-9]{1,2}$'))", "each must be a region such as us-east-1"),
    )]
    pub regions: Vec<String>,

    /// The repositories: full names (`team-b/web`), or prefixes that end in `*` (`team-b/*`), which
    /// also match repositories created later. A name has 2 to 256 characters: lowercase letters,
    /// digits, and `.`, `_`, `-`, `/` between them.
    #[schemars(length(min = 1, max = 100), inner(length(max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            r"self.all(r, size(r) >= 2 && r.matches('^([a-z0-9]+([._-][a-z0-9]+)*/)*([a-z0-9]+([._-][a-z0-9]+)*|[a-z0-9]+([._-][a-z0-9]+)*[._-]?[*]|[*])$'))",
            "each must be a repository name (lowercase letters and digits, with single . _ - / between them, 2 to 256 characters), or a prefix of one that ends in *",
        ),
    )]
    pub repositories: Vec<String>,

    /// The Sids of foreign statements in the repository policies that this grant replaces. A
    /// statement is removed only once the operator's statements allow at least as much. This works
    /// for `Allow` statements only, and only if the AWSAccount's rule says `allowReplace`. Deleting
    /// the grant does not restore it. `status.replacements` shows which statements were replaced,
    /// and why others were not.
    #[serde(rename = "replaceSids", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(sid, !sid.startsWith('RegistryGrants'))", "Sids that begin with RegistryGrants belong to installations of this operator and are never replaced"),
    )]
    pub replace_sids: Vec<String>,

    /// The role in the registry account that the consumer assumes, for path `AssumeRole`. Unset: a
    /// role with the defaults of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RegistryRoleSpec>,
}

/// The role in the registry account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("!has(self.path) || (self.adopt && has(self.name))", "spec.registry.role.path is the path of a role to adopt: it needs adopt: true and the role's name"),
)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRoleSpec {
    /// The role's name, up to 64 characters of letters, digits and `+ = , . @ - _`. Cannot be
    /// changed. Unset: the grant's namespace and name, truncated, with a hash that keeps it unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,64}$')", "must be an IAM role name: 1 to 64 letters, digits and + = , . @ - _ (no path: the AWSAccount sets it)"))]
    pub name: Option<String>,

    /// AWS managed policies that the role gets instead of an inline policy. They give the role
    /// access to EVERY repository of the account, regardless of `repositories`. The AWSAccount's
    /// rule must list them. Unset: an inline policy for only these repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub managed_policies: Vec<ManagedPolicy>,

    /// Whether the repository policy also names the role. Access does not depend on it, because the
    /// role's own policies are enough within its account. Many set-ups made by hand do it this way.
    #[serde(default)]
    pub name_in_repository_policy: bool,

    /// The maximum duration of a session of the role, in seconds: 3600 to 43200. A session that was
    /// itself started from a role (role chaining, as on EC2) lasts at most 3600 seconds.
    #[serde(default = "one_hour")]
    #[schemars(range(min = 3600, max = 43200))]
    pub max_session_seconds: i32,

    /// The `sts:ExternalId` that the consumer must present: 2 to 1224 letters, digits and `+ = , .
    /// @ : / - _`. Unset: no external ID is required.
    #[serde(
        rename = "externalID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 2, max = 1224))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@:/_-]*$')", "must be letters, digits and + = , . @ : / - _"))]
    pub external_id: Option<String>,

    /// Whether to adopt an existing role of this name that this operator did not create. The
    /// operator then makes it match this grant exactly, and deletes it with the grant. The role's
    /// owner must consent by the tag `registrygrants.dev/allow-adopt` on the role, with the
    /// installation's ID and this grant's namespace and name as its value
    /// (`0123456789ab/team-b/web`). Until then, the grant's status shows the tag to set.
    #[serde(default)]
    pub adopt: bool,

    /// The path of the role to adopt, for instance `/`. Requires `adopt`. Cannot be changed. Unset:
    /// the AWSAccount's `spec.roles.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rule("self.matches('^/([A-Za-z0-9+=,.@_-]+/)*$')", "must start and end with /, with letters, digits and + = , . @ - _ between"))]
    pub path: Option<String>,
}

impl Default for RegistryRoleSpec {
    fn default() -> Self {
        Self {
            name: None,
            managed_policies: Vec::new(),
            name_in_repository_policy: false,
            max_session_seconds: one_hour(),
            external_id: None,
            adopt: false,
            path: None,
        }
    }
}

fn one_hour() -> i32 {
    3600
}

/// The AWS managed policies that a registry role may carry. All of them apply to every repository
/// of the account.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum ManagedPolicy {
    /// Pull and push.
    AmazonEC2ContainerRegistryPowerUser,
    /// Pull.
    AmazonEC2ContainerRegistryPullOnly,
    /// Pull, list and describe.
    AmazonEC2ContainerRegistryReadOnly,
}
