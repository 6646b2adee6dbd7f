//! Answers of AWS that are incomplete, or no answers of AWS at all: nothing is written and nothing
//! is forgotten because of them.

use crate::support::case::{Case, OPERATOR, merged};
use anyhow::{Result, ensure};
use local_stack::{Document, Repository, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Has such calls of the operator answered with this; `None`: carried out again.
async fn answer(
    case: &Case<'_>,
    account: &str,
    action: &str,
    with: Option<(u16, &str)>,
) -> Result<()> {
    let given = with.map_or(
        json!({}),
        |(status, body)| json!({"status": status, "body": body}),
    );
    let body = merged(json!({"account": account, "action": action}), given).to_string();
    let endpoint = case
        .installation
        .operator_settings(OPERATOR, &[])
        .aws_endpoint;
    let authority = endpoint.trim_start_matches("http://");
    let mut connection = TcpStream::connect(authority).await?;
    let head = format!(
        "POST /_stack/answer HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection
        .write_all(format!("{head}{body}").as_bytes())
        .await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

async fn sids(case: &Case<'_>, repository: &Repository) -> Result<Vec<String>> {
    let policy = repository.policy(case.stack()).await?;
    let statements = policy.map(|policy| policy.statements()).unwrap_or_default();
    Ok(statements
        .iter()
        .filter_map(|statement| statement["Sid"].as_str().map(String::from))
        .collect())
}

fn direct() -> Value {
    json!({"paths": ["Direct"], "consumer": {"instanceRole": null}, "registry": {"role": null}})
}

#[tokio::test]
async fn incomplete_policy_answer_is_not_treated_as_empty() -> Result<()> {
    const READ: &str = "GetRepositoryPolicy";
    let case = Case::with_accounts().await?;
    let (app, registry) = (case.repository("app"), case.pair.registry.clone());
    let foreign = json!({"Sid": "foreign", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository"});
    app.set_policy(
        case.stack(),
        &Document(json!({"Version": "2012-10-17", "Statement": [foreign]})),
    )
    .await?;

    answer(&case, &registry, READ, Some((200, "{}"))).await?;
    case.apply(&case.grant(direct())).await?;
    let message = case.not_ready("Unavailable").await?;
    ensure!(message.contains("IncompleteAnswer"), "{message}");
    ensure!(
        sids(&case, &app).await? == ["foreign"],
        "written because of an incomplete answer"
    );

    answer(&case, &registry, READ, None).await?;
    case.reconcile().await?;
    case.ready().await?;
    let both = sids(&case, &app).await?;
    ensure!(
        both.len() == 2 && both.contains(&"foreign".to_owned()),
        "{both:?}"
    );

    answer(
        &case,
        &registry,
        READ,
        Some((200, r#"{"__type":"RepositoryPolicyNotFoundException"}"#)),
    )
    .await?;
    case.begin_to_delete().await?;
    case.not_ready("Unavailable").await?;
    ensure!(
        sids(&case, &app).await? == both,
        "changed because of an incomplete answer"
    );

    answer(&case, &registry, READ, None).await?;
    eventually("the grant is gone", async || {
        let left = case.cluster().list(&case.namespace, "carg").await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    ensure!(
        sids(&case, &app).await? == ["foreign"],
        "a statement was left behind"
    );
    Ok(())
}

#[tokio::test]
async fn disabled_region_is_reported() -> Result<()> {
    const REFUSED: &str = r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
    let case = Case::with_accounts().await?;
    answer(
        &case,
        &case.pair.registry,
        "GetRepositoryPolicy",
        Some((400, REFUSED)),
    )
    .await?;
    case.apply(&case.grant(direct())).await?;
    let message = case.not_ready("RegionNotEnabled").await?;
    ensure!(
        message.contains(&format!(
            "may not be enabled in account {}",
            case.pair.registry
        )),
        "{message}"
    );
    ensure!(!message.contains("spec.credentials"), "{message}");
    answer(&case, &case.pair.registry, "GetRepositoryPolicy", None).await?;
    case.reconcile().await?;
    case.ready().await?;
    Ok(())
}
