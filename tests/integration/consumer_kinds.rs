//! Consumers that are not roles of one account: organizations, their units, and Lambda.

use crate::support::case::{Case, merged};
use anyhow::{Context, Result, ensure};
use local_stack::{Emulation, Outcome, Repository, ServiceCall, Session, role_with_policy};
use serde_json::{Value, json};

/// Returns a session of a role without its own permissions. It can do what the resource's policy
/// alone allows.
async fn powerless<'a>(case: &Case<'a>, account: &str) -> Result<Session<'a>> {
    let trust = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
    let token = json!({"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"});
    let document = crate::support::case::document;
    let role = role_with_policy(
        &case.stack().aws(account),
        "powerless",
        document(trust),
        document(token),
    )
    .await?;
    Session::of_instance(case.stack(), &role).await?.allowed()
}

fn of_organization(id: &str, paths: Option<Vec<String>>) -> Value {
    let organization = paths.map_or_else(
        || json!({"id": id}),
        |paths| json!({"id": id, "paths": paths}),
    );
    json!({"consumer": {"accountID": null, "wholeAccount": null, "instanceRole": null, "organization": organization}})
}

#[tokio::test]
async fn organization_access_narrows_to_the_named_units() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let emulation = Emulation::of(case.stack());
    let id = format!("o-c{}", &case.pair.consumer);
    let unit = format!("{id}/r-ab12/ou-ab12-11111111/");
    // The registry account is also in the organization, as usual.
    emulation
        .join_organization(&case.pair.registry, Some(&format!("{id}/r-ab12/")))
        .await?;
    let inside = case.admin_session("inside").await?;
    let at_home = powerless(&case, &case.pair.registry).await?;

    case.apply(&case.grant(of_organization(&id, None))).await?;
    let message = case.not_ready("NotAdmitted").await?;
    ensure!(message.contains(&id), "{message}");
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"organizations": [id]}))]}}),
    ))
    .await?;
    let grant = case.ready().await?;
    let role = grant["status"]["registry"]["roleARN"]
        .as_str()
        .context("no role")?
        .to_owned();
    inside.push(&app, "v1").await?.denied()?;
    inside.assume(&role).await?.denied()?;

    emulation
        .join_organization(&case.pair.consumer, Some(&unit))
        .await?;
    inside.push(&app, "v1").await?.allowed()?;
    inside
        .assume(&role)
        .await?
        .allowed()?
        .pull(&app, "v1")
        .await?
        .allowed()?;
    // A statement for everybody also allows the owner's identities, whatever their own policies
    // allow. So the owner is excluded.
    at_home.pull(&app, "v1").await?.denied()?;
    at_home.assume(&role).await?.denied()?;

    case.granted(of_organization(&id, Some(vec![format!("{unit}*")])))
        .await?;
    inside.push(&app, "v2").await?.allowed()?;
    case.granted(of_organization(
        &id,
        Some(vec![format!("{id}/r-ab12/ou-ab12-22222222/*")]),
    ))
    .await?;
    inside.push(&app, "v3").await?.denied()?;
    inside.assume(&role).await?.denied()?;
    Ok(())
}

async fn lambda(
    case: &Case<'_>,
    repository: &Repository,
    account: &str,
    region: &str,
    action: &str,
) -> Result<Outcome<()>> {
    let source_arn = format!("arn:aws:lambda:{region}:{account}:function:thumbnails");
    let service = "lambda.amazonaws.com";
    let call = ServiceCall {
        service,
        action,
        repository,
        source_arn: &source_arn,
        source_account: account,
    };
    Emulation::of(case.stack()).service_may(&call).await
}

#[tokio::test]
async fn lambda_pulls_images_only_for_the_consumers_functions() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let pull = "ecr:BatchGetImage";
    let asked = |lambda: bool| {
        merged(
            json!({"consumer": {"instanceRole": null}}),
            json!({"consumer": {"lambda": lambda}}),
        )
    };
    case.granted(asked(false)).await?;
    lambda(&case, &app, &case.pair.consumer, "us-east-1", pull)
        .await?
        .denied()?;
    case.granted(asked(true)).await?;
    lambda(&case, &app, &case.pair.consumer, "us-east-1", pull)
        .await?
        .allowed()?;
    lambda(
        &case,
        &app,
        &case.pair.consumer,
        "us-east-1",
        "ecr:PutImage",
    )
    .await?
    .denied()?;
    lambda(&case, &app, &case.pair.consumer, "eu-west-1", pull)
        .await?
        .denied()?;
    lambda(&case, &app, "444444444444", "us-east-1", pull)
        .await?
        .denied()?;
    case.granted(asked(false)).await?;
    lambda(&case, &app, &case.pair.consumer, "us-east-1", pull)
        .await?
        .denied()?;
    Ok(())
}
