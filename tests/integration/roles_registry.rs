//! The registry role: active sessions that end, and handmade roles that are adopted.

use crate::support::case::{Case, GRANT, document};
use crate::support::foreign_roles::adoption_consent;
use crate::support::operator_documents::generated;
use anyhow::{Result, ensure};
use aws_sdk_iam::types::Tag;
use local_stack::{Emulation, IamCalls as _, MANAGEMENT_ROLE, eventually};
use serde_json::json;

#[tokio::test]
async fn narrowed_trust_ends_active_sessions() -> Result<()> {
    let case = Case::with_accounts().await?;
    let roles = |roles: &[&str]| json!({"paths": ["AssumeRole"], "consumer": {"wholeAccount": null, "instanceRole": null, "roles": roles}});
    let (deployer, old) = (
        case.admin_session("deployer").await?,
        case.admin_session("old").await?,
    );
    case.admin_session("new").await?;
    case.granted(roles(&["deployer", "old"])).await?;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/pusher-grant",
        case.pair.registry
    );
    let session = old.assume(&role).await?.allowed()?;
    session
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;

    // The trust policy is widened: no principal loses access.
    case.granted(roles(&["deployer", "old", "new"])).await?;
    session
        .push(&case.repository("app"), "v2")
        .await?
        .allowed()?;

    case.granted(roles(&["deployer"])).await?;
    old.assume(&role).await?.denied()?;
    session
        .push(&case.repository("app"), "v3")
        .await?
        .denied()?;
    // A principal that still has access gets a new session.
    eventually("a new session works", async || {
        let session = deployer.assume(&role).await?.allowed()?;
        session
            .push(&case.repository("app"), "v4")
            .await?
            .allowed()
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn reverting_widened_trust_ends_active_sessions() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.admin_session("deployer").await?;
    case.granted(
        json!({"consumer": {"wholeAccount": null, "instanceRole": null, "roles": ["deployer"]}}),
    )
    .await?;
    let intruder = case.admin_session("intruder").await?;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/pusher-grant",
        case.pair.registry
    );
    let anybody = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"});
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.set_trust_policy("pusher-grant", document(anybody))
        .await?;
    let early = intruder.assume(&role).await?.allowed()?;
    early.push(&case.repository("app"), "v1").await?.allowed()?;

    // In the middle of the correction, the first sessions have ended, but the trust policy is not
    // narrowed yet.
    let emulation = Emulation::of(case.stack());
    emulation
        .hold(&case.pair.registry, "UpdateAssumeRolePolicy")
        .await?;
    case.annotate(GRANT, "reconcile", "repair").await?;
    emulation
        .until_held(&case.pair.registry, "UpdateAssumeRolePolicy")
        .await?;
    early.push(&case.repository("app"), "v2").await?.denied()?;
    // The start of a session has whole seconds: this session is not among those that the first
    // statement ends.
    let late = eventually("a session of the time between", async || {
        let session = intruder.assume(&role).await?.allowed()?;
        session
            .push(&case.repository("app"), "v2")
            .await?
            .allowed()?;
        Ok(session)
    })
    .await?;
    emulation
        .release(&case.pair.registry, "UpdateAssumeRolePolicy")
        .await?;

    case.reconcile().await?;
    intruder.assume(&role).await?.denied()?;
    for session in [early, late] {
        session
            .push(&case.repository("app"), "v3")
            .await?
            .denied()?;
    }
    Ok(())
}

/// A role that was created by hand, as in the article.
async fn hand_made(case: &Case<'_>) -> Result<()> {
    let iam = case.stack().aws(&case.pair.registry).iam;
    let consumer = format!("arn:aws:iam::{}:root", case.pair.consumer);
    let trust = document(
        json!({"Effect": "Allow", "Principal": {"AWS": consumer}, "Action": "sts:AssumeRole"}),
    );
    iam.create_role()
        .role_name("ECS-AssumeRole")
        .assume_role_policy_document(trust)
        .send()
        .await?;
    let all = document(json!({"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}));
    iam.put_inline_policy("ECS-AssumeRole", "all", all).await?;
    let allowed = generated(
        &case.pair.registry,
        &["--account=registry", "--allow-adopt"],
        None,
    )?;
    iam.put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, allowed)
        .await?;
    Ok(())
}

#[tokio::test]
async fn handmade_role_is_adopted_only_if_tagged_for_the_grant() -> Result<()> {
    let case = Case::with_accounts().await?;
    hand_made(&case).await?;
    let adopted = json!({
        "registry": {"role": {"name": "ECS-AssumeRole", "adopt": true, "path": "/"}},
        "consumer": {"instanceRole": null},
    });
    let untouched = case.registry().await?.roles["ECS-AssumeRole"].clone();
    case.apply(&case.grant(adopted)).await?;
    let message = case.not_ready("Conflict").await?;
    let consent = adoption_consent(&case).await?;
    ensure!(
        message.contains(&format!("registrygrants.dev/allow-adopt={consent}")),
        "{message}"
    );
    let tag = |value: &str| {
        Tag::builder()
            .key("registrygrants.dev/allow-adopt")
            .value(value)
            .build()
    };
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.tag_role()
        .role_name("ECS-AssumeRole")
        .tags(tag(&format!("{}/grant", case.namespace))?)
        .send()
        .await?;
    case.reconcile().await?;
    let after = case.registry().await?.roles["ECS-AssumeRole"].clone();
    ensure!(
        after.inline == untouched.inline && after.trust == untouched.trust,
        "it was written to: {after:?}"
    );

    let message = case.not_ready("Conflict").await?;
    ensure!(
        message.contains(&consent),
        "the tag to set is not told: {message}"
    );

    iam.tag_role()
        .role_name("ECS-AssumeRole")
        .tags(tag(&consent)?)
        .send()
        .await?;
    case.ready().await?;
    let role = case.registry().await?.roles["ECS-AssumeRole"].clone();
    ensure!(
        role.id == untouched.id && role.arn == untouched.arn,
        "it is another role: {role:?}"
    );
    ensure!(
        !role.inline.contains_key("all") && role.boundary.is_some(),
        "it is not as the grant says: {role:?}"
    );
    let deployer = case.admin_session("deployer").await?;
    deployer
        .assume(&role.arn)
        .await?
        .allowed()?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    ensure!(
        !case.registry().await?.roles.contains_key("ECS-AssumeRole"),
        "what was taken over goes with the grant"
    );
    Ok(())
}
