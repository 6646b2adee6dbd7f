//! Decides whether a statement's conditions hold. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-logic-multiple-context-keys-or-values.html>.

use super::operator::{Compares, ConditionValue, Operator, Set};
use super::request::{ContextValue, RequestContext};
use super::ternary::Ternary;
use serde_json::Value;

/// A single operator and key of a condition, and whether it holds.
#[derive(Clone, Debug)]
pub(super) struct Clause<'a> {
    pub(super) operator: &'a str,
    pub(super) key: &'a str,
    pub(super) wanted: Vec<String>,
    pub(super) holds: Ternary,
}

/// Returns every clause of a statement's `Condition`. All of them must hold.
///
/// # Errors
/// When the condition does not have the documented shape.
pub(super) fn clauses<'a>(
    condition: &'a Value,
    facts: &RequestContext,
    variables: bool,
) -> Result<Vec<Clause<'a>>, String> {
    const SHAPE: &str = "Condition is not of the documented shape";
    let mut clauses = Vec::new();
    for (operator, keys) in condition.as_object().ok_or(SHAPE)? {
        for (key, values) in keys.as_object().ok_or(SHAPE)? {
            let wanted = texts(values).ok_or(SHAPE)?;
            let holds =
                holds(operator, key, &wanted, facts, variables).unwrap_or_else(Ternary::unread);
            clauses.push(Clause {
                operator,
                key,
                wanted,
                holds,
            });
        }
    }
    Ok(clauses)
}

/// Returns a condition's values as strings, including booleans and numbers.
fn texts(values: &Value) -> Option<Vec<String>> {
    match values {
        Value::Array(values) => values.iter().map(text).collect(),
        one => text(one).map(|text| vec![text]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn holds(
    operator: &str,
    key: &str,
    wanted: &[String],
    facts: &RequestContext,
    variables: bool,
) -> Result<Ternary, String> {
    let Some(Operator {
        set,
        compares,
        negated,
        if_exists,
    }) = Operator::read(operator)
    else {
        return Err(format!("{operator:?} is not a known condition operator"));
    };
    let context = variables.then_some(facts);
    let expected: Vec<ConditionValue> = wanted
        .iter()
        .map(|text| ConditionValue::read(compares, text, context))
        .collect::<Result<_, _>>()?;
    let actual: Vec<&str> = match facts.get(key) {
        ContextValue::Unknown => return Ok(Ternary::hangs_on(key)),
        ContextValue::Values(values) => values.iter().map(String::as_str).collect(),
        ContextValue::Absent => Vec::new(),
    };
    if compares == Compares::Presence {
        return Ok(Ternary::of(expected.iter().any(|expected| {
            matches!(expected, ConditionValue::Presence(absent) if *absent == actual.is_empty())
        })));
    }
    if actual.is_empty() && if_exists {
        return Ok(Ternary::Yes);
    }
    let fits: Vec<Ternary> = actual
        .iter()
        .map(|actual| fits_any(&expected, negated, actual))
        .collect();
    // For a set operator, a key that has only empty values counts as absent.
    let nothing = actual.iter().all(|value| value.is_empty());
    Ok(match set {
        Some(Set::AllValues) if nothing => Ternary::Yes,
        Some(Set::AnyValue) if nothing => Ternary::No,
        Some(Set::AllValues) => Ternary::all(fits),
        Some(Set::AnyValue) => Ternary::any(fits),
        None if actual.is_empty() => Ternary::of(negated),
        None => {
            let all = Ternary::all(fits.clone());
            if all != Ternary::any(fits) {
                return Err(format!(
                    "{key} has several values, and {operator} has neither ForAllValues nor ForAnyValue"
                ));
            }
            all
        }
    })
}

/// Returns whether a value of the request matches one of a condition's values, or none of them if
/// the operator is negated.
fn fits_any(expected: &[ConditionValue], negated: bool, actual: &str) -> Ternary {
    let any = Ternary::any(expected.iter().map(|expected| expected.fits(actual)));
    if negated { any.not() } else { any }
}
