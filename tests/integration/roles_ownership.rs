//! Ownership of roles: the operator does not change foreign roles, and of several grants on one
//! role the oldest owns it.

use crate::support::case::{Case, allows, list, trusts};
use anyhow::{Result, ensure};
use local_stack::{IamCalls as _, role_with_policy};
use serde_json::{Value, json};

#[tokio::test]
async fn foreign_role_is_left_alone_and_reported_as_a_conflict() -> Result<()> {
    for (account_is_registry, name) in [(true, "pusher-grant"), (false, "node")] {
        let case = Case::with_accounts().await?;
        let account = if account_is_registry {
            &case.pair.registry
        } else {
            &case.pair.consumer
        };
        let root = case.stack().aws(account);
        role_with_policy(&root, name, trusts(account), allows("s3:GetObject")).await?;
        let read = async || {
            Ok::<_, anyhow::Error>(
                if account_is_registry {
                    case.registry().await?
                } else {
                    case.consumer().await?
                }
                .roles,
            )
        };
        let before = read().await?;
        case.apply(&case.grant(json!({}))).await?;
        let message = case.not_ready("Conflict").await?;
        ensure!(
            message.contains(&format!("role/{name}"))
                && message.contains(account)
                && message.contains("another name"),
            "{message}"
        );
        ensure!(read().await? == before, "the role was touched");

        root.iam
            .delete_inline_policy(name, "registry-grants")
            .await?;
        root.iam.delete_role().role_name(name).send().await?;
        case.ready().await?;
    }
    Ok(())
}

#[tokio::test]
async fn first_of_two_grants_on_one_role_owns_it() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let second = case.grant_named(
        "second",
        json!({"registry": {"role": {"name": "pusher-grant"}}, "consumer": {"instanceRole": null}}),
    );
    case.apply(&second).await?;
    let message = case.not_ready_named("carg/second", "Conflict").await?;
    ensure!(
        message.contains(&format!("{}/grant", case.namespace)),
        "{message}"
    );
    // The deletion of the second grant does not remove the first one's role.
    case.delete_named("carg/second").await?;
    ensure!(
        case.registry().await?.roles.contains_key("pusher-grant"),
        "the first grant's role is gone"
    );
    case.ready().await.map(drop)
}

#[tokio::test]
async fn oldest_of_simultaneous_grants_owns_the_role() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    // Several grants, because a single one would succeed by chance half of the time.
    let roles: Vec<String> = (0..6).map(|number| format!("contested-{number}")).collect();
    let asking = |who: &str, role: &String| {
        let changes =
            json!({"registry": {"role": {"name": role}}, "consumer": {"instanceRole": null}});
        case.grant_named(&format!("{who}-{role}"), changes)
    };
    // Within a second, the name decides, so the first ones are the older ones in any case.
    for who in ["elder", "younger"] {
        let all: Vec<Value> = roles.iter().map(|role| asking(who, role)).collect();
        case.apply(&list(all)).await?;
    }
    case.apply(&case.registry_account(json!({}))).await?;
    for role in &roles {
        let message = case
            .not_ready_named(&format!("carg/younger-{role}"), "Conflict")
            .await?;
        ensure!(
            message.contains(&format!("{}/elder-{role}", case.namespace)),
            "{message}"
        );
        case.cluster()
            .wait_for_condition(&case.namespace, &format!("carg/elder-{role}"), "Ready")
            .await?;
    }
    // Without the older grant, the other one gets the role.
    let (gone, stays) = (
        format!("carg/elder-{}", roles[0]),
        format!("carg/younger-{}", roles[0]),
    );
    case.delete_named(&gone).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, &stays, "Ready")
        .await
        .map(drop)
}
