//! Access by the direct path and by the registry role, for each of the consumer's identities.

use crate::support::case::Case;
use anyhow::{Context, Result, ensure};
use serde_json::json;

#[tokio::test]
async fn pull_access_does_not_allow_push() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    local_stack::Session::of_root(case.stack(), &case.pair.registry)
        .push(&app, "v1")
        .await?
        .allowed()?;
    let grant = case.granted(json!({"access": "Pull"})).await?;
    let instance = case.instance().await?;
    instance.pull(&app, "v1").await?.allowed()?;
    instance.push(&app, "v2").await?.denied()?;
    let by_role = instance
        .assume(
            grant["status"]["registry"]["roleARN"]
                .as_str()
                .context("no role")?,
        )
        .await?
        .allowed()?;
    by_role.pull(&app, "v1").await?.allowed()?;
    by_role.push(&app, "v2").await?.denied()?;
    // Not even a role that may do everything in its own account.
    case.admin_session("admin")
        .await?
        .push(&app, "v2")
        .await?
        .denied()?;
    Ok(())
}

#[tokio::test]
async fn direct_path_alone_creates_no_registry_role() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.registry().await?.roles;
    case.granted(json!({"paths": ["Direct"]})).await?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    ensure!(case.registry().await?.roles == before, "a role was made");
    Ok(())
}

#[tokio::test]
async fn assume_role_path_alone_creates_no_repository_policy() -> Result<()> {
    let case = Case::with_accounts().await?;
    let grant = case.granted(json!({"paths": ["AssumeRole"]})).await?;
    ensure!(
        case.repository("app").policy(case.stack()).await?.is_none(),
        "a repository policy was made"
    );
    let instance = case.instance().await?;
    instance
        .push(&case.repository("app"), "v1")
        .await?
        .denied()?;
    let by_role = instance
        .assume(
            grant["status"]["registry"]["roleARN"]
                .as_str()
                .context("no role")?,
        )
        .await?
        .allowed()?;
    by_role
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    Ok(())
}

#[tokio::test]
async fn access_narrowed_to_roles_excludes_other_roles() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let (inside, outside) = (
        case.admin_session("ci-deployer").await?,
        case.admin_session("somebody").await?,
    );
    let grant = case
        .granted(
            json!({"consumer": {"wholeAccount": null, "roles": ["ci-*"], "instanceRole": null}}),
        )
        .await?;
    let role = grant["status"]["registry"]["roleARN"]
        .as_str()
        .context("no role")?;
    inside.push(&app, "v1").await?.allowed()?;
    inside
        .assume(role)
        .await?
        .allowed()?
        .push(&app, "v2")
        .await?
        .allowed()?;
    outside.pull(&app, "v1").await?.denied()?;
    outside.assume(role).await?.denied()?;
    ensure!(
        grant["status"]["conditions"][0]["reason"] == "RegistrySideReady",
        "{}",
        grant["status"]
    );
    Ok(())
}

#[tokio::test]
async fn instance_role_is_the_only_one_admitted_when_named_alone() -> Result<()> {
    let case = Case::with_accounts().await?;
    let outside = case.admin_session("somebody").await?;
    case.granted(json!({"consumer": {"wholeAccount": null}}))
        .await?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    outside
        .pull(&case.repository("app"), "v1")
        .await?
        .denied()?;
    Ok(())
}

#[tokio::test]
async fn role_with_an_external_id_is_not_assumed_without_it() -> Result<()> {
    let case = Case::with_accounts().await?;
    let grant = case
        .granted(json!({"registry": {"role": {"externalID": "told-to-b"}}}))
        .await?;
    let role = grant["status"]["registry"]["roleARN"]
        .as_str()
        .context("no role")?;
    let instance = case.instance().await?;
    instance.assume(role).await?.denied()?;
    let with = instance
        .aws()
        .sts
        .assume_role()
        .role_arn(role)
        .role_session_name("instance")
        .external_id("told-to-b")
        .send()
        .await;
    with?;
    Ok(())
}

#[tokio::test]
async fn path_removed_from_the_spec_is_closed() -> Result<()> {
    let case = Case::with_accounts().await?;
    let grant = case.granted(json!({})).await?;
    let role = grant["status"]["registry"]["roleARN"]
        .as_str()
        .context("no role")?
        .to_owned();
    let admin = case.admin_session("admin").await?;
    admin.assume(&role).await?.allowed()?;

    case.apply(&case.grant(json!({"paths": ["Direct"]})))
        .await?;
    case.ready().await?;
    admin.assume(&role).await?.denied()?;
    ensure!(
        !case.registry().await?.roles.contains_key("pusher-grant"),
        "the role is still there"
    );
    admin.push(&case.repository("app"), "v1").await?.allowed()?;

    case.apply(&case.grant(json!({"paths": ["AssumeRole"]})))
        .await?;
    case.ready().await?;
    admin.push(&case.repository("app"), "v2").await?.denied()?;
    admin.assume(&role).await?.allowed()?;
    Ok(())
}
