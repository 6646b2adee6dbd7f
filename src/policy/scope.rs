//! Which part of what the grants ask for goes into the document that is written next. Nearly always
//! it is all of it; only where AWS refuses the whole is it less.

use super::document::{Document, Statement};
use super::held::{Allowed, Held, HeldPart};
use super::installation::Installation;
use super::pack::carry;
use super::principals::PrincipalSet;
use super::repository::{Contribution, GrantContribution};
use std::collections::BTreeSet;

/// What is to be in the next document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Principals that are not to be named, whoever asks for them.
    pub without: BTreeSet<String>,
    /// Who may get more than the document read gives them.
    pub growth: Growth,
    /// Unique IDs that are taken out of other people's statements.
    pub without_ids: BTreeSet<String>,
}

/// Who may get more than they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// Everyone who asks for it.
    #[default]
    All,
    /// These principals.
    Only(BTreeSet<String>),
}

/// The grants with what they ask for, and what besides stays because the document carries it.
pub fn asked<Id: Clone>(
    current: Option<&Document>,
    grants: &[GrantContribution<Id>],
    installation: &Installation,
) -> Vec<GrantContribution<Id>> {
    let ours: Vec<&Statement> = current
        .iter()
        .flat_map(|document| &document.statements)
        .filter(|s| installation.owns(s))
        .collect();
    let mut grants = grants.to_vec();
    for grant in &mut grants {
        let there = std::mem::take(&mut grant.if_there)
            .into_iter()
            .filter(|asked| carry(&ours, asked, installation));
        grant.contributions.extend(there);
    }
    grants
}

/// The grants with what of theirs the scope lets in.
pub fn limited<Id: Clone>(
    grants: &[GrantContribution<Id>],
    scope: &Scope,
    held: &Held,
) -> Vec<GrantContribution<Id>> {
    if scope.without.is_empty() && scope.growth == Growth::All {
        return grants.to_vec();
    }
    let part = |Contribution { actions, callers }: &Contribution| {
        let singles = callers
            .each()
            .into_iter()
            .filter(|one| !names(one, &scope.without));
        let (growing, others): (Vec<_>, Vec<_>) = singles.partition(|one| match &scope.growth {
            Growth::All => true,
            Growth::Only(who) => names(one, who),
        });
        let asked = |singles: Vec<PrincipalSet>| {
            let of = |callers| Contribution {
                actions: actions.clone(),
                callers,
            };
            Allowed::of(singles.into_iter().map(of)).parts().to_vec()
        };
        let HeldPart {
            in_place,
            elsewhere,
            grows: _,
        } = held.part(&asked(others));
        Allowed::of(asked(growing).into_iter().chain(in_place).chain(elsewhere))
            .parts()
            .to_vec()
    };
    let limited = |grant: &GrantContribution<Id>| {
        let replaces = if scope.growth == Growth::All {
            grant.replaces.clone()
        } else {
            BTreeSet::new()
        };
        GrantContribution {
            contributions: grant.contributions.iter().flat_map(part).collect(),
            replaces,
            ..grant.clone()
        }
    };
    grants.iter().map(limited).collect()
}

/// Whether a principal of these callers is one of those.
pub fn names(callers: &PrincipalSet, principals: &BTreeSet<String>) -> bool {
    callers
        .principals()
        .iter()
        .any(|principal| principals.contains(principal))
}
