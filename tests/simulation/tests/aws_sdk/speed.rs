//! How many calls a second the in-memory AWS answers. Run it with
//! `cargo test -p simulation --release --test aws_sdk -- --ignored --nocapture speed`.

use crate::{A, B, Clients, REGION, ec2, pull, world};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use simulation::aws::World;
use std::time::Instant;

const ROLES: usize = 300;
const CALLS: usize = 10_000;

/// Creates an account with many roles, and a repository whose policy names all of them.
fn crowded() -> (World, String) {
    let world = world();
    let (a, b) = (world.root(A), world.root(B));
    let mut arns = Vec::new();
    for number in 0..ROLES {
        let name = format!("r{number}");
        arns.push(b.create_role(&name, &ec2()).expect("a new role"));
    }
    arns.truncate(190);
    let text = pull(&json!({"AWS": arns}));
    a.create_repository(REGION, "app").expect("a repository");
    a.set_repository_policy(REGION, "app", &text)
        .expect("a policy of nearly 10,240 characters");
    (world, text)
}

fn shown(what: &str, calls: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what}: {:.0} calls a second", calls as f64 / seconds);
}

async fn ask(world: &World, account: &str, service: &str, operation: &str, body: &str) {
    let mut request = HttpRequest::new(SdkBody::from(body));
    let scope = format!("{account}/20260101/{REGION}/{service}/aws4_request");
    let headers = request.headers_mut();
    headers.insert(
        "authorization",
        format!("AWS4-HMAC-SHA256 Credential={scope},"),
    );
    if service == "ecr" {
        headers.insert("x-amz-target", format!("ECR.{operation}"));
    }
    let answer = world.call(request).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
#[ignore = "it measures"]
async fn speed_of_answers_without_the_sdk() {
    let (world, text) = crowded();
    let get_role = "Action=GetRole&Version=2010-05-08&RoleName=r7";
    let list = "Action=ListRoles&Version=2010-05-08&PathPrefix=%2F";
    let get: Value = json!({"repositoryName": "app"});
    let set: Value = json!({"repositoryName": "app", "policyText": text});
    for (account, service, operation, body) in [
        (B, "iam", "GetRole", get_role.to_owned()),
        (B, "iam", "ListRoles", list.to_owned()),
        (A, "ecr", "GetRepositoryPolicy", get.to_string()),
        (A, "ecr", "SetRepositoryPolicy", set.to_string()),
    ] {
        let begun = Instant::now();
        for _ in 0..CALLS / 10 {
            ask(&world, account, service, operation, &body).await;
        }
        shown(operation, CALLS / 10, begun);
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "it measures"]
async fn speed_of_calls_through_the_sdk() {
    let (world, _) = crowded();
    let clients = Clients::root(&world, B);
    let begun = Instant::now();
    for number in 0..CALLS {
        let name = format!("r{}", number % ROLES);
        let read = clients.iam.get_role().role_name(name).send().await;
        read.expect("it exists");
    }
    shown("GetRole through the SDK", CALLS, begun);
}
