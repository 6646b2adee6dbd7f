//! The access that statements allow, by action and single caller.

use super::carried::carried;
use super::document::{Document, Statement};
use super::installation::Installation;
use super::principals::PrincipalSet;
use super::repository::Contribution;
use serde_json::Value;
use std::collections::BTreeSet;

/// The access that a set of statements, or of contributions, allows.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Contribution>);

impl Allowed {
    /// Collects the access that these statements allow. Statements of another form than ours are
    /// left out, because their effect is not certain.
    pub fn by<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        Self::of(statements.into_iter().filter_map(allowed_by))
    }

    /// Collects the access that these contributions allow. Contributions with the same actions are
    /// joined if the joined callers include no others.
    pub fn of(contributions: impl IntoIterator<Item = Contribution>) -> Self {
        let mut joined: Vec<Contribution> = Vec::new();
        for Contribution { actions, callers } in contributions {
            let same = |known: &&mut Contribution| {
                known.actions == actions && known.callers.can_join(&callers)
            };
            match joined.iter_mut().find(same) {
                Some(known) => known.callers.join(&callers),
                None => joined.push(Contribution { actions, callers }),
            }
        }
        Self(joined)
    }

    /// Returns the actions of `asked` that are allowed to this single caller, also by a pattern.
    pub fn actions(&self, asked: &BTreeSet<String>, one: &PrincipalSet) -> BTreeSet<String> {
        let mut left: BTreeSet<&String> = asked.iter().collect();
        for Contribution { actions, callers } in &self.0 {
            if left.iter().any(|action| allows(actions, action)) && callers.comprise(one) {
                left.retain(|action| !allows(actions, action));
            }
        }
        asked
            .iter()
            .filter(|action| !left.contains(action))
            .cloned()
            .collect()
    }

    /// Returns the single callers that are allowed some action and that `asked` comprises.
    pub fn narrower(&self, asked: &PrincipalSet) -> impl Iterator<Item = PrincipalSet> {
        let singles = self
            .0
            .iter()
            .flat_map(|Contribution { callers, .. }| callers.each());
        singles.filter(|one| asked.comprise(one))
    }

    /// Returns whether everything in the contribution is allowed.
    pub fn all_of(&self, asked: &Contribution) -> bool {
        asked
            .callers
            .each()
            .iter()
            .all(|one| self.actions(&asked.actions, one).len() == asked.actions.len())
    }

    /// Returns the contributions of which this access consists.
    pub fn parts(&self) -> &[Contribution] {
        &self.0
    }
}

/// Returns whether one of the actions is this one or a pattern that matches it, ignoring case.
fn allows(actions: &BTreeSet<String>, asked: &str) -> bool {
    let like = |pattern: &String| {
        pattern.eq_ignore_ascii_case(asked)
            || (pattern.contains('*')
                && super::principals::like(
                    &pattern.to_ascii_lowercase(),
                    &asked.to_ascii_lowercase(),
                ))
    };
    actions.contains(asked) || actions.iter().any(like)
}

/// Returns the access that a statement allows, if it is an `Allow` of our form.
pub fn allowed_by(statement: &Statement) -> Option<Contribution> {
    let known = ["Sid", "Effect", "Principal", "Action", "Condition"];
    let Statement(keys) = statement;
    let is_known = keys.keys().all(|key| known.contains(&key.as_str()));
    if !is_known || keys.get("Effect").and_then(Value::as_str) != Some("Allow") {
        return None;
    }
    let actions = match keys.get("Action")? {
        Value::String(action) => [action.clone()].into(),
        list => list
            .as_array()?
            .iter()
            .map(|action| action.as_str().map(String::from))
            .collect::<Option<_>>()?,
    };
    Some(Contribution {
        actions,
        callers: PrincipalSet::of(statement)?,
    })
}

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
        let ours = document
            .statements
            .iter()
            .filter(|statement| installation.owns(statement));
        Self {
            allowed: Allowed::by(ours),
            as_packed: carried(document, installation),
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
