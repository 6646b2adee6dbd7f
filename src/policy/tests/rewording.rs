//! Rewords documents, and makes slips in them.

use super::documents::{ACTIONS, PRINCIPALS, RESOURCES, SERVICES, VERSIONS};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

/// A source of random choices, from the test's own randomness.
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
        text.chars()
            .map(|c| {
                if self.coin() {
                    c.to_ascii_uppercase()
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    }
}

/// Returns the same document in other words, as text.
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
            "Action" | "NotAction" => reworded_list(value, dice, |text, dice| {
                json!(dice.case(text.as_str().unwrap()))
            }),
            "Resource" | "NotResource" => reworded_list(value, dice, |text, _| text.clone()),
            "Principal" if *value == "*" => json!({ "AWS": "*" }),
            "Principal" if *value == json!({ "AWS": "*" }) && dice.coin() => json!("*"),
            "Principal" | "NotPrincipal" if value.is_object() => {
                let kinds = value.as_object().unwrap().iter();
                kinds
                    .map(|(kind, names)| (kind.clone(), reworded_list(names, dice, account)))
                    .collect()
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

fn reworded_list(
    value: &Value,
    dice: &mut Dice,
    word: impl Fn(&Value, &mut Dice) -> Value,
) -> Value {
    let values = value
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![value.clone()]);
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

/// Prints JSON with the keys in any order and some white space.
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

/// Pairs of values that are easily confused.
const LOOKALIKES: [(&str, &str); 16] = [
    (
        "arn:aws:iam::222222222222:root",
        "arn:aws-cn:iam::222222222222:root",
    ),
    (
        "arn:aws:iam::222222222222:root",
        "arn:aws:iam::222222222222:role/ci",
    ),
    ("111111111111", "arn:aws-cn:iam::111111111111:root"),
    ("arn:aws:iam::222222222222:role/ci", "AROAEXAMPLEEXAMPLE00"),
    (
        "arn:aws:iam::222222222222:role/ci",
        "arn:aws:iam::222222222222:role/CI",
    ),
    ("*", "arn:aws:iam::222222222222:role/ci"),
    ("*", "?"),
    ("repository/web", "repository/WEB"),
    ("repository/${*}", "repository/*"),
    ("repository/${aws:username}", "repository/web"),
    ("alice", "Alice"),
    ("5", "5.0"),
    ("true", "True"),
    ("ecr:Batch*", "ecr:BatchGetImage"),
    ("ecr:*", "*"),
    ("lambda.amazonaws.com", "Lambda.amazonaws.com"),
];

/// Makes a slip that a policy author could make. The result is still a policy, often one that
/// grants other access.
pub fn slip(document: &mut Value, dice: &mut Dice) {
    let version = VERSIONS[dice.below(VERSIONS.len())];
    let statements = document["Statement"].as_array_mut().unwrap();
    if statements.is_empty() || dice.below(8) == 0 {
        document["Version"] = json!(version.unwrap_or("2008-10-17"));
        return;
    }
    let at = dice.below(statements.len());
    let statement = statements[at].as_object_mut().unwrap();
    let keys: Vec<String> = statement
        .keys()
        .filter(|key| *key != "Effect" && *key != "Action")
        .cloned()
        .collect();
    match dice.below(6) {
        0 => drop(statements.remove(at)),
        1 => {
            statement["Effect"] = json!(if statement["Effect"] == "Allow" {
                "Deny"
            } else {
                "Allow"
            })
        }
        2 if !keys.is_empty() => drop(statement.remove(&keys[dice.below(keys.len())])),
        3 => slip_in_negation(statement, dice),
        4 if statement.contains_key("Condition") => {
            slip_in_operator(statement["Condition"].as_object_mut().unwrap(), dice);
        }
        _ => slip_in_value(statement, dice),
    }
}

fn slip_in_negation(statement: &mut Map<String, Value>, dice: &mut Dice) {
    let pairs = [
        ("Action", "NotAction"),
        ("Principal", "NotPrincipal"),
        ("Resource", "NotResource"),
    ];
    let (one, other) = pairs[dice.below(pairs.len())];
    let (from, to) = if statement.contains_key(one) {
        (one, other)
    } else {
        (other, one)
    };
    if let Some(value) = statement.remove(from) {
        statement.insert(to.into(), value);
    }
}

fn slip_in_operator(block: &mut Map<String, Value>, dice: &mut Dice) {
    let Some(operator) = block.keys().nth(dice.below(block.len())).cloned() else {
        return;
    };
    let keys = block.remove(&operator).unwrap();
    let base = operator
        .trim_start_matches("ForAnyValue:")
        .trim_start_matches("ForAllValues:")
        .trim_end_matches("IfExists");
    let changed = match dice.below(5) {
        0 => format!("{base}IfExists"),
        1 => format!("ForAllValues:{base}"),
        2 => format!("ForAnyValue:{base}"),
        3 => base.replace("Equals", "Like"),
        _ => return,
    };
    block.insert(changed, keys);
}

/// Replaces a value by one that is easily confused with it.
fn slip_in_value(statement: &mut Map<String, Value>, dice: &mut Dice) {
    let mut leaves = Vec::new();
    statement
        .iter_mut()
        .for_each(|(_, value)| strings_of(value, &mut leaves));
    dice.shuffle(&mut leaves);
    if let Some((alike, leaf)) = leaves
        .into_iter()
        .find_map(|leaf| Some((lookalike(leaf)?, leaf)))
    {
        *leaf = alike.into();
    }
}

fn lookalike(text: &str) -> Option<&'static str> {
    LOOKALIKES.iter().find_map(|(a, b)| match text {
        text if text == *a => Some(*b),
        text if text == *b => Some(*a),
        _ => None,
    })
}

fn strings_of<'a>(value: &'a mut Value, found: &mut Vec<&'a mut String>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(list) => list.iter_mut().for_each(|value| strings_of(value, found)),
        Value::Object(map) => map
            .iter_mut()
            .for_each(|(_, value)| strings_of(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Changes something at a random place, which may make the document invalid. Often the meaning
/// changes, sometimes only the wording.
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
                (_, key) => key
                    .strip_prefix("Not")
                    .map_or_else(|| format!("Not{key}"), String::from),
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
            let pools = [
                &ACTIONS[..],
                &PRINCIPALS,
                &SERVICES,
                &RESOURCES,
                &["true", "5", "alice", "Deny", "2008-10-17", ""],
            ]
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
