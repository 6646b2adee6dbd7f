//! What one account's admin adds by hand, before it is printed.

use crate::grant::{AccountId, GrantName, RepositoryPattern};
use crate::policy::{Document, Installation, Statement};
use std::collections::{BTreeMap, BTreeSet};

/// Replaces the operator's installation ID where nothing that is printed depends on it.
const NEUTRAL: &str = "000000000000";

/// Everything that one account's admin adds.
#[derive(Default)]
pub struct Handoff {
    /// The account; `None` if it is any account of an organization.
    pub account: Option<AccountId>,
    /// What each part is for, and what to consider. Without control characters.
    pub notes: Vec<String>,
    /// Roles, by their names.
    pub roles: BTreeMap<String, HandoffRole>,
    /// Permissions, each of one grant.
    pub permissions: Vec<Permissions>,
    /// Statements for repository policies.
    pub repositories: Vec<Repositories>,
}

/// A role as the operator would create it, without its tags.
#[derive(PartialEq)]
pub struct HandoffRole {
    pub path: String,
    pub description: String,
    pub trust: Document,
    /// The instance profile that contains the role.
    pub profile: Option<String>,
    /// In seconds.
    pub longest_session: Option<i32>,
    pub boundary: Option<String>,
    /// ARNs of managed policies.
    pub attached: BTreeSet<String>,
    /// Whether the role exists already, and is changed to this state.
    pub exists: bool,
}

/// A policy for roles.
pub struct Permissions {
    pub grant: GrantName,
    /// The policy's name, valid for inline and for managed policies.
    pub name: String,
    pub document: Document,
    /// The roles that are known by name.
    pub roles: BTreeSet<String>,
    /// The other identities that need the policy, in words. For these it is a managed policy that
    /// the admin attaches.
    pub others: Option<String>,
}

/// One grant's statements for the policies of repositories in one region.
pub struct Repositories {
    pub grant: GrantName,
    pub region: String,
    pub patterns: BTreeSet<RepositoryPattern>,
    pub statements: Vec<Statement>,
}

impl Handoff {
    /// Names the account whose admin gets the handoff.
    pub fn recipient(&self) -> String {
        self.account.as_ref().map_or_else(
            || "an account of the organization".into(),
            |id| format!("account {id}"),
        )
    }

    /// Returns the notes as comments of a script, one line each.
    pub fn comments(&self) -> impl Iterator<Item = String> {
        self.notes.iter().map(|note| format!("# - {note}"))
    }

    /// Returns true if a role of this name is part of the handoff.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }
}

impl Repositories {
    /// Returns the names and prefixes as texts.
    pub fn patterns(&self) -> Vec<String> {
        self.patterns.iter().map(ToString::to_string).collect()
    }
}

/// Returns a name that is unique among all grants, of letters, digits, `-` and `.`.
pub fn unique(grant: &GrantName, longest: usize) -> String {
    grant.in_aws(&neutral(), longest)
}

/// Returns an installation that no operator has.
pub fn neutral() -> Installation {
    Installation::of_cluster(NEUTRAL)
}
