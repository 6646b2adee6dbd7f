//! Every call that the operator makes, and every field that it reads from the answer.
//!
//! Sources: the services' models (as in botocore), and the sample answers in the API references of
//! IAM, ECR and STS, where a list without items is an empty element and not a missing one.

/// The condition under which a field is in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Always, and it is not empty.
    Always,
    /// Always, but it may be an empty text.
    Text,
    /// Always, and it is a list; an empty list is an answer.
    List,
    /// Always, and it repeats this parameter of the request. IAM ignores the case of names, ECR
    /// does not.
    Repeats(&'static str),
    /// The field may be absent; the text is the meaning of that.
    MayBeAbsent(&'static str),
    /// Always, and it says whether more pages of the list follow. If they do, the `Marker` next to
    /// it is present as well.
    Truncated,
}

use Presence::{Always, List, MayBeAbsent, Repeats, Text, Truncated};

/// A field by its path: `Role.Tags[].Key` is the field `Key` of every item of the list `Tags` of
/// the field `Role`.
pub type Field = (&'static str, Presence);

/// The format of a service's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The format of ECR.
    Json,
    /// The format of IAM and STS: `<GetRoleResponse><GetRoleResult>…`. An answer without fields
    /// has no `…Result`.
    Query,
}

/// The answer of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The operation's name.
    pub operation: &'static str,
    /// The format of the answer.
    pub protocol: Protocol,
    /// The fields that are checked.
    pub fields: &'static [Field],
}

const fn ecr(operation: &'static str, fields: &'static [Field]) -> Answer {
    Answer {
        operation,
        protocol: Protocol::Json,
        fields,
    }
}

const fn query(operation: &'static str, fields: &'static [Field]) -> Answer {
    Answer {
        operation,
        protocol: Protocol::Query,
        fields,
    }
}

/// The answer to a request about the policy of one repository.
const REPOSITORY_POLICY: &[Field] = &[
    ("registryId", Repeats("registryId")),
    ("repositoryName", Repeats("repositoryName")),
    ("policyText", Always),
];

/// The answers of all operations. A call that is not listed here fails.
pub const ANSWERS: &[Answer] = &[
    ecr("GetRepositoryPolicy", REPOSITORY_POLICY),
    ecr("SetRepositoryPolicy", REPOSITORY_POLICY),
    ecr("DeleteRepositoryPolicy", REPOSITORY_POLICY),
    ecr(
        "DescribeRepositories",
        &[
            ("repositories", List),
            ("repositories[].repositoryName", Always),
            ("nextToken", MayBeAbsent("this is the last page")),
        ],
    ),
    // It takes no parameter: the registry is the one of the credentials.
    ecr("GetRegistryPolicy", &[("policyText", Always)]),
    query(
        "GetRole",
        &[
            ("Role.RoleName", Repeats("RoleName")),
            ("Role.RoleId", Always),
            ("Role.Arn", Always),
            ("Role.Path", Always),
            ("Role.AssumeRolePolicyDocument", Always),
            ("Role.MaxSessionDuration", MayBeAbsent("3,600 seconds")),
            ("Role.PermissionsBoundary", MayBeAbsent("the role has none")),
            (
                "Role.Tags",
                MayBeAbsent(
                    "the role has none; ListRoleTags decides where something depends on it",
                ),
            ),
            ("Role.Tags[].Key", Always),
            ("Role.Tags[].Value", Text),
        ],
    ),
    query(
        "ListRoleTags",
        &[
            ("Tags", List),
            ("Tags[].Key", Always),
            ("Tags[].Value", Text),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "ListRolePolicies",
        &[("PolicyNames", List), ("IsTruncated", Truncated)],
    ),
    query(
        "GetRolePolicy",
        &[
            ("RoleName", Repeats("RoleName")),
            ("PolicyName", Repeats("PolicyName")),
            ("PolicyDocument", Always),
        ],
    ),
    query(
        "ListAttachedRolePolicies",
        &[
            ("AttachedPolicies", List),
            ("AttachedPolicies[].PolicyArn", Always),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "ListInstanceProfilesForRole",
        &[
            ("InstanceProfiles", List),
            ("InstanceProfiles[].InstanceProfileName", Always),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "GetInstanceProfile",
        &[
            (
                "InstanceProfile.InstanceProfileName",
                Repeats("InstanceProfileName"),
            ),
            ("InstanceProfile.Arn", Always),
            ("InstanceProfile.Roles", List),
            ("InstanceProfile.Roles[].RoleName", Always),
            (
                "InstanceProfile.Tags",
                MayBeAbsent(
                    "the profile has none; ListInstanceProfileTags decides where something depends on it",
                ),
            ),
            ("InstanceProfile.Tags[].Key", Always),
            ("InstanceProfile.Tags[].Value", Text),
        ],
    ),
    query(
        "ListInstanceProfileTags",
        &[
            ("Tags", List),
            ("Tags[].Key", Always),
            ("Tags[].Value", Text),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "ListRoles",
        &[
            ("Roles", List),
            ("Roles[].RoleName", Always),
            ("Roles[].Path", Always),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "ListInstanceProfiles",
        &[
            ("InstanceProfiles", List),
            ("InstanceProfiles[].InstanceProfileName", Always),
            ("InstanceProfiles[].Path", Always),
            ("IsTruncated", Truncated),
        ],
    ),
    query(
        "GetPolicy",
        &[
            ("Policy.Arn", Repeats("PolicyArn")),
            ("Policy.DefaultVersionId", Always),
        ],
    ),
    query(
        "GetPolicyVersion",
        &[
            ("PolicyVersion.VersionId", Repeats("VersionId")),
            ("PolicyVersion.Document", Always),
        ],
    ),
    query("GetCallerIdentity", &[("Account", Always), ("Arn", Always)]),
    query(
        "CreateRole",
        &[
            ("Role.RoleName", Repeats("RoleName")),
            ("Role.RoleId", Always),
            ("Role.Arn", Always),
        ],
    ),
    query(
        "CreateInstanceProfile",
        &[
            (
                "InstanceProfile.InstanceProfileName",
                Repeats("InstanceProfileName"),
            ),
            ("InstanceProfile.Arn", Always),
        ],
    ),
    query("UpdateRole", &[]),
    query("UpdateAssumeRolePolicy", &[]),
    query("PutRolePermissionsBoundary", &[]),
    query("TagRole", &[]),
    query("UntagRole", &[]),
    query("PutRolePolicy", &[]),
    query("DeleteRolePolicy", &[]),
    query("AttachRolePolicy", &[]),
    query("DetachRolePolicy", &[]),
    query("DeleteRole", &[]),
    query("TagInstanceProfile", &[]),
    query("UntagInstanceProfile", &[]),
    query("AddRoleToInstanceProfile", &[]),
    query("RemoveRoleFromInstanceProfile", &[]),
    query("DeleteInstanceProfile", &[]),
];
