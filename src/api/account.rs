//! `AWSAccount`: how the operator gets access to an account, and what grants may do there.

use super::account_status::AWSAccountStatus;
use super::grant::{Access, ManagedPolicy, Management};
use super::rule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An AWS account that a cluster admin opened to grants: how the operator gets credentials there,
/// and what the grants of each namespace may do. Its name is the account's number. A grant that no
/// rule admits is refused; without rules, all are.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "registrygrants.dev",
    version = "v1alpha1",
    kind = "AWSAccount",
    plural = "awsaccounts",
    status = "AWSAccountStatus",
    derive = "PartialEq",
    doc = "An AWS account that a cluster admin opened to grants: how the operator gets credentials there, and what the grants of each namespace may do. Its name is the account's number.",
    printcolumn(name = "Alias", type_ = "string", json_path = ".spec.alias"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "AsRegistry", type_ = "integer", json_path = ".status.grants.registry"),
    printcolumn(name = "AsConsumer", type_ = "integer", json_path = ".status.grants.consumer"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "LastError", type_ = "string", json_path = ".status.lastError.reason", priority = 1),
    printcolumn(name = "Caller", type_ = "string", json_path = ".status.callerARN", priority = 1),
    validation = rule("self.metadata.name.matches('^[0-9]{12}$')", "metadata.name must be the AWS account's number: exactly 12 digits, quoted"),
    validation = rule(
        "!has(self.spec.credentials) || self.spec.credentials.assumeRole.roleARN.split(':')[4] == self.metadata.name",
        "spec.credentials.assumeRole.roleARN must be a role of this account",
    ),
    validation = rule(
        "!has(self.spec.roles) || !has(self.spec.roles.permissionsBoundary) || self.spec.roles.permissionsBoundary.split(':')[4] in [self.metadata.name, 'aws']",
        "spec.roles.permissionsBoundary must be a managed policy of this account, or of AWS",
    ),
)]
#[x_kube(
    validation = rule("self.partition == oldSelf.partition", "spec.partition cannot be changed"),
    validation = rule(
        "self.roles.path == oldSelf.roles.path",
        "spec.roles.path cannot be changed: IAM cannot move roles; delete the grants of this account, then the AWSAccount, and create it again",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct AWSAccountSpec {
    /// A display name, up to 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub alias: Option<String>,

    /// The AWS partition of the account. Cannot be changed. Grants cannot cross partitions.
    #[serde(default)]
    pub partition: Partition,

    /// How the operator gets credentials for this account. Unset: it uses its ambient credentials
    /// (IRSA, Pod Identity, instance profile, environment), which must then belong to this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// What grants may do if this account owns the repositories. Unset: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySide>,

    /// What grants may do if this account is the consumer. Unset: the operator writes nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerSide>,

    /// How the operator creates roles and instance profiles in this account.
    #[serde(default)]
    pub roles: RoleSettings,
}

/// An AWS partition.
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
)]
pub enum Partition {
    /// The commercial regions.
    #[default]
    #[serde(rename = "aws")]
    Aws,
    /// The China regions.
    #[serde(rename = "aws-cn")]
    AwsCn,
    /// The US GovCloud regions.
    #[serde(rename = "aws-us-gov")]
    AwsUsGov,
    /// The European Sovereign Cloud.
    #[serde(rename = "aws-eusc")]
    AwsEusc,
}

/// The source of the operator's credentials for an account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The role in this account that the operator assumes with its ambient credentials.
    pub assume_role: AssumeRole,
}

/// The operator's own role in an account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// The role's ARN, for instance `arn:aws:iam::111111111111:role/registry-grants`.
    #[serde(rename = "roleARN")]
    #[schemars(length(max = 640))]
    #[x_kube(validation = rule("self.matches('^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$')", "must be the ARN of an IAM role"))]
    pub role_arn: String,

    /// The `sts:ExternalId` that the role's trust policy requires. It prevents the confused deputy
    /// problem; it is not a secret.
    #[serde(
        rename = "externalID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 2, max = 1224))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@:/_-]*$')", "must be letters, digits and + = , . @ : / - _"))]
    pub external_id: Option<String>,
}

/// The account as the owner of repositories.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySide {
    /// The rules that admit grants. One rule must admit the entire grant. No rules: nothing is
    /// granted.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub rules: Vec<RegistryRule>,
}

/// One kind of grant that the registry account admits.
// The optional fields of a list's items have no default in the definition. `kubectl apply` and Argo
// CD replace lists as a whole, so a value that the API server fills in there would show as a
// permanent difference.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRule {
    /// The namespaces whose grants this rule admits.
    pub namespaces: Namespaces,

    /// The repositories: names, or prefixes that end in `*`; a lone `*` is every repository of the
    /// account. Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(r, r.matches('^[a-z0-9._/-]*[*]?$') && size(r) > 0)", "each must be a repository name, a prefix that ends in *, or a lone *"),
    )]
    pub repositories: Vec<String>,

    /// The maximum access that a grant may give.
    pub max_access: Access,

    /// The consumer accounts that grants may give access to. Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 12)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(a, a.matches('^[0-9]{12}$'))", "each must be an AWS account number: exactly 12 digits, quoted"),
    )]
    pub consumers: Vec<String>,

    /// The AWS organizations, or organizational units of them, that grants may give access to: IDs
    /// (`o-a1b2c3d4e5`), or paths (`o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*`). Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            "self.all(o, o.matches('^o-[a-z0-9]{10,32}(/r-[a-z0-9]{4,32}/(ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}/)*[*]?)?$'))",
            "each must be an organization's ID, or a path such as o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*",
        ),
    )]
    pub organizations: Vec<String>,

    /// Whether a grant may replace foreign statements in a repository policy
    /// (`spec.registry.replaceSids`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_replace: bool,

    /// Whether a grant may leave its access in AWS when it is deleted (`spec.deletionPolicy:
    /// Retain`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_retain: bool,

    /// The AWS managed policies that the grant's role may have. They give it access to every
    /// repository of the account. Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub managed_policies: Vec<ManagedPolicy>,
}

/// The account as the consumer.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerSide {
    /// The rules for instance roles. One rule must admit the role. No rules: the operator writes no
    /// role here.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub rules: Vec<ConsumerRule>,
}

/// One kind of instance role that the consumer account admits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerRule {
    /// The namespaces whose grants this rule admits.
    pub namespaces: Namespaces,

    /// The instance roles: each is the part after `role/` of a role's ARN, path included, or a
    /// prefix of it that ends in `*`. Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 576)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule("self.all(r, r.matches('^[A-Za-z0-9+=,.@_/-]+[*]?$'))", "each must be the part after role/ of a role's ARN, path included, or a prefix of it that ends in *"),
    )]
    pub roles: Vec<String>,

    /// Which owners these roles may have: this operator, which creates them (`Create`), or someone
    /// else (`Extend`). Unset: `Create`.
    #[serde(default = "create_only", skip_serializing_if = "is_create_only")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub management: Vec<Management>,

    /// Whether a grant may leave its instance role in AWS when it is deleted (`spec.deletionPolicy:
    /// Retain`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_retain: bool,
}

fn create_only() -> Vec<Management> {
    vec![Management::Create]
}

fn is_create_only(management: &[Management]) -> bool {
    management == [Management::Create]
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A selection of namespaces: those listed by name, and those that the selector matches.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = rule(
        "!has(self.selector) || (has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) || (has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",
        "namespaces.selector must not be empty: an empty selector would match every namespace; name a label instead",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Namespaces by name. Unset: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,

    /// Namespaces by label. An empty selector is refused. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// How the operator creates roles and instance profiles in an account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RoleSettings {
    /// The IAM path of the roles and instance profiles that the operator creates. It starts and
    /// ends with `/`. Cannot be changed.
    #[serde(default = "default_path")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rule("self.matches('^/([A-Za-z0-9+=,.@_-]+/)*$')", "must start and end with /, with letters, digits and + = , . @ - _ between"))]
    pub path: String,

    /// The ARN of the managed policy that is the permissions boundary of the roles that the
    /// operator creates. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 640))]
    #[x_kube(validation = rule("self.matches('^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+$')", "must be the ARN of an IAM managed policy"))]
    pub permissions_boundary: Option<String>,

    /// The account's quota for the length of a role's trust policy, in characters: 2048 unless AWS
    /// raised it (4096 at most).
    #[serde(default = "default_trust_limit")]
    #[schemars(range(min = 2048, max = 4096))]
    pub max_trust_policy_characters: i32,
}

impl Default for RoleSettings {
    fn default() -> Self {
        Self {
            path: default_path(),
            permissions_boundary: None,
            max_trust_policy_characters: default_trust_limit(),
        }
    }
}

fn default_path() -> String {
    "/registry-grants/".into()
}

fn default_trust_limit() -> i32 {
    2048
}
