//! Evaluates a trust policy for a caller of AssumeRole. It is written independently of the
//! operator's own evaluator, so that an error there does not hide here.
//!
//! A condition that this evaluator does not know holds for no request. Policy variables (`${…}`)
//! are compared as text.

use super::documents::{as_list, statements};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a trust policy is asked.
pub(super) struct Question<'a> {
    /// The action in lower case.
    pub action: &'a str,
    /// The names by which a policy may call the caller: its account's root, the unique ID of its
    /// role, its session's ARN.
    pub names: &'a [String],
    /// The condition keys in lower case, with their values.
    pub keys: &'a BTreeMap<String, Vec<String>>,
}

/// Returns whether a stored trust policy allows it.
pub(super) fn allows(document: &Value, question: &Question<'_>) -> bool {
    let mut allowed = false;
    for statement in statements(document) {
        if !applies(statement, question) {
            continue;
        }
        if statement.get("Effect").and_then(Value::as_str) == Some("Deny") {
            return false;
        }
        allowed = true;
    }
    allowed
}

fn applies(statement: &Map<String, Value>, question: &Question<'_>) -> bool {
    let names_action = |field: &str| {
        as_list(statement.get(field))
            .iter()
            .filter_map(Value::as_str)
            .any(|pattern| glob(&pattern.to_ascii_lowercase(), question.action))
    };
    let is_about_action = if statement.contains_key("Action") {
        names_action("Action")
    } else {
        !names_action("NotAction")
    };
    is_about_action
        && names_caller(statement.get("Principal"), question.names)
        && statement
            .get("Condition")
            .and_then(Value::as_object)
            .is_none_or(|conditions| {
                conditions.iter().all(|(operator, keys)| {
                    let keys = keys.as_object().into_iter().flatten();
                    keys.into_iter()
                        .all(|(key, values)| holds(operator, key, values, question.keys))
                })
            })
}

fn names_caller(principal: Option<&Value>, names: &[String]) -> bool {
    match principal {
        Some(Value::String(all)) => all == "*",
        Some(Value::Object(kinds)) => as_list(kinds.get("AWS"))
            .iter()
            .filter_map(Value::as_str)
            .any(|named| named == "*" || names.iter().any(|name| name == named)),
        _ => false,
    }
}

/// Returns whether a condition holds for the values of its key.
fn holds(operator: &str, key: &str, values: &Value, keys: &BTreeMap<String, Vec<String>>) -> bool {
    let lower = operator.to_ascii_lowercase();
    let wanted: Vec<String> = as_list(Some(values)).iter().map(text).collect();
    let given = keys.get(&key.to_ascii_lowercase());
    if lower == "null" {
        let absent = given.is_none_or(Vec::is_empty);
        return wanted
            .iter()
            .any(|value| value.eq_ignore_ascii_case(if absent { "true" } else { "false" }));
    }
    let (set, base) = match lower.split_once(':') {
        Some((set, base)) => (Some(set), base),
        None => (None, lower.as_str()),
    };
    let (base, if_exists) = match base.strip_suffix("ifexists") {
        Some(base) => (base, true),
        None => (base, false),
    };
    let (base, negated) = negation(base);
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return if_exists || negated || set == Some("forallvalues");
    };
    let one = |value: &String| {
        let matches = wanted.iter().any(|wanted| compare(base, wanted, value));
        matches != negated
    };
    match set {
        Some("foranyvalue") => given.iter().any(one),
        _ => given.iter().all(one),
    }
}

/// Splits the negation off an operator.
fn negation(base: &str) -> (&str, bool) {
    match base {
        "stringnotequals" => ("stringequals", true),
        "stringnotequalsignorecase" => ("stringequalsignorecase", true),
        "stringnotlike" => ("stringlike", true),
        "arnnotequals" | "arnnotlike" => ("arnlike", true),
        "datenotequals" => ("dateequals", true),
        "numericnotequals" => ("numericequals", true),
        other => (other, false),
    }
}

fn compare(base: &str, wanted: &str, given: &str) -> bool {
    match base {
        "stringequals" | "binaryequals" => wanted == given,
        "stringequalsignorecase" | "bool" => wanted.eq_ignore_ascii_case(given),
        "stringlike" => glob(wanted, given),
        "arnequals" | "arnlike" => like_arn(wanted, given),
        _ if base.starts_with("date") => {
            let dates = date(wanted).zip(date(given));
            dates.is_some_and(|(wanted, given)| ordered(base, &given, &wanted))
        }
        _ if base.starts_with("numeric") => {
            let numbers = wanted.parse::<f64>().ok().zip(given.parse::<f64>().ok());
            numbers.is_some_and(|(wanted, given)| ordered(base, &given, &wanted))
        }
        _ => false,
    }
}

fn ordered<T: PartialOrd>(base: &str, given: &T, wanted: &T) -> bool {
    match base
        .trim_start_matches("date")
        .trim_start_matches("numeric")
    {
        "equals" => given == wanted,
        "lessthan" => given < wanted,
        "lessthanequals" => given <= wanted,
        "greaterthan" => given > wanted,
        "greaterthanequals" => given >= wanted,
        _ => false,
    }
}

fn date(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| Timestamp::from_second(text.parse().ok()?).ok())
}

/// Compares ARNs part by part: a wildcard does not cross a colon of the first five.
fn like_arn(pattern: &str, arn: &str) -> bool {
    let patterns: Vec<&str> = pattern.splitn(6, ':').collect();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    patterns.len() == parts.len()
        && patterns
            .iter()
            .zip(&parts)
            .all(|(pattern, part)| glob(pattern, part))
}

/// Matches `*` and `?`.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(one) if *one == '?' || *one == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => match star {
                Some((star_at, matched)) => {
                    at = star_at + 1;
                    in_text = matched + 1;
                    star = Some((star_at, in_text));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROOT: &str = "arn:aws:iam::333333333333:root";
    const ID: &str = "AROAAAAAAAAAAAAAAAAAA";

    fn allowed(condition: Value, keys: &[(&str, &[&str])]) -> bool {
        let document = json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": [ROOT]},
            "Action": "sts:*", "Condition": condition}});
        asked(&document, keys)
    }

    fn asked(document: &Value, keys: &[(&str, &[&str])]) -> bool {
        let keys = keys
            .iter()
            .map(|(key, values)| {
                (
                    (*key).to_owned(),
                    values.iter().map(|v| (*v).into()).collect(),
                )
            })
            .collect();
        let question = Question {
            action: "sts:assumerole",
            names: &[ROOT.to_owned(), ID.to_owned()],
            keys: &keys,
        };
        allows(document, &question)
    }

    #[test]
    fn conditions_hold_as_in_iam() {
        let external = json!({"StringEquals": {"sts:ExternalId": ["a", "b"]}});
        assert!(allowed(external.clone(), &[("sts:externalid", &["b"])]));
        assert!(!allowed(external.clone(), &[("sts:externalid", &["B"])]));
        assert!(!allowed(external, &[]));
        let keys = json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}});
        assert!(allowed(keys.clone(), &[]));
        assert!(allowed(keys.clone(), &[("aws:tagkeys", &["a"])]));
        assert!(!allowed(keys, &[("aws:tagkeys", &["a", "c"])]));
        let arn = json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::333333333333:role/x/*"}});
        let role = "arn:aws:iam::333333333333:role/x/y";
        assert!(allowed(arn.clone(), &[("aws:principalarn", &[role])]));
        assert!(!allowed(
            arn,
            &[("aws:principalarn", &["arn:aws:iam::333333333333:role/y"])]
        ));
        let date = json!({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}});
        assert!(allowed(
            date.clone(),
            &[("aws:currenttime", &["2026-01-01T00:00:01Z"])]
        ));
        assert!(!allowed(
            date,
            &[("aws:currenttime", &["2026-01-01T00:00:00Z"])]
        ));
        assert!(allowed(json!({"StringNotEquals": {"a:b": "x"}}), &[]));
        assert!(allowed(json!({"StringEqualsIfExists": {"a:b": "x"}}), &[]));
        assert!(allowed(json!({"Null": {"a:b": "true"}}), &[]));
    }

    #[test]
    fn denial_counts_before_any_allow() {
        let allow =
            json!({"Effect": "Allow", "Principal": {"AWS": ID}, "Action": "sts:AssumeRole"});
        let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:Assume*"});
        assert!(asked(&json!({"Statement": [allow]}), &[]));
        assert!(!asked(&json!({"Statement": [allow, deny]}), &[]));
        let other = json!({"Effect": "Allow", "Principal": {"AWS": "AROAOTHER"}, "Action": "sts:AssumeRole"});
        assert!(!asked(&json!({"Statement": other}), &[]));
    }

    #[test]
    fn wildcards_match_any_characters() {
        for (pattern, text, expected) in [
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("*b*b", "abab", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
