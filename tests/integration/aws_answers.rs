//! Incomplete answers of AWS, and answers that are not from AWS: the operator writes nothing and
//! forgets nothing because of them.

use crate::support::case::{Case, direct};
use anyhow::{Result, ensure};
use local_stack::{Document, Emulation, Repository, eventually};
use serde_json::json;

async fn sids(case: &Case<'_>, repository: &Repository) -> Result<Vec<String>> {
    let policy = repository.policy(case.stack()).await?;
    let statements = policy.map(|policy| policy.statements()).unwrap_or_default();
    Ok(statements
        .iter()
        .filter_map(|statement| statement["Sid"].as_str().map(String::from))
        .collect())
}

#[tokio::test]
async fn incomplete_policy_answer_is_not_treated_as_empty() -> Result<()> {
    const READ: &str = "GetRepositoryPolicy";
    let case = Case::with_accounts().await?;
    let emulation = Emulation::of(case.stack());
    let (app, registry) = (case.repository("app"), case.pair.registry.clone());
    let foreign = json!({"Sid": "foreign", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository"});
    app.set_policy(
        case.stack(),
        &Document(json!({"Version": "2012-10-17", "Statement": [foreign]})),
    )
    .await?;

    emulation
        .answer_with(&registry, READ, Some((200, "{}")))
        .await?;
    case.apply(&case.grant(direct(json!({})))).await?;
    let message = case.not_ready("Unavailable").await?;
    ensure!(message.contains("IncompleteAnswer"), "{message}");
    ensure!(
        sids(&case, &app).await? == ["foreign"],
        "written because of an incomplete answer"
    );

    emulation.answer_with(&registry, READ, None).await?;
    case.reconcile().await?;
    case.ready().await?;
    let both = sids(&case, &app).await?;
    ensure!(
        both.len() == 2 && both.contains(&"foreign".to_owned()),
        "{both:?}"
    );

    emulation
        .answer_with(
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

    emulation.answer_with(&registry, READ, None).await?;
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
    let emulation = Emulation::of(case.stack());
    emulation
        .answer_with(
            &case.pair.registry,
            "GetRepositoryPolicy",
            Some((400, REFUSED)),
        )
        .await?;
    case.apply(&case.grant(direct(json!({})))).await?;
    let message = case.not_ready("RegionNotEnabled").await?;
    ensure!(
        message.contains(&format!(
            "may not be enabled in account {}",
            case.pair.registry
        )),
        "{message}"
    );
    ensure!(!message.contains("spec.credentials"), "{message}");
    emulation
        .answer_with(&case.pair.registry, "GetRepositoryPolicy", None)
        .await?;
    case.reconcile().await?;
    case.ready().await?;
    Ok(())
}
