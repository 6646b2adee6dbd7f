//! Documents as people write them, the same documents in other words, and documents with a slip in them.

use super::evaluator::{Caller, Request};
use crate::policy::Document;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const ACTIONS: [&str; 6] = ["ecr:PutImage", "ecr:BatchGetImage", "ecr:Batch*", "ecr:*", "*", "sts:AssumeRole"];
const PRINCIPALS: [&str; 6] = [
    "111111111111",
    "arn:aws:iam::222222222222:root",
    "arn:aws-cn:iam::222222222222:root",
    "arn:aws:iam::222222222222:role/ci",
    "AROAEXAMPLEEXAMPLE00",
    "*",
];
const SERVICES: [&str; 2] = ["lambda.amazonaws.com", "ec2.amazonaws.com"];
const RESOURCES: [&str; 5] =
    ["*", "repository/web", "repository/${aws:username}", "repository/${*}", "repository/w?b*"];
const VERSIONS: [Option<&str>; 4] = [None, Some("2008-10-17"), Some("2012-10-17"), Some("2012-10-17")];

/// One of some, or a list of a few of them.
fn values<T: Clone + Into<Value> + std::fmt::Debug + 'static>(pool: &[T]) -> impl Strategy<Value = Value> + use<T> {
    let most = pool.len().min(3);
    (subsequence(pool.to_vec(), 1..=most), any::<bool>()).prop_map(|(some, bare)| match some.as_slice() {
        [one] if bare => one.clone().into(),
        _ => Value::Array(some.into_iter().map(Into::into).collect()),
    })
}

fn condition() -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    let names = ["alice", "Alice", "bob", "a*", "${aws:username}", "*"];
    let strings = select(vec![
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringLikeIfExists",
        "ForAnyValue:StringLike",
        "ForAllValues:StringEquals",
    ]);
    let arns = ["arn:aws:lambda:eu-west-1:222222222222:function:*", "arn:aws:iam::222222222222:role/ci", "*"];
    prop_oneof![
        (strings, select(vec!["aws:username", "aws:PrincipalTag/Team"]), values(&names)),
        (select(vec!["ArnLike", "ArnNotLike"]), select(vec!["aws:SourceArn", "aws:PrincipalArn"]), values(&arns)),
        (Just("Bool"), Just("aws:SecureTransport"), values(&[json!(true), json!("true"), json!(false)])),
        (
            select(vec!["NumericEquals", "NumericLessThan"]),
            Just("ecr:age"),
            values(&[json!(5), json!("5"), json!("5.0"), json!(10)])
        ),
        (Just("Null"), select(vec!["aws:username", "aws:SourceArn"]), values(&[json!(true), json!("false")])),
    ]
}

fn principal() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!("*")),
        4 => values(&PRINCIPALS).prop_map(|aws| json!({ "AWS": aws })),
        2 => values(&SERVICES).prop_map(|service| json!({ "Service": service })),
        1 => (values(&PRINCIPALS), values(&SERVICES)).prop_map(|(aws, service)| json!({ "AWS": aws, "Service": service })),
    ]
}

fn element(
    key: &'static str,
    other: &'static str,
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = (String, Value)> {
    (prop_oneof![4 => Just(key), 1 => Just(other)], value).prop_map(|(key, value)| (key.to_owned(), value))
}

pub fn statement() -> impl Strategy<Value = Value> {
    let sid = prop::option::of(select(vec!["", "Pull", "Push", "new statement", "RegistryGrants"]));
    let conditions = prop::collection::vec(condition(), 0..3);
    (
        sid,
        prop_oneof![3 => Just("Allow"), 1 => Just("Deny")],
        element("Action", "NotAction", values(&ACTIONS)),
        prop::option::of(element("Principal", "NotPrincipal", principal())),
        prop::option::of(element("Resource", "NotResource", values(&RESOURCES))),
        prop::option::of(conditions),
    )
        .prop_map(|(sid, effect, action, principal, resource, conditions)| {
            let mut keys = Map::from_iter([("Effect".to_owned(), json!(effect)), action]);
            keys.extend(principal.into_iter().chain(resource));
            keys.extend(sid.map(|sid| ("Sid".to_owned(), json!(sid))));
            if let Some(conditions) = conditions {
                let mut block = json!({});
                conditions.into_iter().for_each(|(operator, key, values)| block[operator][key] = values);
                keys.insert("Condition".into(), block);
            }
            Value::Object(keys)
        })
}

/// A document as JSON.
pub fn document() -> impl Strategy<Value = Value> {
    let statements = prop::collection::vec(statement(), 0..4);
    (select(VERSIONS.to_vec()), prop::option::of(select(vec!["id", "x"])), statements).prop_map(
        |(version, id, statements)| {
            let mut document = json!({ "Statement": statements });
            version.into_iter().for_each(|version| document["Version"] = json!(version));
            id.into_iter().for_each(|id| document["Id"] = json!(id));
            document
        },
    )
}

pub fn parsed(value: &Value) -> Document {
    Document::parse(&value.to_string()).unwrap()
}

/// Every request that could tell the documents above from one another.
pub fn requests() -> Vec<Request> {
    let callers = [
        Caller::Aws("arn:aws:iam::111111111111:user/alice", "111111111111"),
        Caller::Aws("arn:aws:iam::222222222222:role/ci", "222222222222"),
        Caller::Aws("arn:aws:iam::222222222222:role/CI", "222222222222"),
        Caller::Aws("arn:aws:iam::333333333333:root", "333333333333"),
        Caller::Service("lambda.amazonaws.com"),
        Caller::Service("ec2.amazonaws.com"),
    ];
    let contexts = [
        BTreeMap::new(),
        BTreeMap::from([
            ("aws:username", vec!["alice"]),
            ("aws:securetransport", vec!["true"]),
            ("ecr:age", vec!["5"]),
        ]),
        BTreeMap::from([
            ("aws:username", vec!["Alice", "bob"]),
            ("aws:principaltag/team", vec!["a"]),
            ("aws:sourcearn", vec!["arn:aws:lambda:eu-west-1:222222222222:function:x"]),
        ]),
        BTreeMap::from([
            ("aws:username", vec!["web"]),
            ("aws:securetransport", vec!["false"]),
            ("aws:principalarn", vec!["arn:aws:iam::222222222222:role/ci"]),
            ("ecr:age", vec!["7"]),
        ]),
    ];
    let mut requests = Vec::new();
    for caller in &callers {
        for action in ["ecr:PutImage", "ecr:BatchGetImage", "sts:AssumeRole"] {
            for resource in [None, Some("repository/web"), Some("repository/WEB"), Some("repository/*")] {
                let request = |context: &BTreeMap<_, _>| Request {
                    caller: caller.clone(),
                    action,
                    resource,
                    context: context.clone(),
                };
                requests.extend(contexts.iter().map(request));
            }
        }
    }
    requests
}

/// Chooses, from the test's own randomness.
pub struct Dice(pub TestRng);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n.max(1))
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }

    fn case(&mut self, text: &str) -> String {
        text.chars().map(|c| if self.coin() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
    }
}

/// The same document in other words, as text.
pub fn reworded(document: &Value, dice: &mut Dice) -> String {
    let mut document = document.clone();
    let variables = document.to_string().contains("${");
    let is_new = document["Version"] == "2012-10-17";
    let fields = document.as_object_mut().unwrap();
    if !variables || !is_new {
        match dice.below(if variables { 2 } else { 3 }) {
            0 => drop(fields.remove("Version")),
            1 => drop(fields.insert("Version".into(), json!("2008-10-17"))),
            _ => drop(fields.insert("Version".into(), json!("2012-10-17"))),
        }
    }
    if dice.coin() {
        fields.insert("Id".into(), json!("other"));
    }
    let mut statements = Vec::new();
    for statement in document["Statement"].as_array().unwrap() {
        for _ in 0..=usize::from(dice.below(4) == 0) {
            statements.push(reworded_statement(statement.as_object().unwrap(), dice));
        }
    }
    dice.shuffle(&mut statements);
    document["Statement"] = match statements.as_slice() {
        [one] if dice.coin() => one.clone(),
        _ => Value::Array(statements),
    };
    text(&document, dice)
}

fn reworded_statement(statement: &Map<String, Value>, dice: &mut Dice) -> Value {
    let mut keys = statement.clone();
    if dice.coin() {
        keys.remove("Sid");
    } else if dice.coin() {
        keys.insert("Sid".into(), json!("renamed"));
    }
    keys.entry("Condition").or_insert_with(|| json!({}));
    for (key, value) in &mut keys {
        *value = match key.as_str() {
            "Action" | "NotAction" => reworded_list(value, dice, |text, dice| json!(dice.case(text.as_str().unwrap()))),
            "Resource" | "NotResource" => reworded_list(value, dice, |text, _| text.clone()),
            "Principal" if *value == "*" => json!({ "AWS": "*" }),
            "Principal" if *value == json!({ "AWS": "*" }) && dice.coin() => json!("*"),
            "Principal" | "NotPrincipal" if value.is_object() => {
                let kinds = value.as_object().unwrap().iter();
                kinds.map(|(kind, names)| (kind.clone(), reworded_list(names, dice, account))).collect()
            }
            "Condition" => reworded_condition(value.as_object().unwrap(), dice),
            _ => continue,
        };
    }
    if keys["Condition"] == json!({}) && dice.coin() {
        keys.remove("Condition");
    }
    Value::Object(keys)
}

fn reworded_condition(block: &Map<String, Value>, dice: &mut Dice) -> Value {
    let mut reworded = Map::new();
    for (operator, keys) in block {
        let mut operands = Map::new();
        for (key, values) in keys.as_object().unwrap() {
            operands.insert(dice.case(key), reworded_list(values, dice, scalar));
        }
        reworded.insert(dice.case(operator), Value::Object(operands));
    }
    Value::Object(reworded)
}

fn account(name: &Value, dice: &mut Dice) -> Value {
    match name.as_str().unwrap() {
        "111111111111" if dice.coin() => json!("arn:aws:iam::111111111111:root"),
        "arn:aws:iam::222222222222:root" if dice.coin() => json!("222222222222"),
        _ => name.clone(),
    }
}

fn scalar(value: &Value, dice: &mut Dice) -> Value {
    match value {
        _ if dice.coin() => value.clone(),
        Value::String(text) => match text.as_str() {
            "true" | "false" | "5" | "10" => serde_json::from_str(text).unwrap(),
            _ => value.clone(),
        },
        other => json!(other.to_string()),
    }
}

fn reworded_list(value: &Value, dice: &mut Dice, word: impl Fn(&Value, &mut Dice) -> Value) -> Value {
    let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut reworded: Vec<Value> = Vec::new();
    for value in &values {
        for _ in 0..=usize::from(dice.below(3) == 0) {
            reworded.push(word(value, dice));
        }
    }
    dice.shuffle(&mut reworded);
    match reworded.as_slice() {
        [one] if dice.coin() => one.clone(),
        _ => Value::Array(reworded),
    }
}

/// As JSON, with the keys in any order and white space here and there.
fn text(value: &Value, dice: &mut Dice) -> String {
    let space = if dice.coin() { " " } else { "\n\t" };
    match value {
        Value::Object(map) => {
            let mut entries: Vec<String> = Vec::new();
            for (key, value) in map {
                entries.push(format!("{}:{space}{}", json!(key), text(value, dice)));
            }
            dice.shuffle(&mut entries);
            format!("{{{}}}", entries.join(&format!(",{space}")))
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| text(item, dice)).collect();
            format!("[{space}{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// Changes something somewhere: often the meaning, sometimes only the words.
pub fn mutate(value: &mut Value, dice: &mut Dice) {
    let here = dice.below(3) == 0;
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(dice.below(map.len())).unwrap().clone();
            if !here {
                return mutate(map.get_mut(&key).unwrap(), dice);
            }
            let inner = map.remove(&key).unwrap();
            let renamed = match (dice.below(4), key.as_str()) {
                (0, _) => return,
                (1, _) => dice.case(&key),
                (_, "AWS") => "Service".into(),
                (_, key) => key.strip_prefix("Not").map_or_else(|| format!("Not{key}"), String::from),
            };
            map.insert(renamed, inner);
        }
        Value::Array(list) if !list.is_empty() => {
            let at = dice.below(list.len());
            match (here, dice.below(3)) {
                (false, _) => mutate(&mut list[at], dice),
                (_, 0) => drop(list.remove(at)),
                (_, 1) => list.push(list[at].clone()),
                _ => list.reverse(),
            }
        }
        scalar => {
            let pools =
                [&ACTIONS[..], &PRINCIPALS, &SERVICES, &RESOURCES, &["true", "5", "alice", "Deny", "2008-10-17", ""]]
                    .concat();
            *scalar = match (dice.below(4), scalar.as_str()) {
                (0, Some(text)) => json!(dice.case(text)),
                (1, _) => json!([scalar]),
                (2, Some(text)) => serde_json::from_str(text).unwrap_or_else(|_| json!([])),
                (2, None) => json!(scalar.to_string()),
                _ => json!(pools[dice.below(pools.len())]),
            };
        }
    }
}
