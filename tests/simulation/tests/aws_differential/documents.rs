//! Random policy documents, valid and not.

use fastrand::Rng;
use serde_json::{Value, json};

/// A principal: `{0}` and `{1}` are the accounts.
pub fn aws_principal(rng: &mut Rng) -> String {
    let account = rng.usize(..2);
    match rng.u8(..24) {
        20.. => "arn:aws:iam::{0}:role/r0".into(),
        0..5 => format!("arn:aws:iam::{{{account}}}:root"),
        5..8 => format!("{{{account}}}"),
        8..13 => format!("arn:aws:iam::{{0}}:role/{}", role_with_path(rng)),
        13..16 => format!(
            "{{id:{}}}",
            rng.choice([0, 0, 1, 2, 3, 9]).unwrap_or_default()
        ),
        16 => "*".into(),
        17 => format!("arn:aws:sts::{{{account}}}:assumed-role/r0/session"),
        18 => "arn:aws:iam::1:root".into(),
        _ => "nobody".into(),
    }
}

pub fn role_with_path(rng: &mut Rng) -> String {
    // The first roles have these paths; those that replace them may have others.
    let names = [
        "r0",
        "r0",
        "grants/r1",
        "grants/r1",
        "r2",
        "r2",
        "grants/r0",
        "r1",
    ];
    rng.choice(names).unwrap_or_default().to_owned()
}

fn principal(rng: &mut Rng) -> Value {
    match rng.u8(..12) {
        0 => json!("*"),
        1 => json!({"Service": "ec2.amazonaws.com"}),
        2 => match rng.u8(..8) {
            0 => json!({"NWS": "*"}),
            1 => json!({}),
            2 => json!({"Service": rng.choice(["nowhere", "Ec2.amazonaws.com"])}),
            _ => json!({"Service": ["lambda.amazonaws.com"]}),
        },
        3..6 => {
            let names: Vec<String> = (0..rng.usize(1..4)).map(|_| aws_principal(rng)).collect();
            json!({"AWS": names})
        }
        _ => json!({"AWS": aws_principal(rng)}),
    }
}

fn condition(rng: &mut Rng) -> Option<Value> {
    let condition = match rng.u8(..10) {
        0 => json!({"StringEquals": {"sts:ExternalId": "secret"}}),
        1 => json!({"ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::{1}:role/*", "x"]}}),
        2 => json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}),
        3 if rng.u8(..4) == 0 => json!({"StringIs": {"a:b": "c"}}),
        4 => json!({"Bool": {"aws:SecureTransport": true}, "NumericLessThanIfExists": {"a:b": 1}}),
        _ => return None,
    };
    Some(condition)
}

fn statement(rng: &mut Rng, actions: &[&str], has_principal: bool) -> Value {
    let effect = match rng.u8(..40) {
        0 => "Maybe",
        1..8 => "Deny",
        _ => "Allow",
    };
    let action = match rng.u8(..4) {
        0 => json!([rng.choice(actions), rng.choice(actions)]),
        _ => json!(rng.choice(actions)),
    };
    let mut statement = json!({"Effect": effect, "Action": action});
    if has_principal {
        let key = if rng.u8(..25) == 0 {
            "NotPrincipal"
        } else {
            "Principal"
        };
        statement[key] = principal(rng);
    }
    if let Some(condition) = condition(rng) {
        statement["Condition"] = condition;
    }
    if rng.u8(..3) == 0 {
        let sids = [
            "One",
            "One",
            "Two",
            "Two",
            "Three",
            "Three",
            "not plain",
            "",
        ];
        statement["Sid"] = json!(rng.choice(sids));
    }
    if rng.u8(..40) == 0 {
        statement["Unknown"] = json!("x");
    }
    statement
}

fn document(rng: &mut Rng, statements: Vec<Value>) -> String {
    let version = match rng.u8(..16) {
        0 => Some("2008-10-17"),
        1 => None,
        2 if rng.u8(..3) == 0 => Some("2020-01-01"),
        _ => Some("2012-10-17"),
    };
    let mut document = if statements.len() == 1 && rng.bool() {
        json!({"Statement": statements[0]})
    } else {
        json!({"Statement": statements})
    };
    if let Some(version) = version {
        document["Version"] = json!(version);
    }
    if rng.u8(..20) == 0 {
        document["Id"] = json!("some-id");
    }
    match rng.u8(..80) {
        0 => "{".into(),
        1 => "[]".into(),
        2 => document
            .to_string()
            .replacen('{', "{\"Version\":\"2012-10-17\",", 1),
        3 => serde_json::to_string_pretty(&document).unwrap_or_default(),
        _ => document.to_string(),
    }
}

fn count(rng: &mut Rng) -> usize {
    match rng.u8(..20) {
        0 => 0,
        1..14 => 1,
        _ => 2,
    }
}

pub fn trust(rng: &mut Rng) -> String {
    if rng.bool() {
        let principal = json!({"Service": "ec2.amazonaws.com"});
        let statement =
            json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"});
        return json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    }
    let actions = [
        "sts:AssumeRole",
        "sts:TagSession",
        "sts:*",
        "STS:AssumeRole",
        "ecr:PutImage",
        "bad",
    ];
    let statements = (0..count(rng)).map(|_| {
        let rare = 2 * usize::from(rng.u8(..6) == 0);
        statement(rng, &actions[..4 + rare], true)
    });
    let mut statements: Vec<Value> = statements.collect();
    if rng.u8(..20) == 0
        && let Some(first) = statements.first_mut()
    {
        first["Resource"] = json!("*");
    }
    if rng.u8(..30) == 0
        && let Some(first) = statements.first_mut()
    {
        let long = "x".repeat(rng.usize(1800..2200));
        first["Condition"] = json!({"StringEquals": {"sts:ExternalId": long}});
    }
    document(rng, statements)
}

pub fn identity(rng: &mut Rng) -> String {
    let actions = [
        "ecr:*",
        "ecr:BatchGetImage",
        "*",
        "s3:G?tObject",
        "nonsense",
    ];
    let resources = ["*", "arn:aws:ecr:*:*:repository/a+b", "here"];
    let statements = (0..count(rng)).map(|_| {
        let rare = usize::from(rng.u8(..6) == 0);
        let is_wrong = rng.u8(..25) == 0;
        let mut statement = statement(rng, &actions[..4 + rare], is_wrong);
        if rng.u8(..15) > 0 {
            let rare = usize::from(rng.u8(..8) == 0);
            statement["Resource"] = json!(rng.choice(&resources[..2 + rare]));
        }
        if rng.u8(..10) == 0 {
            let long = "x".repeat(rng.usize(2000..6000));
            statement["Resource"] = json!(format!("arn:aws:ecr:*:*:repository/{long}"));
        }
        statement
    });
    let statements = statements.collect();
    document(rng, statements)
}

pub fn repository(rng: &mut Rng) -> String {
    let actions = [
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:*",
        "*",
        "ecr:GetAuthorizationToken",
        "s3:GetObject",
    ];
    let rare = 2 * usize::from(rng.u8(..8) == 0);
    let mut statements: Vec<Value> = (0..count(rng))
        .map(|_| statement(rng, &actions[..4 + rare], true))
        .collect();
    if let Some(first) = statements.first_mut() {
        match rng.u8(..30) {
            0 => first["Resource"] = json!("*"),
            1 => first["Sid"] = json!("x".repeat(rng.usize(9_500..10_500))),
            _ => {}
        }
    }
    document(rng, statements)
}

pub fn registry(rng: &mut Rng) -> String {
    let actions = [
        "ecr:BatchGetImage",
        "ecr:ReplicateImage",
        "ecr:*",
        "*",
        "s3:GetObject",
    ];
    let statements = (0..count(rng)).map(|_| {
        let rare = usize::from(rng.u8(..8) == 0);
        let mut statement = statement(rng, &actions[..4 + rare], true);
        match rng.u8(..12) {
            0 => {}
            1 => statement["Resource"] = json!("here"),
            _ => statement["Resource"] = json!("arn:aws:ecr:us-east-1:{0}:repository/*"),
        }
        statement
    });
    let statements = statements.collect();
    document(rng, statements)
}
