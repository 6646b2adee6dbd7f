//! Generates documents as people write them, and the requests that they decide.

use super::evaluator::{Caller, Request};
use crate::policy::Document;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const ACTIONS: [&str; 6] = [
    "ecr:PutImage",
    "ecr:BatchGetImage",
    "ecr:Batch*",
    "ecr:*",
    "*",
    "sts:AssumeRole",
];
pub const PRINCIPALS: [&str; 6] = [
    "111111111111",
    "arn:aws:iam::222222222222:root",
    "arn:aws-cn:iam::222222222222:root",
    "arn:aws:iam::222222222222:role/ci",
    "AROAEXAMPLEEXAMPLE00",
    "*",
];
pub const SERVICES: [&str; 2] = ["lambda.amazonaws.com", "ec2.amazonaws.com"];
pub const RESOURCES: [&str; 5] = [
    "*",
    "repository/web",
    "repository/${aws:username}",
    "repository/${*}",
    "repository/w?b*",
];
pub const VERSIONS: [Option<&str>; 4] = [
    None,
    Some("2008-10-17"),
    Some("2012-10-17"),
    Some("2012-10-17"),
];

/// Generates one of some values, or a list of a few of them.
fn values<T: Clone + Into<Value> + std::fmt::Debug + 'static>(
    pool: &[T],
) -> impl Strategy<Value = Value> + use<T> {
    let most = pool.len().min(3);
    (subsequence(pool.to_vec(), 1..=most), any::<bool>()).prop_map(|(some, bare)| {
        match some.as_slice() {
            [one] if bare => one.clone().into(),
            _ => Value::Array(some.into_iter().map(Into::into).collect()),
        }
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
    let arns = [
        "arn:aws:lambda:eu-west-1:222222222222:function:*",
        "arn:aws:iam::222222222222:role/ci",
        "*",
    ];
    prop_oneof![
        (
            strings,
            select(vec!["aws:username", "aws:PrincipalTag/Team"]),
            values(&names)
        ),
        (
            select(vec!["ArnLike", "ArnNotLike", "ArnEquals", "ArnNotEquals"]),
            select(vec!["aws:SourceArn", "aws:PrincipalArn"]),
            values(&arns)
        ),
        (
            Just("Bool"),
            Just("aws:SecureTransport"),
            values(&[json!(true), json!("True"), json!(false)])
        ),
        (
            select(vec!["NumericEquals", "NumericLessThan"]),
            Just("ecr:age"),
            values(&[json!(5), json!("5"), json!("5.0"), json!(10)])
        ),
        (
            Just("Null"),
            select(vec!["aws:username", "aws:SourceArn"]),
            values(&[json!(true), json!("false")])
        ),
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
    (prop_oneof![4 => Just(key), 1 => Just(other)], value)
        .prop_map(|(key, value)| (key.to_owned(), value))
}

pub fn statement() -> impl Strategy<Value = Value> {
    let sid = prop::option::of(select(vec![
        "",
        "Pull",
        "Push",
        "new statement",
        "RegistryGrants",
    ]));
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
                conditions
                    .into_iter()
                    .for_each(|(operator, key, values)| block[operator][key] = values);
                keys.insert("Condition".into(), block);
            }
            Value::Object(keys)
        })
}

/// Generates a document as JSON.
pub fn document() -> impl Strategy<Value = Value> {
    let statements = prop::collection::vec(statement(), 0..4);
    (
        select(VERSIONS.to_vec()),
        prop::option::of(select(vec!["id", "x"])),
        statements,
    )
        .prop_map(|(version, id, statements)| {
            let mut document = json!({ "Statement": statements });
            version
                .into_iter()
                .for_each(|version| document["Version"] = json!(version));
            id.into_iter().for_each(|id| document["Id"] = json!(id));
            document
        })
}

pub fn parsed(value: &Value) -> Document {
    Document::parse(&value.to_string()).unwrap()
}

/// Returns every request that could distinguish the documents above.
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
            (
                "aws:sourcearn",
                vec!["arn:aws:lambda:eu-west-1:222222222222:function:x"],
            ),
        ]),
        BTreeMap::from([
            ("aws:username", vec!["web"]),
            ("aws:securetransport", vec!["false"]),
            (
                "aws:principalarn",
                vec!["arn:aws:iam::222222222222:role/ci"],
            ),
            ("ecr:age", vec!["7"]),
        ]),
    ];
    let mut requests = Vec::new();
    for caller in &callers {
        for action in ["ecr:PutImage", "ecr:BatchGetImage", "sts:AssumeRole"] {
            for resource in [
                None,
                Some("repository/web"),
                Some("repository/WEB"),
                Some("repository/*"),
            ] {
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
