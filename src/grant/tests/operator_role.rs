//! Permissions of the operator's own role, and of the roles that it creates, in the documents that
//! `iam-policy` prints.

use super::resources::{CONSUMER, REGISTRY};
use crate::api::account::Partition;
use crate::api::grant::ManagedPolicy;
use crate::grant::operator_role::OperatorRole;
use crate::policy::evaluate::{
    Link, Named, Policies, Principal, Request, RequestContext, Verdict, evaluate,
};
use crate::policy::{Document, Statement};
use rstest::rstest;

fn management(registry: bool, consumer: bool) -> OperatorRole {
    OperatorRole {
        registry,
        consumer,
        account: CONSUMER.into(),
        partition: Partition::Aws,
        operator_role: "arn:aws:iam::333333333333:role/operator".into(),
        external_id: None,
        path: "/registry-grants/".into(),
        role: "registry-grants".into(),
        boundary: "registry-grants-boundary".into(),
        repositories: vec!["team-b/*".parse().unwrap()],
        regions: Vec::new(),
        installation: None,
        managed_policies: Vec::new(),
        extend: false,
        adopt: false,
        session_tag_keys: Vec::new(),
    }
}

fn everything() -> Statement {
    Statement::allow(["*"]).on(["*"])
}

/// Evaluates the access of a role in the consumer account to a repository, if all policies but its
/// boundary allow everything. (In its own account the role needs no repository policy.)
fn within(boundary: Document, account: &str, repository: &str) -> Verdict {
    let role = format!("arn:aws:iam::{CONSUMER}:role/registry-grants/node");
    let request = Request {
        principal: Principal::role(role, CONSUMER, None),
        action: "ecr:PutImage".into(),
        resource: format!("arn:aws:ecr:us-east-1:{account}:repository/{repository}"),
        resource_account: account.into(),
        context: RequestContext::default(),
    };
    let of_repository = Statement::allow(["ecr:*"]).to_principals(["*"]);
    let policies = Policies {
        identity: vec![Named::new("identity", Document::of([everything()]))],
        boundary: Some(Named::new("boundary", boundary)),
        resource: (account != CONSUMER)
            .then(|| Named::new("repository", Document::of([of_repository])))
            .into_iter()
            .collect(),
    };
    evaluate(&request, &policies)
}

#[test]
fn consumers_boundary_excludes_its_own_other_repositories() {
    let consumer = || management(false, true).boundary();
    assert_eq!(within(consumer(), REGISTRY, "any"), Verdict::Allowed);
    for own in ["any", "team-b/web"] {
        let verdict = within(consumer(), CONSUMER, own);
        assert!(matches!(verdict, Verdict::Denied(_)), "{own}: {verdict:?}");
    }
    let both = || management(true, true).boundary();
    assert_eq!(within(both(), REGISTRY, "any"), Verdict::Allowed);
    assert_eq!(within(both(), CONSUMER, "team-b/web"), Verdict::Allowed);
    assert!(matches!(
        within(both(), CONSUMER, "any"),
        Verdict::Denied(_)
    ));
}

#[rstest]
#[case("role/registry-grants")]
#[case("role/team/registry-grants")]
#[case("role/team/cluster/registry-grants")]
fn operator_role_cannot_change_itself_under_any_path(#[case] role: &str) {
    let arn = format!("arn:aws:iam::{CONSUMER}:{role}");
    let request = Request {
        principal: Principal::role(&arn, CONSUMER, None),
        action: "iam:PutRolePolicy".into(),
        resource: arn.clone(),
        resource_account: CONSUMER.into(),
        context: RequestContext::default(),
    };
    let permissions = Named::new("permissions", management(true, true).permissions());
    let identity = vec![
        permissions,
        Named::new("more", Document::of([everything()])),
    ];
    let Verdict::Denied(links) = evaluate(
        &request,
        &Policies {
            identity,
            ..Policies::default()
        },
    ) else {
        panic!("{arn} may change itself");
    };
    assert!(
        links
            .iter()
            .any(|link| matches!(link, Link::ExplicitDeny { statement, .. } if statement == "NeverChangeItself"))
    );
}

#[rstest]
#[case("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser", true)]
#[case("arn:aws-cn:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly", true)]
#[case("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly", true)]
#[case("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryFullAccess", false)]
#[case("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUserX", false)]
#[case(
    "arn:aws:iam::aws:policy/x:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser",
    false
)]
#[case(
    "arn:aws:iam::111111111111:policy/AmazonEC2ContainerRegistryPowerUser",
    false
)]
fn ecr_managed_policies_are_recognized_by_their_full_arns(#[case] arn: &str, #[case] is_one: bool) {
    assert_eq!(ManagedPolicy::is_one(arn), is_one);
}
