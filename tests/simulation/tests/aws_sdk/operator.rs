//! The operator's own calls: its sessions, interceptors and checks take part.

use crate::{A, B, OPERATOR, REGION, clock, ec2, pull, trust, world};
use registry_grants::api::account::AWSAccountSpec;
use registry_grants::api::conditions::Reason;
use registry_grants::aws::ecr::PolicyRead;
use registry_grants::aws::write_permit::Leadership;
use registry_grants::aws::{Account, Aws};
use registry_grants::grant::Problem;
use registry_grants::policy::Document;
use registry_grants::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use simulation::aws::World;
use std::sync::Arc;
use std::time::Duration;

/// A world whose account A trusts the operator, and the operator's sessions in it.
fn operator() -> (World, Aws) {
    let world = world();
    let own = world.root(OPERATOR);
    let arn = own.create_role("operator", &ec2()).expect("a new role");
    let management = trust(&json!({"AWS": arn}));
    let root = world.root(A);
    root.create_role("management", &management)
        .expect("a new role");
    let credentials = own.session("operator", 43_200, &[]).expect("a session");
    let timeout = Duration::from_secs(10);
    let config = world.sdk_config(credentials, timeout, clock());
    let installation = "0123456789ab".parse().expect("an installation's ID");
    let aws = Aws::new(config, &installation, timeout, Metrics::default(), clock());
    (world, aws)
}

async fn account(aws: &Aws) -> Result<Arc<Account>, Problem> {
    let role = format!("arn:aws:iam::{A}:role/management");
    let spec: Value = json!({"credentials": {"assumeRole": {"roleARN": role}}});
    let spec: AWSAccountSpec = serde_json::from_value(spec).expect("a spec");
    let id = A.parse().expect("an account's ID");
    aws.account(&id, &spec, Some("team-a")).await
}

#[tokio::test(start_paused = true)]
async fn operator_reads_and_writes_through_its_session() {
    let (world, aws) = operator();
    let account = account(&aws).await.expect("a session");
    assert!(
        account
            .caller_arn
            .contains(":assumed-role/management/team-a@"),
        "{}",
        account.caller_arn
    );
    assert_eq!(account.now().to_string(), "2026-01-01T00:00:00Z");
    let role = account.role("management").await.expect("an answer");
    let role = role.expect("it exists");
    assert!(role.trust.is_ok() && role.tags.is_empty());
    assert!(account.role("none").await.expect("an answer").is_none());
    let read = async || account.repository_policy(REGION, "app").await;
    assert_eq!(read().await.expect("an answer"), PolicyRead::NoRepository);
    let root = world.root(A);
    root.create_repository(REGION, "app").expect("a repository");
    assert_eq!(read().await.expect("an answer"), PolicyRead::NoPolicy);
    let leadership = Leadership::always(Duration::from_secs(10));
    let document = Document::parse(&pull(&json!({"AWS": B}))).expect("a document");
    let permit = leadership.write_permit().expect("it leads");
    let written = account.set_repository_policy(REGION, "app", &document, permit);
    written.await.expect("a policy");
    let PolicyRead::Policy(text) = read().await.expect("an answer") else {
        panic!("the repository has no policy");
    };
    let written = Document::parse(&text).expect("a document");
    assert!(
        written
            .to_string()
            .contains(&format!("arn:aws:iam::{B}:root"))
    );
    assert_eq!(
        account.repositories(REGION).await.expect("an answer"),
        ["app"]
    );
    assert!(account.registry_policy(REGION).await.is_none());
    let pull_only = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly";
    assert!(account.managed_policy(pull_only).await.document.is_ok());
}

#[tokio::test(start_paused = true)]
async fn account_that_does_not_trust_the_operator_is_unreachable() {
    let (world, aws) = operator();
    let root = world.root(A);
    root.set_trust("management", &ec2()).expect("a new trust");
    let problem = account(&aws).await.err().expect("no session");
    assert_eq!(problem.reason, Reason::CredentialsUnavailable);
    let by_operator = trust(&json!({"AWS": format!("arn:aws:iam::{OPERATOR}:root")}));
    root.set_trust("management", &by_operator)
        .expect("a new trust");
    tokio::time::advance(Duration::from_secs(2)).await;
    account(&aws).await.expect("a session");
}
