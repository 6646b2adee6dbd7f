//! The part of the contributions that a document already grants.

use super::allowed::Allowed;
use super::contribution::Contribution;
use super::current::own_contributions;
use crate::policy::document::Document;
use crate::policy::installation::Installation;
use crate::policy::principals::PrincipalSet;
use std::collections::BTreeSet;

/// The access that our statements in a document allow.
#[derive(Clone, Debug, Default)]
pub struct Held {
    allowed: Allowed,
    /// The part of it that is in statements as we wrote them.
    as_packed: Vec<Contribution>,
}

/// The part of a contribution that a document already grants.
#[derive(Clone, Debug, Default)]
pub struct HeldPart {
    /// Access in the statement into which it would be packed: keeping it needs no additional room.
    pub in_place: Vec<Contribution>,
    /// Access through another statement: keeping it may need more room.
    pub elsewhere: Vec<Contribution>,
    /// Whether something is missing.
    pub grows: bool,
}

impl Held {
    /// Returns the access that our statements in this document allow; none if there is no document.
    pub fn of(document: Option<&Document>, installation: &Installation) -> Self {
        let Some(document) = document else {
            return Self::default();
        };
        Self {
            allowed: Allowed::by(document.ours(installation)),
            as_packed: own_contributions(document, installation),
        }
    }

    /// Returns all access that our statements allow.
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Returns the part of these contributions that our statements already grant. It contains the
    /// callers that are asked for, and callers that one of those comprises, such as a role of an
    /// account. Two patterns that merely overlap count as different, because their intersection
    /// cannot be written as a pattern.
    pub fn part(&self, asked: &[Contribution]) -> HeldPart {
        let mut part = HeldPart::default();
        for Contribution { actions, callers } in asked {
            let singles = callers.each();
            let mut is_whole = true;
            for one in &singles {
                let had = self.allowed.actions(actions, one);
                is_whole &= had.len() == actions.len();
                self.keep(&mut part, had, one);
            }
            if !is_whole {
                part.grows = true;
                for one in self
                    .allowed
                    .narrower(callers)
                    .filter(|one| !singles.contains(one))
                {
                    self.keep(&mut part, self.allowed.actions(actions, &one), &one);
                }
            }
        }
        part
    }

    fn keep(&self, part: &mut HeldPart, actions: BTreeSet<String>, one: &PrincipalSet) {
        if !actions.is_empty() {
            let in_place = self
                .as_packed
                .iter()
                .any(|held| held.actions == actions && held.callers.has(one));
            let kept = Contribution {
                actions,
                callers: one.clone(),
            };
            if in_place {
                part.in_place.push(kept)
            } else {
                part.elsewhere.push(kept)
            }
        }
    }
}
