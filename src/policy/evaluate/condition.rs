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
    let shape = || "Condition is not of the documented shape".to_owned();
    let mut clauses = Vec::new();
    for (operator, keys) in condition.as_object().ok_or_else(shape)? {
        for (key, values) in keys.as_object().ok_or_else(shape)? {
            let wanted = texts(values).ok_or_else(shape)?;
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
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match values {
        Value::Array(values) => values.iter().map(text).collect(),
        one => text(one).map(|text| vec![text]),
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
        return Err(format!(
            "{operator:?} is no condition operator that is known here"
        ));
    };
    let variables = variables.then_some(facts);
    let read = |text: &String| ConditionValue::read(compares, text, variables);
    let wanted: Vec<ConditionValue> = wanted.iter().map(read).collect::<Result<_, _>>()?;
    let actual: Vec<&str> = match facts.get(key) {
        ContextValue::Unknown => return Ok(Ternary::hangs_on(key)),
        ContextValue::Values(values) => values.iter().map(String::as_str).collect(),
        ContextValue::Absent => Vec::new(),
    };
    if compares == Compares::Presence {
        let holds = |wanted: &ConditionValue| matches!(wanted, ConditionValue::Presence(absent) if *absent == actual.is_empty());
        return Ok(Ternary::of(wanted.iter().any(holds)));
    }
    let fits = |actual: &&str| {
        let any = Ternary::any(wanted.iter().map(|wanted| wanted.fits(actual)));
        if negated { any.not() } else { any }
    };
    // For a set operator, a key that has only empty values counts as absent.
    let nothing = actual.iter().all(|value| value.is_empty());
    Ok(match set {
        _ if actual.is_empty() && if_exists => Ternary::Yes,
        Some(Set::AllValues) if nothing => Ternary::Yes,
        Some(Set::AnyValue) if nothing => Ternary::No,
        Some(Set::AllValues) => Ternary::all(actual.iter().map(fits)),
        Some(Set::AnyValue) => Ternary::any(actual.iter().map(fits)),
        None if actual.is_empty() => Ternary::of(negated),
        None => match (
            Ternary::all(actual.iter().map(fits)),
            Ternary::any(actual.iter().map(fits)),
        ) {
            (all, any) if all == any => all,
            _ => {
                return Err(format!(
                    "{key} has several values, and {operator} does not say which of them it means"
                ));
            }
        },
    })
}
