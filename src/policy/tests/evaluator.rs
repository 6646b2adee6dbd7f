//! Decides a request by one document, for the tests. Implements as much of IAM as is needed to
//! check that documents which count as equal grant the same access. It reads documents as written
//! and shares no code with the canonical form.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use crate::policy::document::VERSION;
use crate::policy::{Document, Statement};
use rstest::rstest;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Caller {
    /// A principal of an account: its ARN and the account number.
    Aws(&'static str, &'static str),
    Service(&'static str),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub caller: Caller,
    pub action: &'static str,
    pub resource: Option<&'static str>,
    /// Keys in lower case.
    pub context: BTreeMap<&'static str, Vec<&'static str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    NoMatch,
}

pub fn evaluate(document: &Document, request: &Request) -> Verdict {
    let variables = document.fields.get("Version").and_then(Value::as_str) == Some(VERSION);
    let of = |effect: &str| {
        let mut effects = document
            .statements
            .iter()
            .filter(|s| s.0.get("Effect").and_then(Value::as_str) == Some(effect));
        effects.any(|statement| matches(statement, request, variables))
    };
    match (of("Deny"), of("Allow")) {
        (true, _) => Verdict::Deny,
        (_, true) => Verdict::Allow,
        _ => Verdict::NoMatch,
    }
}

fn matches(statement: &Statement, request: &Request, variables: bool) -> bool {
    let action = |pattern: &str| {
        glob(
            &pattern.to_lowercase(),
            &request.action.to_lowercase(),
            None,
        )
    };
    let context = variables.then_some(&request.context);
    let resource = |pattern: &str| {
        request
            .resource
            .is_some_and(|resource| glob(pattern, resource, context))
    };
    let element = |key: &str, value: &Value| match key {
        "Action" => some(value, action).unwrap_or(false),
        "NotAction" => some(value, action).is_some_and(|any| !any),
        "Resource" => some(value, resource).unwrap_or(false),
        "NotResource" => some(value, resource).is_some_and(|any| !any),
        "Principal" => is_caller(value, &request.caller).unwrap_or(false),
        "NotPrincipal" => is_caller(value, &request.caller).is_some_and(|any| !any),
        "Condition" => conditions_hold(value, request, variables).unwrap_or(false),
        _ => matches!(key, "Sid" | "Effect"),
    };
    statement.0.iter().all(|(key, value)| element(key, value))
}

/// Returns whether the predicate holds for a string or for one string of a list; `None` if the
/// value is neither.
fn some(value: &Value, holds: impl Fn(&str) -> bool) -> Option<bool> {
    match value {
        Value::String(text) => Some(holds(text)),
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().map(Value::as_str).collect::<Option<_>>()?;
            Some(texts.into_iter().any(holds))
        }
        _ => None,
    }
}

fn is_caller(value: &Value, caller: &Caller) -> Option<bool> {
    if value == "*" {
        return Some(true);
    }
    let mut any = false;
    for (kind, names) in value.as_object()? {
        any |= some(names, |name| match (kind.as_str(), caller) {
            ("AWS", _) if name == "*" => true,
            ("AWS", Caller::Aws(arn, account)) => {
                name == *arn || name == *account || name == format!("arn:aws:iam::{account}:root")
            }
            ("Service", Caller::Service(service)) => name == *service,
            _ => false,
        })?;
    }
    Some(any)
}

fn conditions_hold(value: &Value, request: &Request, variables: bool) -> Option<bool> {
    let mut all = true;
    for (operator, keys) in value.as_object()? {
        for (key, values) in keys.as_object()? {
            let scalar = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), String::from)
            };
            let values: Vec<String> = match value_list(values) {
                Some(values) => values.iter().map(scalar).collect(),
                None => return None,
            };
            all &= holds(
                &operator.to_lowercase(),
                &key.to_lowercase(),
                &values,
                request,
                variables,
            )?;
        }
    }
    Some(all)
}

fn value_list(values: &Value) -> Option<Vec<Value>> {
    match values {
        Value::Array(list) => Some(list.clone()),
        Value::String(_) | Value::Bool(_) | Value::Number(_) => Some(vec![values.clone()]),
        _ => None,
    }
}

fn holds(
    operator: &str,
    key: &str,
    values: &[String],
    request: &Request,
    variables: bool,
) -> Option<bool> {
    let present = request.context.get(key);
    if operator == "null" {
        return Some(
            values
                .iter()
                .any(|value| (value == "true") == present.is_none()),
        );
    }
    let (quantifier, operator) = operator.split_once(':').unwrap_or(("", operator));
    let (operator, if_exists) = operator
        .strip_suffix("ifexists")
        .map_or((operator, false), |operator| (operator, true));
    let (positive, negated) = match operator {
        "stringnotequals" => ("stringequals", true),
        "stringnotlike" => ("stringlike", true),
        "arnnotlike" | "arnnotequals" => ("arnlike", true),
        other => (other, false),
    };
    let Some(present) = present else {
        return Some(if_exists || negated || quantifier == "forallvalues");
    };
    let context = variables.then_some(&request.context);
    let one = |actual: &&str| {
        let like = |value: &String| match positive {
            "stringequals" => {
                glob(&value.replace('*', "${*}"), actual, Some(&BTreeMap::new())) || {
                    variables && *value == format!("${{{key}}}")
                }
            }
            "stringequalsignorecase" => value.eq_ignore_ascii_case(actual),
            "stringlike" | "arnlike" | "arnequals" => glob(value, actual, context),
            "bool" => value.eq_ignore_ascii_case(actual),
            "numericequals" => value
                .parse::<f64>()
                .ok()
                .is_some_and(|v| actual.parse() == Ok(v)),
            "numericlessthan" => value
                .parse::<f64>()
                .ok()
                .is_some_and(|v| actual.parse::<f64>().is_ok_and(|a| a < v)),
            _ => false,
        };
        values.iter().any(like) != negated
    };
    Some(match quantifier {
        "forallvalues" => present.iter().all(one),
        "foranyvalue" => present.iter().any(one),
        _ => present.iter().take(1).all(one),
    })
}

/// Matches `*` and `?`; with a context also policy variables, whose values are plain text.
fn glob(
    pattern: &str,
    text: &str,
    context: Option<&BTreeMap<&'static str, Vec<&'static str>>>,
) -> bool {
    if let Some(rest) = pattern.strip_prefix("${").filter(|_| context.is_some()) {
        let Some((name, rest)) = rest.split_once('}') else {
            return false;
        };
        let name = name.to_lowercase();
        let value = match name.as_str() {
            "*" | "?" | "$" => name.as_str(),
            _ => match context.and_then(|context| context.get(name.as_str())?.first()) {
                Some(value) => value,
                None => return false,
            },
        };
        return text
            .strip_prefix(value)
            .is_some_and(|text| glob(rest, text, context));
    }
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| glob(chars.as_str(), &text[at..], context)),
        Some(expected) => {
            let mut rest = text.chars();
            rest.next()
                .is_some_and(|c| c == expected || expected == '?')
                && glob(chars.as_str(), rest.as_str(), context)
        }
    }
}

#[rstest]
#[case::plain(r#""Action":"ecr:PutImage""#, Verdict::Allow)]
#[case::star(r#""Action":"ECR:Put*""#, Verdict::Allow)]
#[case::other_action(r#""Action":"ecr:Get?""#, Verdict::NoMatch)]
#[case::all_but(r#""NotAction":"ecr:PutImage""#, Verdict::NoMatch)]
#[case::caller(r#""Principal":{"AWS":"222222222222"}"#, Verdict::Allow)]
#[case::other_caller(r#""Principal":{"AWS":"333333333333"}"#, Verdict::NoMatch)]
#[case::not_caller(r#""NotPrincipal":{"AWS":"222222222222"}"#, Verdict::NoMatch)]
#[case::variable(r#""Resource":"repository/${aws:username}""#, Verdict::Allow)]
#[case::escaped(r#""Resource":"repository/${*}""#, Verdict::NoMatch)]
#[case::condition(
    r#""Condition":{"StringEquals":{"aws:username":["x","alice"]}}"#,
    Verdict::Allow
)]
#[case::negated(
    r#""Condition":{"StringNotEquals":{"aws:username":["x","alice"]}}"#,
    Verdict::NoMatch
)]
#[case::absent(
    r#""Condition":{"StringLike":{"aws:SourceArn":"*"}}"#,
    Verdict::NoMatch
)]
#[case::if_exists(
    r#""Condition":{"StringLikeIfExists":{"aws:SourceArn":"x"}}"#,
    Verdict::Allow
)]
#[case::less(r#""Condition":{"NumericLessThan":{"ecr:age":10}}"#, Verdict::Allow)]
fn test_evaluator_decides_as_iam_does(#[case] keys: &str, #[case] expected: Verdict) {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow",{keys}}}}}"#);
    let request = Request {
        caller: Caller::Aws("arn:aws:iam::222222222222:role/ci", "222222222222"),
        action: "ecr:PutImage",
        resource: Some("repository/alice"),
        context: BTreeMap::from([("aws:username", vec!["alice"]), ("ecr:age", vec!["5"])]),
    };
    let document = Document::parse(&text).unwrap();
    assert_eq!(evaluate(&document, &request), expected);
    let deny = Document::parse(r#"{"Statement":{"Effect":"Deny","Action":"*"}}"#).unwrap();
    assert_eq!(
        evaluate(&document.with(deny.statements), &request),
        Verdict::Deny
    );
}
