//! The oracle itself: it must object to a statement too many, one too few, and a foreign one
//! changed.

use serde_json::{Value, json};
use simulation::api_server::Kind;
use simulation::environment::{Environment, MANAGEMENT_ROLE};
use simulation::oracle::{Invariant, Oracle};
use std::time::Duration;

const A: &str = "111111111111";
const B: &str = "222222222222";
const C: &str = "444444444444";
const REGION: &str = "us-east-1";

/// A cluster with one grant of account B that works, and the policy that it asks for.
struct Case {
    environment: Environment,
    oracle: Oracle,
}

impl Case {
    fn new() -> Self {
        let environment = Environment::new(1);
        for account in [A, B, C] {
            environment.add_account(account);
        }
        let root = environment.aws.root(A);
        root.create_repository(REGION, "app").expect("a repository");
        environment.open_account(
            A,
            json!({"registry": {"rules": [{
                "namespaces": {"names": ["team"]}, "repositories": ["*"],
                "maxAccess": "PullPush", "consumers": [B, C],
            }]}}),
        );
        environment
            .api_server
            .create_namespace("team", &json!({}))
            .expect("a namespace");
        let case = Self {
            oracle: Oracle::watching(&environment.aws, &environment.api_server),
            environment,
        };
        case.apply("grant", B);
        case.set_policy(&[ours(B), foreign()]);
        case
    }

    /// Stores a grant that is ready.
    fn apply(&self, name: &str, consumer: &str) {
        let spec = json!({
            "access": "Pull",
            "registry": {"accountID": A, "regions": [REGION], "repositories": ["app"]},
            "consumer": {"accountID": consumer, "wholeAccount": true},
        });
        let api = &self.environment.api_server;
        let metadata = json!({"name": name, "namespace": "team"});
        let grant = json!({"metadata": metadata, "spec": spec});
        api.create(Kind::Grant, grant).expect("a grant");
        let key = simulation::api_server::Key::new(Kind::Grant, "team", name);
        let edited = api.edit_status(&key, |grant| {
            grant["status"] = json!({
                "observedGeneration": 1,
                "applied": {"spec": spec},
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                    "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            });
        });
        edited.expect("a status");
    }

    /// Writes the policy as the account's admin.
    fn set_policy(&self, statements: &[Value]) {
        let root = self.environment.aws.root(A);
        root.set_repository_policy(REGION, "app", &document(statements))
            .expect("a policy");
    }

    /// Reads the policy and writes another, as the operator.
    async fn read_and_write(&self, statements: &[Value]) {
        let root = self.environment.aws.root(A);
        let credentials = root.session(MANAGEMENT_ROLE, 3600, &[]).expect("a session");
        let clock = self.environment.clock.clone();
        let sdk = self
            .environment
            .aws
            .sdk_config(credentials, Duration::from_secs(10), clock);
        let ecr = aws_sdk_ecr::Client::new(&sdk);
        let read = ecr.get_repository_policy().repository_name("app").send();
        read.await.expect("the policy");
        ecr.set_repository_policy()
            .repository_name("app")
            .policy_text(document(statements))
            .send()
            .await
            .expect("the policy is written");
    }

    fn broken(&self) -> Vec<Invariant> {
        let violations = self.oracle.violations();
        let mut broken: Vec<Invariant> = violations.iter().map(|one| one.invariant).collect();
        broken.sort();
        broken.dedup();
        broken
    }
}

fn document(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn ours(account: &str) -> Value {
    json!({
        "Sid": format!("RegistryGrants0123456789ab{account}"), "Effect": "Allow",
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
    })
}

fn foreign() -> Value {
    json!({
        "Sid": "SomebodyElse", "Effect": "Allow", "Action": "ecr:BatchGetImage",
        "Principal": {"AWS": format!("arn:aws:iam::{C}:root")},
    })
}

#[tokio::test(start_paused = true)]
async fn exact_access_has_no_differences() {
    let case = Case::new();
    assert_eq!(case.oracle.differences(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn statement_too_many_is_a_difference() {
    let case = Case::new();
    case.set_policy(&[ours(B), ours(C), foreign()]);
    let differences = case.oracle.differences();
    assert!(differences[0].contains(C), "{differences:?}");
}

#[tokio::test(start_paused = true)]
async fn statement_too_few_is_a_difference() {
    let case = Case::new();
    case.set_policy(&[foreign()]);
    let differences = case.oracle.differences();
    assert!(differences[0].contains(B), "{differences:?}");
}

#[tokio::test(start_paused = true)]
async fn write_that_keeps_everything_breaks_no_rule() {
    let case = Case::new();
    case.read_and_write(&[ours(B), ours(C), foreign()]).await;
    assert_eq!(case.broken(), []);
}

#[tokio::test(start_paused = true)]
async fn foreign_statement_changed_breaks_a_rule() {
    let case = Case::new();
    let mut changed = foreign();
    changed["Action"] = json!("ecr:PutImage");
    case.read_and_write(&[ours(B), changed]).await;
    assert_eq!(case.broken(), [Invariant::ForeignStatementLost]);
}

#[tokio::test(start_paused = true)]
async fn access_of_a_working_grant_removed_breaks_a_rule() {
    let case = Case::new();
    case.read_and_write(&[ours(C), foreign()]).await;
    assert_eq!(case.broken(), [Invariant::AccessLost]);
}

#[tokio::test(start_paused = true)]
async fn grant_let_go_with_its_access_left_breaks_a_rule() {
    let case = Case::new();
    let api = &case.environment.api_server;
    let client = api.connect("operator").client("team");
    let grants: kube::Api<registry_grants::api::CrossAccountRegistryGrant> =
        kube::Api::namespaced(client, "team");
    grants
        .delete("grant", &kube::api::DeleteParams::default())
        .await
        .expect("it is deleted");
    assert_eq!(case.broken(), [Invariant::RevocationIncomplete]);
}
