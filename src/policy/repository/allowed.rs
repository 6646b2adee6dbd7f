//! The access that statements allow, by action and single caller.

use super::contribution::Contribution;
use crate::policy::document::Statement;
use crate::policy::principals::{PrincipalSet, like};
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
            let same = joined
                .iter_mut()
                .find(|known| known.actions == actions && known.callers.can_join(&callers));
            match same {
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

    /// Turns this access into the contributions of which it consists.
    pub fn into_parts(self) -> Vec<Contribution> {
        self.0
    }
}

/// Returns whether one of the actions is this one or a pattern that matches it, ignoring case.
fn allows(actions: &BTreeSet<String>, asked: &str) -> bool {
    actions.contains(asked) || actions.iter().any(|pattern| is_allowed_by(pattern, asked))
}

fn is_allowed_by(pattern: &str, asked: &str) -> bool {
    pattern.eq_ignore_ascii_case(asked)
        || (pattern.contains('*')
            && like(&pattern.to_ascii_lowercase(), &asked.to_ascii_lowercase()))
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
