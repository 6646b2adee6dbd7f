//! The part of the contributions that goes into the next document. Nearly always that is all of
//! them; it is less only after AWS refused the full document.

use super::allowed::Allowed;
use super::contribution::{Contribution, GrantContribution};
use super::current::carry;
use super::held::{Held, HeldPart};
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;
use crate::policy::principals::PrincipalSet;
use std::collections::BTreeSet;

/// Limits on the next document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Principals that the document must not name, whichever grant asks for them.
    pub without: BTreeSet<String>,
    /// Principals that may get more access than the document just read gives them.
    pub growth: Growth,
    /// Unique IDs that are removed from foreign statements.
    pub without_ids: BTreeSet<String>,
}

/// Principals that may get more access than they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// Every principal that a grant asks for.
    #[default]
    All,
    /// Only these principals.
    Only(BTreeSet<String>),
}

/// Returns the grants with their contributions, including those of `if_there` that the document
/// already contains.
pub fn asked<Id: Clone>(
    current: Option<&Document>,
    grants: &[GrantContribution<Id>],
    installation: &Installation,
) -> Vec<GrantContribution<Id>> {
    let ours: Vec<&Statement> = current
        .into_iter()
        .flat_map(|document| document.ours(installation))
        .collect();
    let mut asking = grants.to_vec();
    for grant in &mut asking {
        let there = std::mem::take(&mut grant.if_there)
            .into_iter()
            .filter(|asked| carry(&ours, asked, installation));
        grant.contributions.extend(there);
    }
    asking
}

/// Returns the grants with the part of their contributions that the scope admits.
pub fn limited<Id: Clone>(
    grants: &[GrantContribution<Id>],
    scope: &Scope,
    held: &Held,
) -> Vec<GrantContribution<Id>> {
    if scope.without.is_empty() && scope.growth == Growth::All {
        return grants.to_vec();
    }
    grants
        .iter()
        .map(|grant| limited_grant(grant, scope, held))
        .collect()
}

fn limited_grant<Id: Clone>(
    grant: &GrantContribution<Id>,
    scope: &Scope,
    held: &Held,
) -> GrantContribution<Id> {
    let mut limited = grant.clone();
    limited.contributions = grant
        .contributions
        .iter()
        .flat_map(|asked| limited_contribution(asked, scope, held))
        .collect();
    if scope.growth != Growth::All {
        limited.replaces.clear();
    }
    limited
}

fn limited_contribution(asked: &Contribution, scope: &Scope, held: &Held) -> Vec<Contribution> {
    let singles = asked
        .each()
        .into_iter()
        .filter(|one| !names(&one.callers, &scope.without));
    let (growing, others): (Vec<_>, Vec<_>) = singles.partition(|one| match &scope.growth {
        Growth::All => true,
        Growth::Only(who) => names(&one.callers, who),
    });
    let HeldPart {
        in_place,
        elsewhere,
        grows: _,
    } = held.part(Allowed::of(others).parts());
    let grown = Allowed::of(growing).into_parts();
    Allowed::of(grown.into_iter().chain(in_place).chain(elsewhere)).into_parts()
}

/// Returns whether one of the callers' principals is in `principals`.
pub fn names(callers: &PrincipalSet, principals: &BTreeSet<String>) -> bool {
    callers
        .principals()
        .iter()
        .any(|principal| principals.contains(principal))
}
