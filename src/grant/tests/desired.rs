//! Desired state for a grant, measured against the article's manual set-up. The article's role has
//! no path; ours has the account's path.

use super::resources::{CONSUMER, Cluster, REGISTRY, grant, grant_with_plain_role, owner, strings};
use crate::api::account::Partition;
use crate::api::grant::{Access, AccessPath, CrossAccountRegistryGrantSpec as Spec, ManagedPolicy};
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::policy::{Document, Statement};
use rstest::rstest;
use serde_json::{Value, json};

/// `1-role-trust.json`: the trust policy of the role in the registry account.
const ROLE_TRUST: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::222222222222:root" },
      "Action": "sts:AssumeRole",
      "Condition": {}
    }
  ]
}"#;

/// `3-instance-role-trust.json`: the trust policy of the role in the consumer account.
const INSTANCE_ROLE_TRUST: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": { "Service": "ec2.amazonaws.com" },
      "Action": "sts:AssumeRole"
    }
  ]
}"#;

fn registry_role(change: impl FnOnce(&mut Spec)) -> DesiredRole {
    Cluster::of_the_article()
        .desired(&grant_with_plain_role(change))
        .registry_role
        .expect("a role in the registry")
}

fn instance(change: impl FnOnce(&mut Spec)) -> DesiredInstance {
    Cluster::of_the_article()
        .desired(&grant_with_plain_role(change))
        .instance
        .expect("an instance role")
}

fn document(statement: &Statement) -> Document {
    Document::of([statement.clone()])
}

/// Returns the statements of a policy, without the parts that every document has.
fn statements(document: &Document) -> Value {
    let mut whole: Value = serde_json::from_str(&document.to_string()).unwrap();
    whole["Statement"].take()
}

fn inline(role: &DesiredRole) -> Value {
    let (name, document) = role.inline.as_ref().expect("an inline policy");
    assert!(
        name.starts_with("registry-grants-team-b-miq-devops-"),
        "{name}"
    );
    statements(document)
}

#[test]
fn registry_role_trusts_the_consumer_and_has_the_managed_policy() {
    let role = Cluster::of_the_article()
        .desired(&grant(|_| {}))
        .registry_role
        .unwrap();
    assert!(
        document(&role.trust).same_meaning(&Document::parse(ROLE_TRUST).unwrap()),
        "{:?}",
        role.trust
    );
    assert_eq!(role.name, "ECS-AssumeRole-MIQDevOps");
    assert_eq!(role.path, "/registry-grants/");
    assert_eq!(
        role.attached,
        ["arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser".to_owned()].into()
    );
    assert_eq!(role.inline, None);
    assert_eq!(role.max_session_seconds, Some(3600));
}

#[test]
fn instance_role_trusts_ec2() {
    let instance = Cluster::of_the_article()
        .desired(&grant(|_| {}))
        .instance
        .unwrap();
    let trust = document(&instance.role.trust);
    assert!(
        trust.same_meaning(&Document::parse(INSTANCE_ROLE_TRUST).unwrap()),
        "{trust}"
    );
    assert_eq!(
        (instance.role.name.as_str(), instance.profile.as_deref()),
        ("miq-instance", Some("miq-instance"))
    );
    assert_eq!(instance.role.path, "/registry-grants/");
}

#[test]
fn instance_role_policy_allows_what_both_paths_need() {
    let instance = Cluster::of_the_article()
        .desired(&grant(|_| {}))
        .instance
        .unwrap();
    assert_eq!(
        inline(&instance.role),
        json!([
            { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
            {
                "Effect": "Allow",
                "Action": [
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:InitiateLayerUpload",
                    "ecr:ListImages",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart"
                ],
                "Resource": "arn:aws:ecr:us-east-1:111111111111:repository/miqp-devops"
            },
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Resource": "arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps"
            }
        ])
    );
}

#[test]
fn direct_path_alone_needs_neither_registry_role_nor_sts() {
    let asked = grant(|spec| spec.paths = vec![AccessPath::Direct]);
    let desired = Cluster::of_the_article().desired(&asked);
    assert_eq!(desired.registry_role, None);
    let policy = inline(&desired.instance.unwrap().role).to_string();
    assert!(
        policy.contains("ecr:PutImage") && !policy.contains("sts:"),
        "{policy}"
    );
}

#[test]
fn role_path_alone_allows_the_instance_role_only_to_assume() {
    let policy = inline(&instance(|spec| spec.paths = vec![AccessPath::AssumeRole]).role);
    let role = "arn:aws:iam::111111111111:role/registry-grants/puller";
    assert_eq!(
        policy,
        json!([{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role }])
    );
}

#[test]
fn pull_never_contains_an_action_that_writes() {
    let pull = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
    ];
    for policy in [
        inline(&registry_role(|spec| spec.access = Access::Pull)),
        inline(&instance(|s| s.access = Access::Pull).role),
    ] {
        assert_eq!(policy[0]["Action"], json!("ecr:GetAuthorizationToken"));
        assert_eq!(policy[1]["Action"], json!(pull));
    }
}

#[test]
fn registry_role_reaches_only_the_named_repositories() {
    let cluster =
        Cluster::of_the_article().registry_rules([super::resources::registry_rule(|rule| {
            rule.repositories = strings(["*"])
        })]);
    let asked = grant_with_plain_role(|spec| {
        spec.registry.regions = strings(["us-east-1", "eu-central-1"]);
        spec.registry.repositories = strings(["web", "team-b/*"]);
    });
    let policy = inline(&cluster.desired(&asked).registry_role.unwrap());
    assert_eq!(
        policy[1]["Resource"],
        json!([
            "arn:aws:ecr:eu-central-1:111111111111:repository/web",
            "arn:aws:ecr:eu-central-1:111111111111:repository/team-b/*",
            "arn:aws:ecr:us-east-1:111111111111:repository/web",
            "arn:aws:ecr:us-east-1:111111111111:repository/team-b/*"
        ])
    );
    assert_eq!(
        policy[0]["Action"],
        json!("ecr:GetAuthorizationToken"),
        "only the token has no resource"
    );
}

#[test]
fn managed_policies_replace_the_inline_policy() {
    let role = registry_role(|spec| {
        let role = spec.registry.role.as_mut().unwrap();
        role.managed_policies = vec![ManagedPolicy::AmazonEC2ContainerRegistryPowerUser];
    });
    assert_eq!((role.inline, role.attached.len()), (None, 1));
    let least = registry_role(|_| {});
    assert!(least.inline.is_some() && least.attached.is_empty());
}

#[test]
fn narrowed_trust_allows_only_the_named_roles() {
    let role = registry_role(|spec| {
        spec.consumer.whole_account = None;
        spec.consumer.instance_role = None;
        spec.consumer.roles = Some(strings(["ci/*", "nodes/web"]));
    });
    assert_eq!(
        statements(&document(&role.trust)),
        json!([{
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": { "AWS": "arn:aws:iam::222222222222:root" },
            "Condition": { "ArnLike": { "aws:PrincipalArn": [
                "arn:aws:iam::222222222222:role/ci/*",
                "arn:aws:iam::222222222222:role/nodes/web"
            ] } }
        }])
    );
}

#[rstest]
#[case::not_said(None)]
#[case::said_to_be_false(Some(false))]
fn consumer_with_only_an_instance_role_gives_only_it_access(#[case] whole_account: Option<bool>) {
    let role = registry_role(|spec| spec.consumer.whole_account = whole_account);
    let like = json!({ "ArnLike": { "aws:PrincipalArn": "arn:aws:iam::222222222222:role/registry-grants/miq-instance" } });
    assert_eq!(statements(&document(&role.trust))[0]["Condition"], like);
}

#[test]
fn trust_names_the_instance_role_under_its_accounts_path() {
    let cluster = Cluster::of_the_article()
        .consumer_rules([super::resources::consumer_rule(|rule| {
            rule.roles = strings(["nodes/*"])
        })])
        .roles(CONSUMER, |roles| roles.path = "/nodes/".into())
        .roles(REGISTRY, |roles| roles.path = "/shared/".into());
    let desired = cluster.desired(&grant_with_plain_role(|spec| {
        spec.consumer.whole_account = None
    }));
    let trust = document(&desired.registry_role.as_ref().unwrap().trust).to_string();
    assert!(
        trust.contains("arn:aws:iam::222222222222:role/nodes/miq-instance"),
        "{trust}"
    );
    let policy = inline(&desired.instance.unwrap().role).to_string();
    assert!(
        policy.contains("arn:aws:iam::111111111111:role/shared/puller"),
        "{policy}"
    );
}

#[test]
fn external_id_is_required_in_addition_to_the_narrowing() {
    let role = registry_role(|spec| {
        spec.consumer.whole_account = None;
        spec.registry.role.as_mut().unwrap().external_id = Some("ticket-7".into());
    });
    assert_eq!(
        statements(&document(&role.trust))[0]["Condition"],
        json!({
            "ArnLike": { "aws:PrincipalArn": "arn:aws:iam::222222222222:role/registry-grants/miq-instance" },
            "StringEquals": { "sts:ExternalId": "ticket-7" }
        })
    );
}

// The suffixes of the hosts are those of the SDK's partition data, see `crate::aws::session`.
#[rstest]
#[case(
    Partition::Aws,
    "eu-west-1",
    "aws",
    "ec2.amazonaws.com",
    "amazonaws.com"
)]
#[case(
    Partition::AwsCn,
    "cn-north-1",
    "aws-cn",
    "ec2.amazonaws.com.cn",
    "amazonaws.com.cn"
)]
#[case(
    Partition::AwsUsGov,
    "us-gov-west-1",
    "aws-us-gov",
    "ec2.amazonaws.com",
    "amazonaws.com"
)]
#[case(
    Partition::AwsEusc,
    "eusc-de-east-1",
    "aws-eusc",
    "ec2.amazonaws.com",
    "amazonaws.eu"
)]
fn desired_state_uses_the_accounts_partition(
    #[case] partition: Partition,
    #[case] region: &str,
    #[case] name: &str,
    #[case] ec2: &str,
    #[case] suffix: &str,
) {
    let cluster = Cluster::of_the_article()
        .account(REGISTRY, |spec| spec.partition = partition)
        .account(CONSUMER, |spec| spec.partition = partition);
    let asked = grant(|spec| spec.registry.regions = strings([region]));
    let desired = cluster.desired(&asked);
    let admitted = cluster.admitted(&asked);
    assert_eq!(
        admitted.registry_hosts(),
        [format!("111111111111.dkr.ecr.{region}.{suffix}")]
    );
    let text = format!("{desired:?} {:?}", admitted.contributions(region, true));
    let arns: Vec<&str> = text
        .split("arn:")
        .skip(1)
        .filter_map(|arn| arn.split(':').next())
        .collect();
    assert!(
        !arns.is_empty() && arns.iter().all(|partition| *partition == name),
        "{arns:?}"
    );
    assert_eq!(
        statements(&document(&desired.instance.unwrap().role.trust))[0]["Principal"],
        json!({ "Service": ec2 })
    );
}

#[test]
fn created_roles_have_owner_tags_and_the_boundary() {
    let boundary = "arn:aws:iam::111111111111:policy/boundary";
    let cluster = Cluster::of_the_article().roles(REGISTRY, |roles| {
        roles.permissions_boundary = Some(boundary.into())
    });
    let desired = cluster.desired(&grant(|_| {}));
    let (role, instance) = (
        desired.registry_role.unwrap(),
        desired.instance.unwrap().role,
    );
    assert_eq!(
        (role.boundary.as_deref(), instance.boundary),
        (Some(boundary), None)
    );
    for tags in [role.tags, instance.tags] {
        assert!(owner().owns(&tags));
        insta::allow_duplicates! { insta::assert_json_snapshot!(tags, @r#"
        {
          "registrygrants.dev/grant": "team-b/miq-devops",
          "registrygrants.dev/grant-uid": "11111111-2222-3333-4444-555555555555",
          "registrygrants.dev/installation": "0123456789ab"
        }
        "#); }
    }
}

#[test]
fn policy_name_of_a_long_grant_name_fits_iam() {
    let mut long = owner();
    long.grant.namespace = "n".repeat(63);
    long.grant.name = "x".repeat(190);
    assert!(long.policy_name().len() <= 128);
    let mut other = long.clone();
    other.grant.name = "x".repeat(189);
    assert_ne!(long.policy_name(), other.policy_name());
    assert!(long.tags().values().all(|value| value.len() <= 256));
}
