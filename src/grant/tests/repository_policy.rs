//! Contributions of grants to a repository policy, from the resource to the document.

use super::resources::{
    Cluster, grant, grant_with_plain_role, installation, organization, registry_rule, strings,
};
use crate::api::grant::{Access, AccessPath, CrossAccountRegistryGrant, RegistryRoleSpec};
use crate::policy::Document;
use crate::policy::repository::{self, GrantContribution, PolicyUpdate};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `2-repository-policy.json`, except for the role's path.
const REPOSITORY_POLICY: &str = r#"{
  "Version": "2008-10-17",
  "Statement": [
    {
      "Sid": "new statement",
      "Effect": "Allow",
      "Principal": {
        "AWS": [
          "arn:aws:iam::222222222222:root",
          "arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps"
        ]
      },
      "Action": [
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "ecr:BatchCheckLayerAvailability",
        "ecr:PutImage",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:ListImages"
      ]
    }
  ]
}"#;

/// Returns the policy of a repository that had none, with this grant in it.
fn policy(resource: &CrossAccountRegistryGrant) -> Option<Document> {
    let contributions = Cluster::of_the_article()
        .admitted(resource)
        .contributions("us-east-1", true);
    let grants = [GrantContribution {
        id: 1,
        contributions,
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }];
    match repository::plan(None, &grants, &installation())
        .unwrap()
        .change
    {
        PolicyUpdate::Set(document) => Some(document),
        PolicyUpdate::None => None,
        PolicyUpdate::Delete => panic!("there is nothing to delete"),
    }
}

fn only_statement(resource: &CrossAccountRegistryGrant) -> Value {
    let mut statements = statements(&policy(resource).expect("a policy"));
    assert_eq!(statements.len(), 1, "{statements:#?}");
    statements.remove(0)
}

fn statements(document: &Document) -> Vec<Value> {
    let whole: Value = serde_json::from_str(&document.to_string()).unwrap();
    whole["Statement"].as_array().unwrap().clone()
}

#[test]
fn computed_policy_means_the_same_as_the_manual_one() {
    let made = policy(&grant(|_| {})).unwrap();
    assert!(
        made.same_meaning(&Document::parse(REPOSITORY_POLICY).unwrap()),
        "{made}"
    );
}

#[test]
fn registry_role_is_not_named_without_a_request() {
    let statement = only_statement(&grant_with_plain_role(|_| {}));
    assert_eq!(
        statement["Principal"],
        json!({ "AWS": "arn:aws:iam::222222222222:root" })
    );
    assert_eq!(statement.get("Condition"), None);
}

#[test]
fn pull_never_contains_an_action_that_writes() {
    let statement = only_statement(&grant_with_plain_role(|spec| spec.access = Access::Pull));
    let actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
    ];
    assert_eq!(statement["Action"], json!(actions));
}

#[test]
fn repository_policy_never_contains_the_token_action() {
    assert!(
        !policy(&grant(|_| {}))
            .unwrap()
            .to_string()
            .contains("GetAuthorizationToken")
    );
}

#[test]
fn role_path_alone_contributes_nothing() {
    assert_eq!(
        policy(&grant_with_plain_role(
            |spec| spec.paths = vec![AccessPath::AssumeRole]
        )),
        None
    );
}

#[test]
fn role_path_alone_names_only_the_registry_role_on_request() {
    let statement = only_statement(&grant(|spec| spec.paths = vec![AccessPath::AssumeRole]));
    let role = "arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps";
    assert_eq!(statement["Principal"], json!({ "AWS": role }));
}

#[test]
fn grant_without_a_role_names_none() {
    let statement = only_statement(&grant(|spec| spec.paths = vec![AccessPath::Direct]));
    assert_eq!(
        statement["Principal"],
        json!({ "AWS": "arn:aws:iam::222222222222:root" })
    );
}

#[test]
fn narrowing_limits_the_consumer_but_not_the_registry_role() {
    let document = policy(&grant(|spec| {
        spec.consumer.whole_account = None;
        spec.consumer.instance_role = None;
        spec.consumer.roles = Some(strings(["ci/*"]));
    }));
    let statements = statements(&document.unwrap());
    let role = "arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps";
    assert_eq!(statements.len(), 2);
    assert_eq!(statements[0]["Principal"], json!({ "AWS": role }));
    assert_eq!(statements[0].get("Condition"), None);
    assert_eq!(
        statements[1]["Principal"],
        json!({ "AWS": "arn:aws:iam::222222222222:root" })
    );
    let like = "arn:aws:iam::222222222222:role/ci/*";
    assert_eq!(
        statements[1]["Condition"],
        json!({ "ArnLike": { "aws:PrincipalArn": like } })
    );
}

#[test]
fn instance_role_of_an_unmanaged_account_has_the_default_path() {
    let cluster = Cluster::of_the_article().without(super::resources::CONSUMER);
    let admitted = cluster.admitted(&grant_with_plain_role(|spec| {
        spec.consumer.whole_account = None
    }));
    let contributions = admitted.contributions("us-east-1", true);
    assert_eq!(
        *contributions[0].callers.condition_values(),
        ["arn:aws:iam::222222222222:role/registry-grants/miq-instance".to_owned()].into()
    );
}

#[test]
fn registry_role_of_default_name_can_be_named() {
    let asked = grant(|spec| {
        spec.registry.role = Some(RegistryRoleSpec {
            name_in_repository_policy: true,
            ..RegistryRoleSpec::default()
        });
    });
    let cluster = Cluster::of_the_article().registry_rules([registry_rule(|_| {})]);
    let admitted = cluster.admitted(&asked);
    let arn = admitted.role.as_ref().unwrap().identity.arn();
    assert!(
        admitted.contributions("us-east-1", true)[1]
            .callers
            .principals()
            .contains(&arn)
    );
}

/// ECR refuses a policy that names a role which does not exist, with the statements of all grants
/// in it. And a grant that names another tenant's role must not give that role access.
#[test]
fn registry_role_not_known_to_be_ours_is_not_named() {
    let admitted = Cluster::of_the_article().admitted(&grant(|_| {}));
    let principals = |role_is_ours| {
        let contributions = admitted.contributions("us-east-1", role_is_ours);
        contributions
            .iter()
            .flat_map(|contribution| contribution.callers.principals().clone())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        principals(false),
        ["arn:aws:iam::222222222222:root".to_owned()].into()
    );
    assert_eq!(principals(true).len(), 2);
    let by_role_alone = Cluster::of_the_article()
        .admitted(&grant(|spec| spec.paths = vec![AccessPath::AssumeRole]));
    assert_eq!(by_role_alone.contributions("us-east-1", false), []);
    assert!(by_role_alone.touches_repository_policies());
}

#[test]
fn lambda_statement_is_limited_to_functions_of_the_region() {
    let asked = grant_with_plain_role(|spec| spec.consumer.lambda = Some(true));
    let statements = statements(&policy(&asked).unwrap());
    assert_eq!(statements.len(), 2);
    assert_eq!(
        statements[1]["Principal"],
        json!({ "Service": "lambda.amazonaws.com" })
    );
    assert_eq!(
        statements[1]["Action"],
        json!(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"])
    );
    let functions = "arn:aws:lambda:us-east-1:222222222222:function:*";
    assert_eq!(
        statements[1]["Condition"],
        json!({ "StringLike": { "aws:SourceArn": functions } })
    );
    assert_eq!(
        statements[0]["Principal"],
        json!({ "AWS": "arn:aws:iam::222222222222:root" })
    );
    let in_europe = Cluster::of_the_article()
        .admitted(&asked)
        .contributions("eu-west-1", true);
    assert_eq!(
        *in_europe[1].callers.condition_values(),
        ["arn:aws:lambda:eu-west-1:222222222222:function:*".to_owned()].into()
    );
}

fn of_organization(paths: &[&str]) -> Value {
    let asked = grant_with_plain_role(|spec| {
        spec.consumer = organization("o-a1b2c3d4e5", paths);
        spec.paths = vec![AccessPath::Direct];
    });
    let rule = registry_rule(|rule| rule.organizations = strings(["o-a1b2c3d4e5"]));
    let admitted = Cluster::of_the_article()
        .registry_rules([rule])
        .admitted(&asked);
    let grants = [GrantContribution {
        id: 1,
        contributions: admitted.contributions("us-east-1", true),
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }];
    let PolicyUpdate::Set(document) = repository::plan(None, &grants, &installation())
        .unwrap()
        .change
    else {
        panic!()
    };
    statements(&document).remove(0)
}

#[test]
fn organizations_are_matched_by_id_and_units_by_path() {
    let whole = of_organization(&[]);
    assert_eq!(whole["Principal"], json!({ "AWS": "*" }));
    assert_eq!(
        whole["Condition"],
        json!({ "StringEquals": { "aws:PrincipalOrgID": "o-a1b2c3d4e5" }, "StringNotEquals": { "aws:PrincipalAccount": "111111111111" } })
    );
    let unit = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*";
    let units = of_organization(&[unit]);
    assert_eq!(
        units["Condition"],
        json!({ "ForAnyValue:StringLike": { "aws:PrincipalOrgPaths": unit }, "StringNotEquals": { "aws:PrincipalAccount": "111111111111" } })
    );
}
