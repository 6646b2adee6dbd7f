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
    #[error("it would remove access that grants ask for: {}", .0.join("; "))]
    TakesAway(Vec<String>),
    /// The document is longer than AWS allows, and longer than the current one.
    #[error("it would have {0} characters, and ECR's limit is 10,240")]
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
    let asking = asked(current, grants, installation);
    let write = Write {
        next: next.as_ref(),
        before: allowed(current),
        after: allowed(next.as_ref()),
        held: Held::of(current, installation),
        losing,
        revokes: !losing.set_aside.is_empty()
            && !unasked(current, &asking, installation).is_empty()
            && unasked(next.as_ref(), &asking, installation).is_empty(),
        installation,
    };
    let mut taken: Vec<String> = asking
        .iter()
        .flat_map(|grant| write.takes_from(&grant.contributions))
        .collect();
    taken.sort();
    taken.dedup();
    if taken.is_empty() {
        Ok(Checked(next))
    } else {
        Err(Violation::TakesAway(taken))
    }
}

/// A write that is checked: the document read, the document to write, and what both allow.
struct Write<'a> {
    next: Option<&'a Document>,
    before: Allowed,
    after: Allowed,
    held: Held,
    losing: Losing<'a>,
    /// Whether the write completes a revocation that needs principals to be left out.
    revokes: bool,
    installation: &'a Installation,
}

impl Write<'_> {
    /// Lists the access that a grant asks for and that the write would remove, for people.
    fn takes_from(&self, contributions: &[Contribution]) -> Vec<String> {
        let mut taken = Vec::new();
        // Access that only a wider statement allowed, which is being removed, needs a place of its
        // own. All such access of a grant must fit together, and there may be no room for it.
        let mut lost: Vec<(String, Vec<Contribution>)> = Vec::new();
        for Contribution { actions, callers } in contributions {
            let singles = callers
                .each()
                .into_iter()
                .chain(self.before.narrower(callers));
            for one in singles.filter(|one| !self.may_lose(one)) {
                let had = self.before.actions(actions, &one);
                let has = self.after.actions(&had, &one);
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
                } = self.held.part(std::slice::from_ref(&kept));
                if !in_place.is_empty() {
                    taken.push(words);
                } else if elsewhere.is_empty() {
                    lost.push((words, vec![kept]));
                } else {
                    lost.push((words, elsewhere));
                }
            }
        }
        let parts: Vec<Contribution> = lost.iter().flat_map(|(_, parts)| parts.clone()).collect();
        if self.has_room_for(parts) {
            taken.extend(lost.into_iter().map(|(words, _)| words));
        }
        taken
    }

    /// Returns whether this caller may lose access through the write.
    fn may_lose(&self, one: &PrincipalSet) -> bool {
        names(one, self.losing.refused) || (self.revokes && names(one, self.losing.set_aside))
    }

    /// Returns whether the document to write also has room for all of this.
    fn has_room_for(&self, more: Vec<Contribution>) -> bool {
        let document = self.next.cloned().unwrap_or_else(|| Document::of([]));
        let statements = Allowed::of(more)
            .into_parts()
            .into_iter()
            .map(|part| statement(&part.actions, &part.callers, self.installation));
        document.with(statements).characters() <= MAX_CHARACTERS
    }
}

fn allowed(document: Option<&Document>) -> Allowed {
    Allowed::by(
        document
            .into_iter()
            .flat_map(|document| &document.statements),
    )
}

fn words(one: &PrincipalSet) -> String {
    let texts: Vec<&str> = one
        .principals()
        .iter()
        .chain(one.condition_values())
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
    let Some(document) = document else {
        return Vec::new();
    };
    let asked = grants.iter().flat_map(|grant| &grant.contributions);
    beyond(document, asked, installation)
}
