//! Measures the comparison of two policies with the maximum of 10,240 characters: one of ours,
//! packed with root ARNs, and one with foreign statements. Each is compared with an equivalent
//! document. The target for canonical forms and difference together is less than a millisecond.
//!
//! ```text
//! cargo bench --locked --bench policy
//! ```

use criterion::{Criterion, criterion_group, criterion_main};
use registry_grants::policy::Document;
use registry_grants::policy::diff::Difference;
use registry_grants::policy::repository::MAX_CHARACTERS;
use serde_json::{Value, json};
use std::hint::black_box;

/// Returns one statement with as many accounts as fit, and an equivalent one that ECR might return:
/// with account numbers, another order and other letters.
fn packed() -> (Document, Document) {
    let document = |principals: Vec<String>, actions: [&str; 3]| {
        let statement = json!({
            "Sid": "RegistryGrants0123456789ab01234567",
            "Effect": "Allow",
            "Principal": { "AWS": principals },
            "Action": actions,
        });
        parsed(&json!({ "Version": "2012-10-17", "Statement": [statement] }))
    };
    let accounts = |count: u64| (0..count).map(|n| 100_000_000_000 + n * 7_919);
    let one = |count: u64| {
        let arns = accounts(count)
            .map(|account| format!("arn:aws:iam::{account}:root"))
            .collect();
        document(
            arns,
            [
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
                "ecr:PutImage",
            ],
        )
    };
    let full = (1..)
        .take_while(|count| one(*count).characters() <= MAX_CHARACTERS)
        .last()
        .unwrap_or_default();
    let numbers = accounts(full)
        .rev()
        .map(|account| account.to_string())
        .collect();
    (
        one(full),
        document(
            numbers,
            [
                "ECR:putimage",
                "ecr:getdownloadurlforlayer",
                "ecr:batchGetImage",
            ],
        ),
    )
}

/// Returns many foreign statements, and the same shuffled, with lists for strings and strings for
/// booleans.
fn mixed() -> (Document, Document) {
    let statement = |n: u64, reworded: bool| -> Value {
        let role = format!("arn:aws:iam::{}:role/team-{n}", 200_000_000_000 + n);
        let arn = format!(
            "arn:aws:lambda:eu-west-1:{}:function:*",
            300_000_000_000 + n
        );
        match (n % 3, reworded) {
            (0, false) => {
                json!({"Sid": format!("Lambda{n}"), "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Condition": {"StringLike": {"aws:sourceArn": arn}}})
            }
            (0, true) => {
                json!({"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com"]},
                "Action": ["ecr:GetDownloadUrlForLayer", "ecr:batchgetimage"], "Condition": {"StringLike": {"AWS:SourceArn": [arn]}}})
            }
            (1, false) => {
                json!({"Sid": format!("Deny{n}"), "Effect": "Deny", "Principal": "*", "NotAction": "ecr:BatchGetImage",
                "Condition": {"Bool": {"aws:SecureTransport": false}, "ArnNotLike": {"aws:PrincipalArn": [role, "arn:aws:iam::*:role/ops"]}}})
            }
            (1, true) => {
                json!({"Sid": "renamed", "Effect": "Deny", "Principal": {"AWS": "*"}, "NotAction": ["ecr:BatchGetImage"],
                "Condition": {"ArnNotLike": {"aws:PrincipalARN": ["arn:aws:iam::*:role/ops", role]}, "Bool": {"aws:SecureTransport": "false"}}})
            }
            (_, _) => {
                json!({"Sid": format!("Team{n}"), "Effect": "Allow", "Principal": {"AWS": [role, format!("{}", 400_000_000_000 + n)]},
                "Action": ["ecr:PutImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"]})
            }
        }
    };
    let one = |count: u64| {
        let statements: Vec<Value> = (0..count).map(|n| statement(n, false)).collect();
        parsed(&json!({ "Version": "2008-10-17", "Statement": statements }))
    };
    let full = (1..)
        .take_while(|count| one(*count).characters() <= MAX_CHARACTERS)
        .last()
        .unwrap_or_default();
    let statements: Vec<Value> = (0..full).rev().map(|n| statement(n, true)).collect();
    (
        one(full),
        parsed(&json!({ "Version": "2012-10-17", "Statement": statements })),
    )
}

/// Returns the document with the same Sids and every statement changed.
fn changed(document: &Document) -> Document {
    let text = document
        .to_string()
        .replace(":role/team-", ":role/other-")
        .replace("ecr:PutImage", "ecr:ListImages");
    Document::parse(&text.replace("lambda:eu-west-1", "lambda:eu-west-3"))
        .expect("it was a document")
}

fn parsed(value: &Value) -> Document {
    Document::parse(&value.to_string()).expect("a document")
}

fn compare(c: &mut Criterion) {
    for (name, (one, other)) in [("packed", packed()), ("mixed", mixed())] {
        let (text, size) = (one.to_string(), one.characters());
        assert!(
            one.same_meaning(&other) && Difference::between(&one, &other).is_empty(),
            "{name}"
        );
        assert!(
            (MAX_CHARACTERS - 300..=MAX_CHARACTERS).contains(&size),
            "{name}: {size}"
        );
        let changed = changed(&one);
        assert!(!one.same_meaning(&changed), "{name}");
        let mut group = c.benchmark_group(name);
        group.bench_function("parse", |b| b.iter(|| Document::parse(black_box(&text))));
        group.bench_function("canonical", |b| b.iter(|| black_box(&one).canonical()));
        group.bench_function("same meaning", |b| {
            b.iter(|| black_box(&one).same_meaning(black_box(&other)))
        });
        group.bench_function("difference, none", |b| {
            b.iter(|| Difference::between(black_box(&one), black_box(&other)))
        });
        group.bench_function("difference, all", |b| {
            b.iter(|| Difference::between(black_box(&one), black_box(&changed)))
        });
        group.bench_function("canonical forms, equality and difference", |b| {
            b.iter(|| {
                let (one, other) = (black_box(&one).canonical(), black_box(&changed).canonical());
                (one.same_meaning(&other), Difference::between(&one, &other))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, compare);
criterion_main!(benches);
