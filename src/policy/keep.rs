//! The rule that every write of a repository's policy passes: no write takes away an action for a
//! principal that the document just read allows and that a grant asks for, unless AWS refuses that
//! principal.
//!
//! [`checked`] is the only way to a [`Checked`], and only a `Checked` is written. How a document
//! came about does not matter here: it is compared with what was read and with what the grants ask
//! for.

use super::carried::beyond;
use super::document::Document;
use super::held::{Allowed, Held, HeldPart};
use super::installation::Installation;
use super::principals::PrincipalSet;
use super::repository::{Contribution, GrantContribution, MAX_CHARACTERS};
use super::scope::{asked, names};
use std::collections::BTreeSet;

/// A document that may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(Option<Document>);

impl Checked {
    /// The document; `None`: the policy is to be deleted.
    pub fn document(&self) -> Option<&Document> {
        self.0.as_ref()
    }
}

/// Who may lose access by a write.
#[derive(Clone, Copy, Debug)]
pub struct Losing<'a> {
    /// The principals that AWS refuses.
    pub refused: &'a BTreeSet<String>,
    /// Principals that are left out for the moment, because a revocation cannot be written
    /// otherwise. This counts only for a write which carries out that revocation.
    pub set_aside: &'a BTreeSet<String>,
}

/// Why a document may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It would take away what grants ask for.
    #[error("it would take away access that grants ask for: {}", .0.join("; "))]
    TakesAway(Vec<String>),
    /// It is longer than AWS allows, and longer than what is there.
    #[error("it would have {0} characters, and ECR takes 10,240")]
    TooLong(usize),
}

/// Lets a document pass that takes nothing from a grant. `current` is what was just read, `next`
/// what is to be written (`None`: nothing is left), `grants` all that are on the repository.
///
/// # Errors
/// When the write would take away access, or the document is too long.
pub fn checked<Id: Clone>(
    current: Option<&Document>,
    next: Option<Document>,
    grants: &[GrantContribution<Id>],
    losing: Losing<'_>,
    installation: &Installation,
) -> Result<Checked, Violation> {
    let characters = next.as_ref().map_or(0, Document::characters);
    if characters > MAX_CHARACTERS && characters > current.map_or(0, Document::characters) {
        return Err(Violation::TooLong(characters));
    }
    let (before, after) = (allowed(current), allowed(next.as_ref()));
    let grants = asked(current, grants, installation);
    let held = Held::of(current, installation);
    let revokes = !losing.set_aside.is_empty()
        && !unasked(current, &grants, installation).is_empty()
        && unasked(next.as_ref(), &grants, installation).is_empty();
    let is_free = |one: &PrincipalSet| {
        names(one, losing.refused) || (revokes && names(one, losing.set_aside))
    };
    let mut taken = Vec::new();
    for grant in &grants {
        // What was allowed only by a wider statement, which is to go, needs a place of its own, all
        // of a grant's together; there may be none.
        let mut lost = Vec::new();
        for Contribution { actions, callers } in &grant.contributions {
            let singles = callers.each().into_iter().chain(before.narrower(callers));
            for one in singles.filter(|one| !is_free(one)) {
                let had = before.actions(actions, &one);
                let has = after.actions(&had, &one);
                if has.len() == had.len() {
                    continue;
                }
                let gone: Vec<&str> = had.difference(&has).map(String::as_str).collect();
                let words = format!("{} for {}", gone.join(", "), words(&one));
                let kept = Contribution {
                    actions: had.clone(),
                    callers: one,
                };
                let HeldPart {
                    in_place,
                    elsewhere,
                    grows: _,
                } = held.part(std::slice::from_ref(&kept));
                match (in_place.is_empty(), elsewhere.is_empty()) {
                    (false, _) => taken.push(words),
                    (true, false) => lost.push((words, elsewhere)),
                    (true, true) => lost.push((words, vec![kept])),
                }
            }
        }
        let parts: Vec<Contribution> = lost.iter().flat_map(|(_, parts)| parts.clone()).collect();
        if fits(next.as_ref(), parts, installation) {
            taken.extend(lost.into_iter().map(|(words, _)| words));
        }
    }
    taken.sort();
    taken.dedup();
    if taken.is_empty() {
        Ok(Checked(next))
    } else {
        Err(Violation::TakesAway(taken))
    }
}

fn allowed(document: Option<&Document>) -> Allowed {
    Allowed::by(
        document
            .into_iter()
            .flat_map(|document| &document.statements),
    )
}

/// Whether there is room for all of this as well.
fn fits(document: Option<&Document>, more: Vec<Contribution>, installation: &Installation) -> bool {
    let with = |Contribution { actions, callers }: &Contribution| {
        super::pack::packed(actions, callers, installation)
    };
    let document = document.cloned().unwrap_or_else(|| Document::of([]));
    document
        .with(Allowed::of(more).parts().iter().map(with))
        .characters()
        <= MAX_CHARACTERS
}

fn words(one: &PrincipalSet) -> String {
    let texts: Vec<&str> = one
        .principals()
        .iter()
        .chain(one.among())
        .map(String::as_str)
        .collect();
    texts.join(" as ")
}

/// What our statements in a document allow and no grant asks for, in words: it is to be revoked.
/// The grants are those that [`asked`] gives.
pub fn unasked<Id>(
    document: Option<&Document>,
    grants: &[GrantContribution<Id>],
    installation: &Installation,
) -> Vec<String> {
    let asked = || grants.iter().flat_map(|grant| &grant.contributions);
    document
        .into_iter()
        .flat_map(|document| beyond(document, asked(), installation))
        .collect()
}
