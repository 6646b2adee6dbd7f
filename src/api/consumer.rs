//! The consumer side of a `CrossAccountRegistryGrant`: the identities that get access.

use super::rule;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The consumer side of a grant: one account, or an organization.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = rule("has(self.accountID) != has(self.organization)", "spec.consumer.accountID or spec.consumer.organization is needed, and not both"),
    validation = rule(
        "(has(self.accountID) ? self.accountID : '') == (has(oldSelf.accountID) ? oldSelf.accountID : '')",
        "spec.consumer.accountID cannot be set, changed or removed later: delete the grant and create it again",
    ),
    validation = rule(
        "(has(self.organization) ? self.organization.id : '') == (has(oldSelf.organization) ? oldSelf.organization.id : '')",
        "spec.consumer.organization.id cannot be set, changed or removed later: delete the grant and create it again",
    ),
    validation = rule("!(has(self.wholeAccount) && self.wholeAccount && has(self.roles))", "spec.consumer: wholeAccount and roles are mutually exclusive"),
    validation = rule(
        "has(self.organization) || (has(self.wholeAccount) && self.wholeAccount) || has(self.roles) || has(self.instanceRole)",
        "spec.consumer must say who gets access: wholeAccount: true, or roles, or instanceRole (then that role alone)",
    ),
    validation = rule(
        "!has(self.organization) || !((has(self.wholeAccount) && self.wholeAccount) || has(self.roles) || has(self.instanceRole) || (has(self.lambda) && self.lambda))",
        "spec.consumer: wholeAccount, roles, lambda and instanceRole apply to an account, not to an organization",
    ),
    validation = rule(
        "has(self.instanceRole) == has(oldSelf.instanceRole) && (!has(self.instanceRole) || (self.instanceRole.name == oldSelf.instanceRole.name && self.instanceRole.management == oldSelf.instanceRole.management && (has(self.instanceRole.path) ? self.instanceRole.path : '') == (has(oldSelf.instanceRole.path) ? oldSelf.instanceRole.path : '') && (has(self.instanceRole.instanceProfile) ? self.instanceRole.instanceProfile : '') == (has(oldSelf.instanceRole.instanceProfile) ? oldSelf.instanceRole.instanceProfile : '')))",
        "spec.consumer.instanceRole cannot be set, changed or removed later (except onDelete): nodes depend on it; delete the grant and create it again",
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerSpec {
    /// The consumer account's number: 12 digits, quoted. Cannot be changed. Excludes
    /// `organization`.
    #[serde(rename = "accountID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule("self.matches('^[0-9]{12}$')", "must be an AWS account number: exactly 12 digits, quoted"))]
    pub account_id: Option<String>,

    /// Grants access to every account of an AWS organization, or of some of its organizational
    /// units, instead of one account. Membership counts at the time of each call. The AWSAccount's
    /// rule must name the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationSpec>,

    /// Grants access to every identity that the consumer account itself allows (the account's root
    /// is the principal). Excludes `roles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_account: Option<bool>,

    /// Grants access only to these roles of the consumer account. Each is the part after `role/` of
    /// a role's ARN, path included (`registry-grants/miq-instance`). `*` stands for any characters,
    /// including `/` (`ci/*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(max = 576)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            "self.all(r, r.matches('^[A-Za-z0-9+=,.@_-][A-Za-z0-9+=,.@_/*-]*$') && !r.contains('//') && !r.endsWith('/'))",
            "each must be the part after role/ of a role's ARN, path included, such as ci/deployer or ci/* (a lone * is wholeAccount: true)",
        ),
    )]
    pub roles: Option<Vec<String>>,

    /// Whether Lambda functions of the consumer account may use the images. The Lambda service
    /// itself fetches them, with pull access only, for any function of that account in the
    /// repository's region. The identity that creates the functions needs access as well, by
    /// `wholeAccount` or `roles`. Requires path `Direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<bool>,

    /// The EC2 instance role in the consumer account that the operator maintains: its trust policy
    /// for EC2, its permissions for this grant, and its instance profile. Cannot be changed.
    /// Requires an AWSAccount for the consumer account with a rule that admits it. Unset: the
    /// operator writes nothing in the consumer account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_role: Option<InstanceRoleSpec>,
}

/// An AWS organization as the consumer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("!has(self.paths) || self.paths.all(p, p.startsWith(self.id + '/'))", "spec.consumer.organization.paths: each must begin with the organization's ID and a /"),
)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationSpec {
    /// The organization's ID, for instance `o-a1b2c3d4e5`. Cannot be changed.
    #[schemars(length(max = 34))]
    #[x_kube(validation = rule("self.matches('^o-[a-z0-9]{10,32}$')", "must be an organization's ID: o- and 10 to 32 lowercase letters and digits"))]
    pub id: String,

    /// The organizational units to grant access to, by their paths as in `aws:PrincipalOrgPaths`:
    /// `o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*` is the unit and all units below it; without the
    /// `*`, only the accounts directly in the unit. Unset: the whole organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), inner(length(max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rule(
            "self.all(p, p.matches('^o-[a-z0-9]{10,32}/r-[a-z0-9]{4,32}/(ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}/)*[*]?$'))",
            "each must be a path such as o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/, with a * at the end to include all units below it",
        ),
    )]
    pub paths: Option<Vec<String>>,
}

/// The instance role in the consumer account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = rule("self.management == 'Extend' || !has(self.path)", "spec.consumer.instanceRole.path needs management: Extend; roles that the operator creates have the AWSAccount's path"),
    validation = rule("self.management == 'Create' || !has(self.instanceProfile)", "spec.consumer.instanceRole.instanceProfile: with management Extend the role's owner manages its instance profile"),
    validation = rule("self.management == 'Create' || !has(self.onDelete) || self.onDelete == 'RemoveAccess'", "spec.consumer.instanceRole.onDelete: with management Extend the role belongs to its owner, so only RemoveAccess is possible"),
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRoleSpec {
    /// The role's name, up to 64 characters of letters, digits and `+ = , . @ - _`. Cannot be
    /// changed.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,64}$')", "must be an IAM role name: 1 to 64 letters, digits and + = , . @ - _ (no path: the AWSAccount sets it)"))]
    pub name: String,

    /// The owner of the role. `Create`: this operator creates the role and its instance profile;
    /// grants of one installation that name the same role share it. `Extend`: the role belongs to
    /// someone else; the operator adds one inline policy for this grant, removes it with the grant,
    /// and does not change the trust policy. The role's owner must consent by the tag
    /// `registrygrants.dev/allow-extend`, with the value `true` or this installation's ID. Cannot
    /// be changed.
    #[serde(default)]
    pub management: Management,

    /// The path of the role to extend, for instance `/nodes/`. Requires management `Extend`. Cannot
    /// be changed. Unset: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rule("self.matches('^/([A-Za-z0-9+=,.@_-]+/)*$')", "must start and end with /, with letters, digits and + = , . @ - _ between"))]
    pub path: Option<String>,

    /// The name of the instance profile that contains the role, up to 128 characters. Not allowed
    /// with management `Extend`. Cannot be changed. Unset: the role's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rule("self.matches('^[A-Za-z0-9+=,.@_-]{1,128}$')", "must be an instance profile name: 1 to 128 letters, digits and + = , . @ - _"))]
    pub instance_profile: Option<String>,

    /// What happens to the role when the grant is deleted and no other grant uses it. (The
    /// definition has the description of [`OnDelete`] instead.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

/// The owner of an instance role.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Management {
    /// This operator creates the role.
    #[default]
    Create,
    /// The role belongs to someone else, who consents by a tag.
    Extend,
}

/// What happens to the role when the grant is deleted and no other grant uses it. `DeleteRole`
/// deletes the role and its instance profile, unless others added policies or trust statements to
/// it. `RemoveAccess` removes this grant's policy and leaves role and profile in place, no longer
/// managed by this operator. Unset: `DeleteRole` with management `Create`, `RemoveAccess` with
/// `Extend`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// The role stays, without the grant's policy.
    RemoveAccess,
    /// The role is deleted.
    #[default]
    DeleteRole,
}
