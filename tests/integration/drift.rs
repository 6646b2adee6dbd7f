//! Roles that others change, delete or use: the operator restores its own parts and keeps foreign
//! ones.

use crate::support::case::{Case, GRANT, allows, assert_unchanged, condition, document, trusts};
use anyhow::{Context, Result, ensure};
use local_stack::{Document, IamCalls as _, eventually};
use serde_json::json;

#[tokio::test]
async fn manual_changes_to_the_registry_role_are_reverted() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({"registry": {"role": {"maxSessionSeconds": 7200}}}))
        .await?;
    let right = case.registry().await?;
    let iam = case.stack().aws(&case.pair.registry).iam;
    let role = "pusher-grant";
    let ours = right.roles[role]
        .inline
        .keys()
        .next()
        .context("no inline policy")?;
    iam.set_trust_policy(role, trusts("444444444444")).await?;
    iam.put_inline_policy(role, ours, allows("ecr:*")).await?;
    iam.put_inline_policy(role, "backdoor", allows("*")).await?;
    iam.attach_policy(
        role,
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
    )
    .await?;
    iam.update_role()
        .role_name(role)
        .max_session_duration(3600)
        .send()
        .await?;
    iam.delete_role_permissions_boundary()
        .role_name(role)
        .send()
        .await?;
    case.reconcile().await?;
    eventually("the role is as before", async || {
        let mut now = case.registry().await?;
        // Sessions from the time of the wide trust policy end.
        let ended = now
            .roles
            .get_mut(role)
            .and_then(|role| role.inline.remove("registry-grants-ended-sessions"));
        ensure!(
            ended.is_some(),
            "sessions that were given out meanwhile are not ended"
        );
        let differences = right.differences(&now);
        ensure!(differences.is_empty(), "{differences:?}");
        Ok(())
    })
    .await?;
    case.cluster()
        .event(&case.namespace, GRANT, &["DriftCorrected"])
        .await
        .map(drop)
}

#[tokio::test]
async fn deleted_roles_and_profiles_are_recreated() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let iam = case.stack().aws(&case.pair.consumer).iam;
    iam.remove_role_from_profile("node", "node").await?;
    iam.delete_instance_profile()
        .instance_profile_name("node")
        .send()
        .await?;
    for policy in case.consumer().await?.roles["node"].inline.keys() {
        iam.delete_inline_policy("node", policy).await?;
    }
    iam.delete_role().role_name("node").send().await?;
    case.reconcile().await?;
    eventually("role and profile are back", async || {
        let consumer = case.consumer().await?;
        let profile = consumer
            .instance_profiles
            .get("node")
            .context("no profile")?;
        ensure!(profile.roles.contains("node"), "{profile:?}");
        ensure!(
            consumer
                .roles
                .get("node")
                .is_some_and(|role| !role.inline.is_empty()),
            "no role"
        );
        Ok(())
    })
    .await?;
    eventually("the client gets in again", async || {
        case.instance()
            .await?
            .push(&case.repository("app"), "v1")
            .await?
            .allowed()
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn foreign_policies_on_the_instance_role_keep_the_role() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let iam = case.stack().aws(&case.pair.consumer).iam;
    let node =
        |state: &local_stack::AccountState| state.roles.get("node").cloned().context("no role");
    iam.put_inline_policy("node", "ssm", allows("ssm:UpdateInstanceInformation"))
        .await?;
    iam.attach_policy(
        "node",
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
    )
    .await?;
    let ours = node(&case.consumer().await?)?.trust;
    let extended = ours.with_statement(json!({
        "Sid": "Debugging", "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", case.pair.consumer)}, "Action": "sts:AssumeRole",
    }));
    iam.set_trust_policy("node", extended.to_string()).await?;

    // A change of the grant completes, so that an entire reconcile has read the role.
    case.granted(json!({"access": "Pull"})).await?;
    let kept = node(&case.consumer().await?)?;
    ensure!(
        kept.inline.contains_key("ssm") && kept.attached.len() == 1 && kept.trust == extended,
        "{kept:?}"
    );

    case.delete().await?;
    let left = case.consumer().await?;
    let role = node(&left)?;
    ensure!(
        role.inline.keys().eq(["ssm"]) && role.attached.len() == 1,
        "{role:?}"
    );
    let sids: Vec<_> = role
        .trust
        .statements()
        .iter()
        .map(|statement| statement["Sid"].clone())
        .collect();
    ensure!(sids == ["Debugging"], "{sids:?}");
    ensure!(
        left.instance_profiles.contains_key("node"),
        "the profile of a role that others use is gone"
    );

    case.granted(json!({})).await?;
    ensure!(
        node(&case.consumer().await?)?.inline.len() == 2,
        "the role was not taken up again"
    );
    Ok(())
}

#[tokio::test]
async fn removed_instance_role_trust_is_restored_beside_others() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let iam = case.stack().aws(&case.pair.consumer).iam;
    iam.set_trust_policy("node", trusts(&case.pair.consumer))
        .await?;
    case.reconcile().await?;
    eventually("EC2 may assume it again", async || {
        let trust: Document = case.consumer().await?.roles["node"].trust.clone();
        ensure!(
            trust.statements().len() == 2 && trust.to_string().contains("ec2.amazonaws.com"),
            "{trust}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deletion_succeeds_when_parts_are_already_gone() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    let root = case.stack().aws(&case.pair.registry);
    root.ecr
        .delete_repository()
        .repository_name("app")
        .force(true)
        .send()
        .await?;
    case.delete().await?;
    case.repository("app").create(case.stack()).await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn registry_role_in_use_is_named_and_removed_once_free() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.create_instance_profile()
        .instance_profile_name("holder")
        .send()
        .await?;
    iam.add_role_to_profile("holder", "pusher-grant").await?;
    case.begin_to_delete().await?;
    let message = case.not_ready("StillInUse").await?;
    ensure!(
        message.contains("pusher-grant") && message.contains(&case.pair.registry),
        "{message}"
    );
    ensure!(
        case.repository("app").policy(case.stack()).await?.is_none(),
        "access goes first, whatever else is stuck"
    );
    iam.remove_role_from_profile("holder", "pusher-grant")
        .await?;
    case.cluster().wait_until_gone(&case.namespace, GRANT).await
}

#[tokio::test]
async fn exhausted_quota_is_named() -> Result<()> {
    let case = Case::with_accounts().await?;
    let grant = case.granted(json!({})).await?;
    ensure!(condition(&grant, "RoleReady").is_some(), "{grant}");
    let iam = case.stack().aws(&case.pair.consumer).iam;
    // Foreign policies use up the limit on all inline policies of a role.
    let filler = document(
        json!({"Effect": "Deny", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{}", "x".repeat(9_300))}),
    );
    iam.put_inline_policy("node", "filler", filler).await?;
    let many: Vec<String> = (0..20)
        .map(|number| format!("team/a-rather-long-name-of-a-repository-{number}*"))
        .collect();
    case.apply(&case.grant(json!({"registry": {"repositories": many}})))
        .await?;
    let message = case.not_ready("QuotaExceeded").await?;
    ensure!(
        message.contains("node") && message.contains(&case.pair.consumer),
        "{message}"
    );
    Ok(())
}
