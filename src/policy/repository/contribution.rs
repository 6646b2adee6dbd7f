//! The access that grants ask for in a repository policy, and the statement that allows it. Plain
//! data that every other module of the repository policy uses.

use crate::policy::document::Statement;
use crate::policy::installation::Installation;
use crate::policy::principals::PrincipalSet;
use std::collections::BTreeSet;

/// Maximum length of a repository policy in ECR, in characters.
pub const MAX_CHARACTERS: usize = 10_240;

/// A contribution to a repository policy: these actions for these callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contribution {
    /// The actions allowed.
    pub actions: BTreeSet<String>,
    /// The callers that may use them.
    pub callers: PrincipalSet,
}

impl Contribution {
    /// Splits the contribution into one for each single caller.
    pub fn each(&self) -> Vec<Self> {
        let Self { actions, callers } = self;
        callers
            .each()
            .into_iter()
            .map(|callers| Self {
                actions: actions.clone(),
                callers,
            })
            .collect()
    }
}

/// The contributions of one grant to a repository policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantContribution<Id> {
    /// The grant.
    pub id: Id,
    /// Contributions that must all be in the policy, or none.
    pub contributions: Vec<Contribution>,
    /// Sids of foreign statements that are removed once ours allow as much.
    pub replaces: BTreeSet<String>,
    /// Seed for the Sids of the unowned statements that retain the access, if the grant is deleted
    /// and its access stays.
    pub stays_as: Option<String>,
    /// Further contributions that stay if our statements already contain them, but are not written
    /// otherwise: it is not known yet whether the grant may have them.
    pub if_there: Vec<Contribution>,
}

/// Returns our statement that allows these actions to these callers.
pub(super) fn statement(
    actions: &BTreeSet<String>,
    callers: &PrincipalSet,
    installation: &Installation,
) -> Statement {
    let names: Vec<&str> = actions.iter().map(String::as_str).collect();
    let group = format!("{} | {}", names.join(" "), callers.kind().shape());
    Statement::allow(names)
        .sid(installation.sid(&group))
        .to(callers)
}
