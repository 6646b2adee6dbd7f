//! What an account contains, as plain data. Values are replaced whole, never changed in place.

use super::documents::Policy;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Tags in the order of their keys.
pub type Tags = BTreeMap<String, String>;

/// A role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// The name, in the case in which it was given.
    pub name: String,
    /// The path, with slashes at both ends.
    pub path: String,
    /// The ARN.
    pub arn: String,
    /// The unique ID, which a role of the same name made later does not have.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// The description; `None` if it never had one.
    pub description: Option<String>,
    /// How long a session may last.
    pub max_session_seconds: i64,
    /// The ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// The trust policy.
    pub trust: Policy,
    /// The inline policies by name.
    pub inline: BTreeMap<String, Policy>,
    /// The ARNs of the attached managed policies.
    pub attached: BTreeSet<String>,
    /// The tags. Keys are unique without regard to case.
    pub tags: Tags,
}

/// A user. Users are only principals here: they call nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The ARN.
    pub arn: String,
    /// The unique ID.
    pub id: String,
}

/// An instance profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProfile {
    /// The name.
    pub name: String,
    /// The path, with slashes at both ends.
    pub path: String,
    /// The ARN.
    pub arn: String,
    /// The unique ID.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// The name of its role, if it has one.
    pub role: Option<String>,
    /// The tags.
    pub tags: Tags,
}

/// A managed policy.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedPolicy {
    /// The name.
    pub name: String,
    /// The path, with slashes at both ends.
    pub path: String,
    /// The ARN.
    pub arn: String,
    /// The unique ID.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// When its versions changed.
    pub updated: Timestamp,
    /// The description.
    pub description: String,
    /// The versions by number.
    pub versions: BTreeMap<u32, PolicyVersion>,
    /// The number of the version that counts.
    pub default: u32,
    /// The number of the next version.
    pub next: u32,
    /// The tags.
    pub tags: Tags,
}

/// A version of a managed policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyVersion {
    /// The document.
    pub document: Policy,
    /// When it was created.
    pub created: Timestamp,
}

/// A repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// The name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The tags.
    pub tags: Tags,
    /// The repository policy, if there is one.
    pub policy: Option<Policy>,
}

/// A session of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The access key's ID.
    pub access_key: String,
    /// The access key's secret.
    pub secret: String,
    /// The session token.
    pub token: String,
    /// The role's account.
    pub account: String,
    /// The role's name.
    pub role: String,
    /// The role's unique ID.
    pub role_id: String,
    /// The session's name.
    pub name: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The session tags.
    pub tags: Tags,
    /// The lower-case keys of the tags that go along with a role that the session assumes.
    pub transitive: BTreeSet<String>,
}

/// The quotas of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Roles.
    pub roles: usize,
    /// Instance profiles.
    pub instance_profiles: usize,
    /// Managed policies of a role.
    pub policies_per_role: usize,
    /// Customer-managed policies.
    pub policies: usize,
    /// Characters of a trust policy.
    pub trust_characters: usize,
    /// Characters of all inline policies of a role together, without white space.
    pub inline_characters: usize,
    /// Characters of a managed policy, without white space.
    pub managed_characters: usize,
    /// Tags of a resource.
    pub tags: usize,
    /// Repositories in a region.
    pub repositories: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            roles: 1000,
            instance_profiles: 1000,
            policies_per_role: 10,
            policies: 1500,
            trust_characters: 2048,
            inline_characters: 10_240,
            managed_characters: 6144,
            tags: 50,
            repositories: 100_000,
        }
    }
}

/// The kind of policy that denies an action, for the text of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No identity-based policy allows it.
    NotAllowed,
    /// An identity-based policy denies it.
    ByIdentityPolicy,
    /// The permissions boundary does not allow it.
    NotAllowedByBoundary,
    /// A service control policy denies it.
    ByServiceControlPolicy,
}

impl Denied {
    /// Returns the end of AWS's text about a denied action.
    pub(super) fn reason(self, action: &str) -> String {
        match self {
            Self::NotAllowed => {
                format!("because no identity-based policy allows the {action} action")
            }
            Self::ByIdentityPolicy => "with an explicit deny in an identity-based policy".into(),
            Self::NotAllowedByBoundary => {
                format!("because no permissions boundary allows the {action} action")
            }
            Self::ByServiceControlPolicy => {
                "with an explicit deny in a service control policy".into()
            }
        }
    }
}

/// What applies to a whole account.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AccountSettings {
    /// Whether the account is closed: nobody gets a session in it, and no policy may name it.
    pub closed: bool,
    /// The regions with opt-in that it has enabled.
    pub opted_in: BTreeSet<String>,
    /// The actions that its identities are denied, such as `iam:CreateRole`, `ecr:*` or `*`.
    pub denied: Vec<(String, Denied)>,
    /// Its place in an organization: `o-…/r-…/ou-…/`.
    pub organization: Option<String>,
    /// The quotas.
    pub quotas: Quotas,
}

impl AccountSettings {
    /// Returns why an action is denied; `None` if it is not.
    pub fn denial(&self, action: &str) -> Option<Denied> {
        let matches = |pattern: &str| {
            pattern == "*"
                || pattern.eq_ignore_ascii_case(action)
                || pattern.strip_suffix('*').is_some_and(|start| {
                    action
                        .get(..start.len())
                        .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
                })
        };
        self.denied
            .iter()
            .find(|(pattern, _)| matches(pattern))
            .map(|(_, denied)| *denied)
    }
}
