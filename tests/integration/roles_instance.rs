//! Instance roles that several grants share, that others created, or that stay after their grant.

use crate::support::case::{Case, assert_unchanged};
use crate::support::foreign_roles::create_worker_role;
use anyhow::{Context, Result, ensure};
use aws_sdk_iam::types::Tag;
use futures::future::try_join_all;
use local_stack::{AccountState, IamCalls as _, eventually};
use serde_json::{Value, json};

fn node(state: &AccountState) -> Result<local_stack::Role> {
    state
        .roles
        .get("node")
        .cloned()
        .context("there is no role node")
}

#[tokio::test]
async fn shared_instance_role_is_removed_with_its_last_grant() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.repository("team/web").create(case.stack()).await?;
    let before = case.accounts().await?;
    let names = ["first", "second", "third"];
    let grant = |name: &str| {
        case.grant_named(
            name,
            json!({"registry": {"repositories": ["app", "team/web"]}}),
        )
    };
    for name in names {
        case.apply(&grant(name)).await?;
    }
    try_join_all(names.map(|name| {
        let (cluster, namespace) = (case.cluster(), case.namespace.clone());
        async move {
            cluster
                .wait_for_condition(&namespace, &format!("carg/{name}"), "Ready")
                .await
        }
    }))
    .await?;
    ensure!(
        node(&case.consumer().await?)?.inline.len() == 3,
        "each grant has a policy of its own on the role"
    );

    // The grant that created it is deleted first.
    let delete = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("carg/{name}")).collect();
        for name in &names {
            case.cluster()
                .begin_to_delete(&case.namespace, name)
                .await?;
        }
        for name in &names {
            case.cluster()
                .wait_until_gone(&case.namespace, name)
                .await?;
        }
        anyhow::Ok(())
    };
    let maker = node(&case.consumer().await?)?.tags["registrygrants.dev/grant"].clone();
    let maker = maker.rsplit('/').next().unwrap_or_default();
    delete(&[maker]).await?;
    ensure!(
        node(&case.consumer().await?)?.inline.len() == 2,
        "more or less than that grant's policy went"
    );
    case.instance()
        .await?
        .push(&case.repository("team/web"), "v1")
        .await?
        .allowed()?;

    let others: Vec<&str> = names.into_iter().filter(|name| *name != maker).collect();
    delete(&others).await?;
    case.stack()
        .aws(&case.pair.registry)
        .ecr
        .batch_delete_image()
        .repository_name("team/web")
        .image_ids(
            aws_sdk_ecr::types::ImageIdentifier::builder()
                .image_tag("v1")
                .build(),
        )
        .send()
        .await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn role_wanted_in_another_profile_is_not_shared() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let other = json!({"consumer": {"instanceRole": {"instanceProfile": "others"}}});
    case.apply(&case.grant_named("other", other)).await?;
    let message = case.not_ready_named("carg/other", "Conflict").await?;
    ensure!(
        message.contains("role/registry-grants/node") && message.contains("grant"),
        "{message}"
    );
    ensure!(
        !case
            .consumer()
            .await?
            .instance_profiles
            .contains_key("others"),
        "something was made for it"
    );
    Ok(())
}

async fn consents(case: &Case<'_>, value: &str) -> Result<()> {
    let tag = Tag::builder()
        .key("registrygrants.dev/allow-extend")
        .value(value)
        .build()?;
    case.stack()
        .aws(&case.pair.consumer)
        .iam
        .tag_role()
        .role_name("worker")
        .tags(tag)
        .send()
        .await?;
    Ok(())
}

fn extends() -> Value {
    json!({"consumer": {"wholeAccount": null, "instanceRole": {"name": "worker", "management": "Extend", "path": "/nodes/"}}})
}

#[tokio::test]
async fn consenting_foreign_role_is_extended_and_left_without_trace() -> Result<()> {
    let case = Case::with_accounts().await?;
    create_worker_role(&case, "ec2.amazonaws.com").await?;
    consents(&case, "true").await?;
    let before = case.accounts().await?;
    consents(&case, "no").await?;
    case.apply(&case.grant(extends())).await?;
    let message = case.not_ready("ConsentMissing").await?;
    ensure!(
        message.contains("registrygrants.dev/allow-extend")
            && message.contains("role/nodes/worker"),
        "{message}"
    );
    consents(&case, "true").await?;
    case.ready().await?;

    let role = case.consumer().await?.roles["worker"].clone();
    ensure!(
        role.inline.len() == 2 && role.tags == before.1.roles["worker"].tags,
        "{role:?}"
    );
    ensure!(
        role.trust == before.1.roles["worker"].trust,
        "the trust policy was changed: {}",
        role.trust
    );
    let instance = local_stack::Session::of_instance(case.stack(), &role.arn)
        .await?
        .allowed()?;
    instance
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    let gone = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_tag("v1")
        .build();
    let ecr = case.stack().aws(&case.pair.registry).ecr;
    ecr.batch_delete_image()
        .repository_name("app")
        .image_ids(gone)
        .send()
        .await?;
    assert_unchanged(&before, &case.accounts().await?)
}

/// Field case 06.
#[tokio::test]
async fn extending_a_role_leaves_its_trust_policy_alone() -> Result<()> {
    let case = Case::with_accounts().await?;
    create_worker_role(&case, "ecs-tasks.amazonaws.com").await?;
    consents(&case, "true").await?;
    let trust = case.consumer().await?.roles["worker"].trust.clone();
    case.granted(extends()).await?;
    let role = case.consumer().await?.roles["worker"].clone();
    ensure!(role.trust == trust && role.inline.len() == 2, "{role:?}");
    case.delete().await?;
    ensure!(
        case.consumer().await?.roles["worker"].trust == trust,
        "the trust policy was changed"
    );
    Ok(())
}

#[tokio::test]
async fn missing_role_to_extend_is_awaited_and_its_trust_kept() -> Result<()> {
    let case = Case::with_accounts().await?;
    create_worker_role(&case, "ec2.amazonaws.com").await?;
    consents(&case, "true").await?;
    let iam = case.stack().aws(&case.pair.consumer).iam;
    iam.remove_role_from_profile("workers", "worker").await?;
    iam.delete_inline_policy("worker", "logs").await?;
    iam.delete_role().role_name("worker").send().await?;
    iam.delete_instance_profile()
        .instance_profile_name("workers")
        .send()
        .await?;
    case.apply(&case.grant(extends())).await?;
    let message = case.not_ready("RoleNotFound").await?;
    ensure!(
        message.contains("worker") && message.contains(&case.pair.consumer),
        "{message}"
    );
    create_worker_role(&case, "ec2.amazonaws.com").await?;
    consents(&case, "true").await?;
    let trust = case.consumer().await?.roles["worker"].trust.clone();
    case.ready().await?;
    ensure!(
        case.consumer().await?.roles["worker"].trust == trust,
        "the trust policy was changed for nothing"
    );
    Ok(())
}

#[tokio::test]
async fn extending_a_role_needs_a_rule_that_allows_it() -> Result<()> {
    let case = Case::with_accounts().await?;
    create_worker_role(&case, "ec2.amazonaws.com").await?;
    consents(&case, "true").await?;
    let rule = json!({"namespaces": {"names": [case.namespace]}, "roles": ["nodes/*"]});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await?;
    let before = case.accounts().await?;
    case.apply(&case.grant(extends())).await?;
    let message = case.not_ready("NotAdmitted").await?;
    ensure!(
        message.contains("nodes/worker with management Extend"),
        "{message}"
    );
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn role_that_only_loses_access_stays_for_its_nodes() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    // The policy can be changed until the deletion.
    case.granted(json!({"consumer": {"instanceRole": {"onDelete": "RemoveAccess"}}}))
        .await?;
    case.delete().await?;
    let consumer = case.consumer().await?;
    let role = node(&consumer)?;
    ensure!(role.inline.is_empty() && role.tags.is_empty(), "{role:?}");
    ensure!(
        consumer.instance_profiles["node"].roles.contains("node"),
        "the profile does not hold the role any more"
    );
    ensure!(
        role.trust.to_string().contains("ec2.amazonaws.com"),
        "no instance can take it any more"
    );
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .denied()?;
    // The role is unowned: another grant of the same name does not adopt it.
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("Conflict").await?;
    ensure!(
        message.contains("was not created by this operator"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn node_keeps_its_role_when_a_sharing_grant_is_deleted() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let instance = case.instance().await?;
    for round in 0..2 {
        case.apply(&case.grant_named("visitor", json!({"access": "Pull"})))
            .await?;
        case.cluster()
            .wait_for_condition(&case.namespace, "carg/visitor", "Ready")
            .await?;
        instance
            .push(&case.repository("app"), &format!("v{round}"))
            .await?
            .allowed()?;
        case.delete_named("carg/visitor").await?;
        instance
            .push(&case.repository("app"), &format!("w{round}"))
            .await?
            .allowed()?;
    }
    eventually("nothing is left to do", async || {
        let role = node(&case.consumer().await?)?;
        ensure!(role.inline.len() == 1, "{role:?}");
        Ok(())
    })
    .await
}
