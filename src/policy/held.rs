//! What statements allow, one action and one caller at a time.

use super::carried::carried;
use super::document::{Document, Statement};
use super::installation::Installation;
use super::principals::PrincipalSet;
use super::repository::Contribution;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a set of statements, or of contributions, allows.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Contribution>);

impl Allowed {
    /// What these statements allow. A statement of another form than ours is left out: its effect
    /// is not certain.
    pub fn by<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        Self::of(statements.into_iter().filter_map(allowed_by))
    }

    /// What these contributions allow. Those with the same actions become one where joining their
    /// callers lets in nobody else.
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

    /// Which of the actions are allowed to this one caller. An action may be allowed by a pattern.
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

    /// The single callers to whom something is allowed, and who are comprised by these.
    pub fn narrower(&self, asked: &PrincipalSet) -> impl Iterator<Item = PrincipalSet> {
        let singles = self
            .0
            .iter()
            .flat_map(|Contribution { callers, .. }| callers.each());
        singles.filter(|one| asked.comprise(one))
    }

    /// Whether all of it is allowed.
    pub fn all_of(&self, asked: &Contribution) -> bool {
        asked
            .callers
            .each()
            .iter()
            .all(|one| self.actions(&asked.actions, one).len() == asked.actions.len())
    }

    /// The parts of which it consists.
    pub fn parts(&self) -> &[Contribution] {
        &self.0
    }
}

/// Whether one of the actions is this one, or a pattern for it. Case does not matter.
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

/// What one statement allows, if it is an `Allow` of our form.
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

/// What our statements in a document allow.
#[derive(Clone, Debug, Default)]
pub struct Held {
    allowed: Allowed,
    /// The part of it that is in statements as we wrote them.
    as_packed: Vec<Contribution>,
}

/// What of a contribution a document holds already.
#[derive(Clone, Debug, Default)]
pub struct HeldPart {
    /// In the statement in which it would be packed: keeping it takes no more room than it has.
    pub in_place: Vec<Contribution>,
    /// By another statement: keeping it may take more room.
    pub elsewhere: Vec<Contribution>,
    /// Whether something is missing.
    pub grows: bool,
}

impl Held {
    /// What our statements in this document allow; nothing where there is none.
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

    /// All that is held.
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// What is held of these contributions: the callers that are asked for, and those that are
    /// comprised by one that is asked for, such as a role of an account. (Two patterns that merely
    /// overlap count as different: their common part cannot be written as a pattern.)
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
