//! The rule that every write of a repository policy must pass. No write removes an action from a
//! principal if the document just read allows it and a grant asks for it, unless AWS refuses that
//! principal.
//!
//! Only [`checked`] creates a [`Checked`], and only a `Checked` is written. It does not matter here
//! how a document was created: it is compared with the document that was read and with the
//! contributions of the grants.

use super::allowed::Allowed;
use super::contribution::{Contribution, GrantContribution, MAX_CHARACTERS, statement};
use super::current::beyond;
use super::held::{Held, HeldPart};
use super::scope::{asked, names};
use crate::policy::document::Document;
use crate::policy::installation::Installation;
use crate::policy::principals::PrincipalSet;
use std::collections::BTreeSet;

/// A document that may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(Option<Document>);

impl Checked {
    /// Returns the document; `None` means that the policy is to be deleted.
    pub fn document(&self) -> Option<&Document> {
        self.0.as_ref()
    }
}

/// The principals that may lose access through a write.
#[derive(Clone, Copy, Debug)]
pub struct Losing<'a> {
    /// The principals that AWS refuses.
    pub refused: &'a BTreeSet<String>,
    /// Principals that are temporarily left out because a revocation cannot be written otherwise.
    /// They may lose access only in a write that completes that revocation.
    pub set_aside: &'a BTreeSet<String>,
}

/// The reason why a document must not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The write would remove access that grants ask for.
    #[error("it would take away access that grants ask for: {}", .0.join("; "))]
    TakesAway(Vec<String>),
    /// The document is longer than AWS allows, and longer than the current one.
    #[error("it would have {0} characters, and ECR takes 10,240")]
    TooLong(usize),
}

/// Checks that a write removes no access that a grant asks for. `current` is the document just
/// read, `next` the document to write (`None`: nothing is left), and `grants` are all grants on the
/// repository.
///
/// # Errors
/// When the write would remove such access, or the document is too long.
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
        // Access that only a wider statement allowed, which is being removed, needs a place of its
        // own. All such access of a grant must fit together, and there may be no room for it.
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

/// Returns whether the document also has room for all of this.
fn fits(document: Option<&Document>, more: Vec<Contribution>, installation: &Installation) -> bool {
    let with = |Contribution { actions, callers }: &Contribution| {
        statement(actions, callers, installation)
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

/// Lists the access that our statements in a document allow and no grant asks for, for people: it
/// is to be revoked. The grants must come from [`asked`].
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
