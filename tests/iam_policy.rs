//! `registry-grants iam-policy` prints what an account's admin can apply as it is, in every form
//! the same.

use rstest::rstest;
use serde_json::{Value, json};
use std::process::{Command, Output};

const OPERATOR: &str =
    "--operator-role-arn arn:aws:iam::333333333333:role/registry-grants-operator --external-id abc";

fn run(arguments: &str) -> Output {
    let arguments = arguments
        .split_whitespace()
        .filter(|argument| !argument.is_empty());
    Command::new(env!("CARGO_BIN_EXE_registry-grants"))
        .arg("iam-policy")
        .args(arguments)
        .output()
        .unwrap()
}

fn printed(arguments: &str) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(arguments: &str) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

/// All documents for account 1…, of this side.
fn documents(side: &str, more: &str) -> Value {
    json_of(&format!(
        "{OPERATOR} --account {side} --account-id 111111111111 {more}"
    ))
}

fn refused(arguments: &str) -> String {
    let output = run(arguments);
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{arguments} was taken"
    );
    String::from_utf8(output.stderr).unwrap()
}

fn statement<'a>(document: &'a Value, sid: &str) -> &'a Value {
    let statements = document["Statement"].as_array().unwrap();
    statements
        .iter()
        .find(|statement| statement["Sid"] == sid)
        .unwrap_or_else(|| panic!("no {sid} in {document:#}"))
}

#[rstest]
#[case("--account registry")]
#[case("--account consumer")]
#[case("--account registry --account consumer --installation 0123456789ab")]
fn templates_contain_the_same_documents(#[case] sides: &str) {
    let plain = json_of(&format!("{OPERATOR} {sides} --account-id 111111111111"));
    let expected = [&plain["boundary"], &plain["trust"], &plain["permissions"]];

    let mut template = json_of(&format!("{OPERATOR} {sides} --format cloudformation"));
    let parameters = template["Parameters"].take();
    let values = [
        ("AWS::AccountId", "111111111111"),
        (
            "OperatorRoleArn",
            parameters["OperatorRoleArn"]["Default"].as_str().unwrap(),
        ),
        (
            "ExternalId",
            parameters["ExternalId"]["Default"].as_str().unwrap(),
        ),
    ];
    let resources = substituted(template["Resources"].take(), &values);
    let role = &resources["ManagementRole"]["Properties"];
    let boundary = &resources["Boundary"]["Properties"]["PolicyDocument"];
    assert_eq!(
        [
            boundary,
            &role["AssumeRolePolicyDocument"],
            &role["Policies"][0]["PolicyDocument"]
        ],
        expected
    );

    let hcl = printed(&format!("{OPERATOR} {sides} --format terraform"));
    let hcl = hcl.replace(
        "${data.aws_caller_identity.registry_grants.account_id}",
        "111111111111",
    );
    let hcl = hcl.replace(
        "var.operator_role_arn",
        "\"arn:aws:iam::333333333333:role/registry-grants-operator\"",
    );
    let hcl = hcl.replace("var.external_id", "\"abc\"");
    let encoded = hcl
        .split("jsonencode(")
        .skip(1)
        .map(|text| text.split_once("})").unwrap().0.to_owned() + "}");
    let encoded: Vec<Value> = encoded
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect();
    assert_eq!(encoded.iter().collect::<Vec<_>>(), expected);
}

/// What CloudFormation makes of `Fn::Sub`.
fn substituted(value: Value, values: &[(&str, &str)]) -> Value {
    match value {
        Value::Object(fields) => {
            if let Some(text) = fields.get("Fn::Sub").and_then(Value::as_str) {
                let filled = |text: String, (name, value): &(&str, &str)| {
                    text.replace(&format!("${{{name}}}"), value)
                };
                return values.iter().fold(text.to_owned(), filled).into();
            }
            fields
                .into_iter()
                .map(|(key, value)| (key, substituted(value, values)))
                .collect()
        }
        Value::Array(items) => items
            .into_iter()
            .map(|item| substituted(item, values))
            .collect(),
        plain => plain,
    }
}

#[test]
fn account_with_both_roles_gets_both_sets_of_permissions() {
    let both = json_of(&format!(
        "{OPERATOR} --account registry --account consumer --account-id 111111111111"
    ));
    for side in ["registry", "consumer"] {
        let one = documents(side, "");
        for document in ["trust", "permissions"] {
            for wanted in one[document]["Statement"].as_array().unwrap() {
                let found = statement(&both[document], wanted["Sid"].as_str().unwrap());
                let actions = |statement: &Value| match &statement["Action"] {
                    Value::Array(list) => list.clone(),
                    one => vec![one.clone()],
                };
                assert!(
                    actions(wanted)
                        .iter()
                        .all(|action| actions(found).contains(action)),
                    "{wanted} in {found}"
                );
                assert_eq!(found["Condition"], wanted["Condition"]);
            }
        }
    }
    assert_eq!(
        both["permissions"]["Statement"].as_array().unwrap().len(),
        19
    );
}

#[test]
fn trust_policy_accepts_pod_identity_and_named_tags() {
    let keys = |more: &str| {
        let trust = json_of(&format!(
            "{OPERATOR} --account registry --account-id 111111111111 --document trust {more}"
        ));
        let keys = &statement(&trust, "ForWhomItWorks")["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"];
        keys.as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let usual = keys("");
    assert_eq!(usual.len(), 8, "{usual:?}");
    assert!(
        ["eks-cluster-arn", "kubernetes-pod-uid"]
            .iter()
            .all(|key| usual.contains(&(*key).to_owned())),
        "{usual:?}"
    );
    let more = keys("--session-tag-key team --session-tag-key CostCenter");
    assert!(
        more.len() == 10 && more.contains(&"team".to_owned()),
        "{more:?}"
    );
    for wrong in ["*", "${x}", "\"x"] {
        assert!(
            refused(&format!(
                "{OPERATOR} --account registry --account-id 111111111111 --session-tag-key {wrong}"
            ))
            .contains("--session-tag-key")
        );
    }
}

#[test]
fn named_installation_is_the_only_accepted_tag() {
    let pinned = documents("consumer", "--installation 0123456789ab").to_string();
    assert!(!pinned.contains("\"Null\""), "{pinned}");
    let permissions = &documents("consumer", "--installation 0123456789ab")["permissions"];
    let change = &statement(permissions, "ChangeAndRemoveOwnRoles")["Condition"];
    assert_eq!(
        *change,
        json!({"StringEquals": {"aws:ResourceTag/registrygrants.dev/installation": "0123456789ab"}})
    );
    let tag = &statement(permissions, "TagRoles")["Condition"]["StringEqualsIfExists"];
    assert_eq!(
        tag["aws:ResourceTag/registrygrants.dev/installation"],
        "0123456789ab"
    );
}

#[test]
fn narrower_repositories_narrow_policies_and_boundaries() {
    let more = "--repository team-b/* --repository team-b/app --repository web --region eu-west-1 --region us-east-1";
    let narrow = documents("registry", more);
    let arns = json!([
        "arn:aws:ecr:eu-west-1:111111111111:repository/web",
        "arn:aws:ecr:eu-west-1:111111111111:repository/team-b/*",
        "arn:aws:ecr:us-east-1:111111111111:repository/web",
        "arn:aws:ecr:us-east-1:111111111111:repository/team-b/*",
    ]);
    assert_eq!(
        statement(&narrow["permissions"], "RepositoryPolicies")["Resource"],
        arns
    );
    assert_eq!(
        statement(&narrow["boundary"], "PullAndPush")["Resource"],
        arns
    );
    // A list of all repositories is not to be had of some.
    let find = &statement(&narrow["permissions"], "FindRepositories")["Resource"];
    assert_eq!(find[0], "arn:aws:ecr:eu-west-1:111111111111:repository/*");
}

#[test]
fn custom_names_and_path_appear_in_all_documents() {
    let named = documents(
        "consumer",
        "--path /x/y/ --role-name the-role --boundary-name the-boundary",
    );
    let create = statement(&named["permissions"], "CreateBoundedAndTaggedRoles");
    assert_eq!(create["Resource"], "arn:aws:iam::111111111111:role/x/y/*");
    let boundary = "arn:aws:iam::111111111111:policy/the-boundary";
    assert_eq!(
        create["Condition"]["ArnEquals"]["iam:PermissionsBoundary"],
        boundary
    );
    let itself = &statement(&named["permissions"], "NeverChangeItself")["Resource"];
    let roles = [
        "arn:aws:iam::111111111111:role/the-role",
        "arn:aws:iam::111111111111:role/*/the-role",
    ];
    assert_eq!(*itself, json!([roles[0], roles[1], boundary]));
    assert_eq!(
        statement(&named["boundary"], "RolesOfRegistries")["Resource"],
        "arn:aws:iam::*:role/x/y/*"
    );
    assert!(
        !named.to_string().contains("registry-grants/")
            && !named.to_string().contains("registry-grants-boundary")
    );
    assert_eq!(
        statement(&named["operator"], "BecomeTheManagementRoles")["Resource"],
        "arn:aws:iam::*:role/the-role"
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let said =
        refused("--account consumer --format terraform --repository app --region cn-north-1");
    assert!(
        said.contains("--repository goes with") && said.contains("--region cn-north-1 is not in"),
        "{said}"
    );
}

#[test]
fn no_policy_is_attachable_without_managed_policies() {
    let none = documents("registry", "--no-managed-policies").to_string();
    assert!(
        !none.contains("iam:AttachRolePolicy") && !none.contains("ecr:DescribeImages"),
        "{none}"
    );
    // What somebody else attached is still taken off.
    assert!(none.contains("iam:DetachRolePolicy"), "{none}");
}

#[rstest]
#[case("aws-cn", "ec2.amazonaws.com.cn")]
#[case("aws-us-gov", "ec2.amazonaws.com")]
#[case("aws-eusc", "ec2.amazonaws.com")]
fn other_partition_appears_in_every_arn(#[case] partition: &str, #[case] ec2: &str) {
    let operator = OPERATOR.replace("arn:aws:", &format!("arn:{partition}:"));
    let sides = "--account registry --account consumer --account-id 111111111111";
    let text = printed(&format!("{operator} {sides} --partition {partition}"));
    assert!(
        !text.contains("arn:aws:") && text.contains(&format!("arn:{partition}:ecr:")),
        "{text}"
    );
    assert!(
        text.contains(&format!("\"iam:PassedToService\": \"{ec2}\"")),
        "{text}"
    );
}

#[rstest]
#[case("", "--account is needed")]
#[case("--account both", "--account")]
#[case("--account registry", "--account-id is needed")]
#[case("--account registry --account-id 11111111111", "--account-id")]
#[case(
    "--account registry --account-id 111111111111",
    "--operator-role-arn is needed"
)]
#[case(
    "--account registry --format cloudformation --account-id 111111111111",
    "--account-id goes with --format json"
)]
#[case(
    "--account registry --format terraform --document trust",
    "--document goes with --format json"
)]
#[case(
    "--account registry --format terraform --output-dir x",
    "--output-dir goes with --format json"
)]
#[case(
    "--account consumer --format terraform --repository app",
    "--repository goes with --account registry"
)]
#[case(
    "--account consumer --format terraform --region us-east-1",
    "--region goes with --account registry"
)]
#[case(
    "--account registry --format terraform --region cn-north-1",
    "--region cn-north-1 is not in --partition aws"
)]
#[case("--account registry --format terraform --region east", "--region")]
#[case("--account registry --format terraform --repository A", "--repository")]
#[case(
    "--account registry --format terraform --repository ${x}",
    "--repository"
)]
#[case("--account registry --format terraform --path /", "--path")]
#[case("--account registry --format terraform --path /*/", "--path")]
#[case("--account registry --format terraform --role-name a/b", "--role-name")]
#[case(
    "--account registry --format terraform --boundary-name \"x\"",
    "--boundary-name"
)]
#[case(
    "--account registry --format terraform --external-id x",
    "--external-id"
)]
#[case(
    "--account registry --format terraform --external-id ${x}",
    "--external-id"
)]
#[case(
    "--account registry --format terraform --installation X",
    "--installation"
)]
#[case(
    "--account registry --format terraform --partition aws-iso",
    "--partition"
)]
#[case(
    "--account registry --format terraform --managed-policy AdministratorAccess",
    "--managed-policy"
)]
#[case(
    "--account registry --format terraform --operator-role-arn arn:aws:iam::333333333333:user/x",
    "--operator-role-arn"
)]
#[case(
    "--account registry --format terraform --operator-role-arn arn:aws:iam::333333333333:role/*",
    "--operator-role-arn"
)]
#[case(
    "--account registry --format terraform --operator-role-arn arn:aws-cn:iam::333333333333:role/x",
    "--operator-role-arn"
)]
fn invalid_input_is_refused_naming_the_flag(#[case] arguments: &str, #[case] expected: &str) {
    let said = refused(arguments);
    assert!(said.contains(expected), "{said}");
}

#[test]
fn oversized_document_is_refused_with_its_length() {
    let many: String = (0..200)
        .map(|n| format!("--repository a-rather-long-name-of-a-repository-{n} "))
        .collect();
    for form in [
        "--account-id 111111111111",
        "--format cloudformation",
        "--format terraform",
    ] {
        let said = refused(&format!("{OPERATOR} --account registry {many} {form}"));
        assert!(
            said.contains("`permissions`")
                && said.contains("10240")
                && said.contains("--repository"),
            "{said}"
        );
    }
    let id = "x".repeat(1_200);
    let role = format!("arn:aws:iam::333333333333:role/{}", "r".repeat(500));
    let long = format!(
        "--account registry --account-id 111111111111 --external-id {id} --operator-role-arn {role}/"
    );
    assert!(refused(&long).contains("--operator-role-arn"));
    let said = printed(&format!(
        "{OPERATOR} --account registry --account-id 111111111111 --document trust"
    ));
    assert!(said.len() < 2_048);
}

#[test]
fn missing_external_id_is_warned_of_on_standard_error() {
    let role = "--operator-role-arn arn:aws:iam::333333333333:role/x";
    let output = run(&format!(
        "--account registry --account-id 111111111111 {role} --document trust"
    ));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["Statement"][0]["Condition"].is_null());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--external-id"));
}
