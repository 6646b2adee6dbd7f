//! Allows that would apply except for one thing, the first thing to check when access is denied.

use super::principal::{Alike, Names};
use super::request::ContextValue;
use super::statement::{Effect, Parts, Question, Rule};
use super::ternary::Ternary;
use super::verdict::{ButFor, NearMiss};

/// Maximum number of near misses in a result: more are of no help.
const MOST: usize = 8;

/// Returns the statements that nearly allow the request.
pub(super) fn near_misses<'a>(
    rules: impl Iterator<Item = Rule<'a>>,
    question: &Question,
) -> Vec<NearMiss> {
    let near = rules.filter_map(|rule| {
        let but_for = but_for(&rule, question)?;
        Some(NearMiss {
            policy: rule.policy.to_owned(),
            statement: rule.label,
            but_for,
        })
    });
    near.take(MOST).collect()
}

/// Returns the one obstacle to a statement; `None` unless there is exactly one.
fn but_for(rule: &Rule, question: &Question) -> Option<ButFor> {
    if rule.has_effect(Effect::Allow) != Ternary::Yes {
        return None;
    }
    let Parts {
        shape,
        action,
        resource,
        names,
        clauses,
        condition_shape,
    } = rule.parts(Effect::Allow, question);
    if shape != Ternary::Yes || condition_shape != Ternary::Yes || action.is_no() {
        return None;
    }
    let failed: Vec<_> = clauses
        .iter()
        .filter(|clause| clause.holds.is_no())
        .collect();
    match (names.any().is_no(), resource.is_no(), failed.as_slice()) {
        (true, false, []) => named_instead(names),
        (false, true, []) => Some(ButFor::Resource {
            wanted: rule.resources(),
        }),
        (false, false, [clause]) => Some(ButFor::Condition {
            operator: clause.operator.to_owned(),
            key: clause.key.to_owned(),
            wanted: clause.wanted.clone(),
            actual: match question.facts.get(clause.key) {
                ContextValue::Values(values) => Some(values.clone()),
                ContextValue::Absent | ContextValue::Unknown => None,
            },
        }),
        _ => None,
    }
}

fn named_instead(names: Names) -> Option<ButFor> {
    names.alike.into_iter().next().map(|alike| match alike {
        Alike::Stale(unique_id) => ButFor::Stale { unique_id },
        Alike::OtherPath(named) => ButFor::OtherPath { named },
    })
}
