//! `registry-grants explain` offline: by policies in files.

mod cli;

use cli::Folder;
use rstest::rstest;
use serde_json::{Value, json};

const NODE: &str = "arn:aws:iam::222222222222:role/node";
const ROLE: &str = "arn:aws:iam::111111111111:role/pusher";
const REPOSITORY: &str = "arn:aws:ecr:us-east-1:111111111111:repository/web";

fn policy(statement: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statement}).to_string()
}

/// The policies of a pull that works, by either path.
fn files(test: &str) -> Folder {
    let images = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
    let images =
        |resource: &str| json!({"Effect": "Allow", "Action": images, "Resource": resource});
    let token = json!({"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"});
    let assume = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE});
    let principal = json!({"AWS": "arn:aws:iam::222222222222:root"});
    let repository = json!({"Effect": "Allow", "Principal": principal, "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]});
    let trust = json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "ours"}}});
    let organization = json!({"Effect": "Deny", "Principal": "*", "Action": "ecr:*", "Sid": "others",
        "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-ours"}}});
    Folder::new(test)
        .with("identity.json", policy(json!([token, images(REPOSITORY), assume])))
        .with("role.json", policy(json!([token, images("*")])))
        .with("repository.json", policy(json!([repository.clone()])))
        .with("organization.json", policy(json!([repository, organization])))
        .with("trust.json", policy(json!([trust])))
        .with(
            "deny.json",
            policy(json!([{"Sid": "Stop", "Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*"}])),
        )
        .with("nothing.json", policy(json!([])))
        .with("broken.json", "{")
}

const ASKED: [&str; 7] = [
    "explain",
    "--principal",
    NODE,
    "--action",
    "pull",
    "--repository",
    REPOSITORY,
];
const DIRECT: [&str; 4] = [
    "--identity-policy",
    "identity.json",
    "--resource-policy",
    "repository.json",
];

fn explain(test: &str, arguments: &[&str]) -> (i32, String, String) {
    files(test).run(&[&ASKED[..], arguments].concat(), "")
}

#[rstest]
#[case::allowed(&DIRECT, 0, "Allowed: ")]
#[case::no_resource_policy(&DIRECT[..2], 2, "the resource's policy does not allow it")]
#[case::no_identity_policy(&DIRECT[2..], 2, "no policy of the principal allows it")]
#[case::explicit_deny(&["--identity-policy", "identity.json", "--identity-policy", "deny.json", "--resource-policy", "repository.json"], 2,
    "statement Stop of deny.json denies it")]
#[case::boundary(&["--identity-policy", "identity.json", "--boundary", "nothing.json", "--resource-policy", "repository.json"], 2,
    "the permissions boundary does not allow it")]
#[case::depends(&["--identity-policy", "identity.json", "--resource-policy", "organization.json"], 3, "depends on aws:PrincipalOrgID")]
#[case::told(&["--identity-policy", "identity.json", "--resource-policy", "organization.json", "--context", "aws:PrincipalOrgID=o-ours"], 0, "Allowed: ")]
#[case::told_otherwise(&["--identity-policy", "identity.json", "--resource-policy", "organization.json", "--context", "aws:PrincipalOrgID=o-x"], 2,
    "statement others of organization.json denies it")]
#[case::by_role(&["--identity-policy", "identity.json", "--assume", ROLE, "--trust-policy", "trust.json", "--role-policy", "role.json",
    "--external-id", "ours"], 0, "allowed sts:AssumeRole")]
#[case::wrong_external_id(&["--identity-policy", "identity.json", "--assume", ROLE, "--trust-policy", "trust.json", "--role-policy", "role.json",
    "--external-id", "other"], 2, "sts:ExternalId")]
#[case::role_without_policy(&["--identity-policy", "identity.json", "--assume", ROLE, "--trust-policy", "trust.json", "--external-id", "ours"], 2,
    "no policy of the principal allows it")]
fn exit_status_is_the_verdict_and_the_text_names_the_link(
    #[case] arguments: &[&str],
    #[case] status: i32,
    #[case] said: &str,
) {
    let (found, out, err) = explain("verdict", arguments);
    assert_eq!(found, status, "{out}{err}");
    assert!(out.contains(said), "{out}");
    assert!(
        out.contains("Policies read:") && out.contains("Not seen: organization policies"),
        "{out}"
    );
}

#[test]
fn json_output_has_the_same_verdict() {
    let (status, out, _) = explain("json", &[&DIRECT[..2], &["--output", "json"]].concat());
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, answer["verdict"].as_str()), (2, Some("denied")));
    let calls = answer["calls"].as_array().unwrap();
    let verdicts: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call["action"].as_str().unwrap(),
                call["verdict"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("ecr:GetAuthorizationToken", "allowed"),
        ("ecr:BatchGetImage", "denied"),
        ("ecr:GetDownloadUrlForLayer", "denied"),
    ];
    assert_eq!(verdicts, expected);
}

#[test]
fn single_action_is_explained_alone() {
    let asked = [
        "explain",
        "--principal",
        NODE,
        "--action",
        "ecr:ListImages",
        "--repository",
        REPOSITORY,
    ];
    let (status, out, _) = files("single").run(&[&asked[..], &DIRECT].concat(), "");
    assert_eq!(status, 2);
    assert!(
        out.contains("denied  ecr:ListImages") && !out.contains("BatchGetImage"),
        "{out}"
    );
}

#[rstest]
#[case::action(&["--action", "delete"], "neither pull nor push nor an action of ECR")]
#[case::repository(&["--repository", "web"], "is not a repository's ARN")]
#[case::a_tag(&["--repository", "arn:aws:ecr:us-east-1:111111111111:repository/web:latest"], "names no repository")]
#[case::a_digest(&["--repository", "arn:aws:ecr:us-east-1:111111111111:repository/web@sha256:00"], "names no repository")]
#[case::upper_case(&["--repository", "arn:aws:ecr:us-east-1:111111111111:repository/Web"], "names no repository")]
#[case::a_pattern(&["--repository", "arn:aws:ecr:us-east-1:111111111111:repository/team-b/*"], "names no repository")]
#[case::empty_name(&["--repository", "arn:aws:ecr:us-east-1:111111111111:repository/"], "names no repository")]
#[case::a_region(&["--repository", "arn:aws:ecr:US_EAST:111111111111:repository/web"], "is not a region")]
#[case::a_partition(&["--repository", "arn:aws-x:ecr:us-east-1:111111111111:repository/web"], "no partition that is known")]
#[case::a_roles_name(&["--principal", "arn:aws:iam::222222222222:role/no de"], "is not the ARN of a role")]
#[case::a_roles_path(&["--principal", "arn:aws:iam::222222222222:role/a//node"], "is not the ARN of a role")]
#[case::principal(&["--principal", "node"], "neither an ARN nor a service")]
#[case::session(&["--principal", "arn:aws:sts::222222222222:assumed-role/node/i-1"], "of a session, give its role")]
#[case::account(&["--principal", "arn:aws:iam::22:role/node"], "is not an AWS account number")]
#[case::not_a_role(&["--assume", "arn:aws:iam::111111111111:user/x"], "is not the ARN of a role")]
#[case::unreadable(&["--boundary", "broken.json"], "broken.json: line 1")]
#[case::missing(&["--boundary", "no.json"], "no.json: ")]
fn invalid_input_is_explained_with_exit_status_one(#[case] wrong: &[&str], #[case] said: &str) {
    let mut arguments = [&ASKED[..], &DIRECT].concat();
    // The last word on an argument is the one that counts here: the right one goes.
    if let Some(at) = arguments.iter().position(|argument| *argument == wrong[0]) {
        arguments.drain(at..at + 2);
    }
    arguments.extend(wrong);
    let (status, out, err) = files("wrong").run(&arguments, "");
    assert_eq!(status, 1, "{out}{err}");
    assert!(err.contains(said), "{err}");
}

#[test]
fn lambda_is_accepted_as_a_principal() {
    let lambda = json!({"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "ecr:BatchGetImage",
        "Condition": {"StringLike": {"aws:SourceArn": "arn:aws:lambda:us-east-1:222222222222:function:*"}}});
    let folder = files("lambda").with("lambda.json", policy(json!([lambda])));
    let ask = |context: &[&str]| {
        let asked = [
            "explain",
            "--principal",
            "lambda.amazonaws.com",
            "--action",
            "ecr:BatchGetImage",
            "--repository",
            REPOSITORY,
            "--resource-policy",
            "lambda.json",
        ];
        folder.run(&[&asked[..], context].concat(), "").0
    };
    assert_eq!(
        ask(&[
            "--context",
            "aws:SourceArn=arn:aws:lambda:us-east-1:222222222222:function:f"
        ]),
        0
    );
    assert_eq!(
        ask(&[
            "--context",
            "aws:SourceArn=arn:aws:lambda:us-east-1:333333333333:function:f"
        ]),
        2
    );
    assert_eq!(ask(&[]), 3);
    // It needs no token of its own.
    let both = json!({"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]});
    let folder = files("lambda-pull").with("lambda.json", policy(json!([both])));
    let pull = [
        "explain",
        "--principal",
        "lambda.amazonaws.com",
        "--action",
        "pull",
        "--repository",
        REPOSITORY,
    ];
    assert_eq!(
        folder
            .run(
                &[&pull[..], &["--resource-policy", "lambda.json"]].concat(),
                ""
            )
            .0,
        0
    );
}
