//! Who may grant what to whom: decided by the rules of the `AWSAccount`s, and enforced by the operator.

use crate::case::{Case, GRANT, condition, same};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

#[tokio::test]
async fn what_no_rule_admits_is_refused_and_nothing_is_written() -> Result<()> {
    let case = Case::opened().await?;
    case.repository("secret/x").create(case.stack()).await?;
    let before = case.accounts().await?;
    let power_user = json!({"registry": {"role": {"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"]}}});
    let closed = |changes: Value| json!({"registry": {"rules": [case.rule(changes)]}});
    let no_consumer_rules = case.consumer_account(json!({"consumer": {"rules": []}}));
    let table: Vec<(&str, Value, Value, &str)> = vec![
        (
            "repository",
            case.registry_account(json!({})),
            json!({"registry": {"repositories": ["secret/x"]}}),
            "repository secret/x",
        ),
        (
            "prefix",
            case.registry_account(json!({})),
            json!({"registry": {"repositories": ["team*"]}}),
            "repository team*",
        ),
        ("policy", case.registry_account(json!({})), power_user, "managed policy AmazonEC2ContainerRegistryPowerUser"),
        ("access", case.registry_account(closed(json!({"maxAccess": "Pull"}))), json!({}), "access PullPush"),
        ("consumer", case.registry_account(closed(json!({"consumers": []}))), json!({}), &case.pair.consumer),
        (
            "namespace",
            case.registry_account(closed(json!({"namespaces": {"names": ["x"]}}))),
            json!({}),
            "no rule is for this namespace",
        ),
        (
            "no-rules",
            case.registry_account(json!({"registry": {"rules": []}})),
            json!({}),
            "no rule is for this namespace",
        ),
        ("unset", case.registry_account(json!({"registry": null})), json!({}), "no rule is for this namespace"),
        ("role", no_consumer_rules, json!({}), "instance role registry-grants/node"),
    ];
    for (name, account, changes, why) in table {
        case.apply(&case.registry_account(json!({}))).await?;
        case.apply(&account).await?;
        case.apply(&case.grant_named(name, changes)).await?;
        let grant = format!("carg/{name}");
        let said = case.not_ready_named(&grant, "NotAdmitted").await?;
        ensure!(said.contains(why) && said.contains("cluster admin"), "{name}: {said}");
        let events = ["events", "--for", &grant, "--namespace", &case.namespace];
        ensure!(case.cluster().kubectl(&events).await?.contains("NotAdmitted"), "{name}: no Event tells");
        case.cluster().kubectl(&["delete", &grant, "--namespace", &case.namespace, "--timeout", "60s"]).await?;
    }
    same(&before, &case.accounts().await?)
}

#[tokio::test]
async fn rules_that_only_together_would_do_admit_nothing() -> Result<()> {
    let case = Case::opened().await?;
    let rules = json!([case.rule(json!({"maxAccess": "Pull"})), case.rule(json!({"repositories": ["team/*"]}))]);
    case.apply(&case.registry_account(json!({"registry": {"rules": rules}}))).await?;
    case.apply(&case.grant(json!({}))).await?;
    case.not_ready("NotAdmitted").await.map(drop)
}

#[tokio::test]
async fn without_an_account_the_grant_waits_and_goes_on_when_there_is_one() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    let before = case.accounts().await?;
    case.apply(&case.grant(json!({}))).await?;
    let said = case.not_ready("AccountNotFound").await?;
    ensure!(said.contains(&format!("AWSAccount {}", case.pair.registry)) && said.contains("cluster admin"), "{said}");
    same(&before, &case.accounts().await?)?;
    case.apply(&case.consumer_account(json!({}))).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn a_consumer_account_that_is_not_managed_is_told_what_it_needs() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    let before = case.consumer().await?;
    let grant = case.granted(json!({})).await?;
    let (ready, consumer) = (
        condition(&grant, "Ready").context("no Ready")?,
        condition(&grant, "ConsumerReady").context("no ConsumerReady")?,
    );
    ensure!(ready["reason"] == "RegistrySideReady", "{ready}");
    ensure!(consumer["status"] == "Unknown" && consumer["reason"] == "NotManaged", "{consumer}");
    let said = consumer["message"].as_str().unwrap_or_default();
    ensure!(said.contains("ecr:GetAuthorizationToken") && said.contains("sts:AssumeRole"), "{said}");
    ensure!(case.consumer().await? == before, "something was written in the consumer's account");
    case.almighty("almighty").await?.push(&case.repository("app"), "v1").await?.allowed()?;
    Ok(())
}

#[tokio::test]
async fn narrowing_the_rules_revokes_what_they_no_longer_admit() -> Result<()> {
    let case = Case::opened().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.apply(&case.registry_account(json!({"registry": {"rules": [case.rule(json!({"maxAccess": "Pull"}))]}})))
        .await?;
    case.not_ready("NotAdmitted").await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(grant["status"]["applied"].is_null(), "not revoked yet");
            Ok(())
        })
        .await?;
    same(&before, &case.accounts().await?)?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn a_namespace_may_be_chosen_by_label_and_loses_access_with_it() -> Result<()> {
    let case = Case::opened().await?;
    let by_label = json!({"namespaces": {"names": null, "selector": {"matchLabels": {"registry": "open"}}}});
    case.apply(&case.registry_account(json!({"registry": {"rules": [case.rule(by_label)]}}))).await?;
    case.apply(&case.grant(json!({}))).await?;
    case.not_ready("NotAdmitted").await?;
    case.cluster().kubectl(&["label", "namespace", &case.namespace, "registry=open"]).await?;
    case.ready().await?;
    case.cluster().kubectl(&["label", "namespace", &case.namespace, "registry-"]).await?;
    case.not_ready("NotAdmitted").await.map(drop)
}

#[tokio::test]
async fn an_account_that_disappears_takes_nothing_with_it() -> Result<()> {
    let case = Case::opened().await?;
    case.granted(json!({})).await?;
    let granted = case.accounts().await?;
    // In the middle of a reconciliation that has its session already.
    let emulation = local_stack::Emulation::of(case.stack());
    emulation.hold(&case.pair.registry, "GetRole").await?;
    emulation.until_held(&case.pair.registry, "GetRole").await?;
    case.cluster().kubectl(&["delete", "awsaccount", &case.pair.registry]).await?;
    emulation.release(&case.pair.registry, "GetRole").await?;
    case.not_ready("AccountNotFound").await?;
    same(&granted, &case.accounts().await?)?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn a_spec_that_is_wrong_keeps_what_was_granted_but_only_while_a_rule_admits_that() -> Result<()> {
    let case = Case::opened().await?;
    case.granted(json!({})).await?;
    let granted = case.accounts().await?;
    // Only the operator can know that this region is of another partition than the account.
    case.apply(&case.grant(json!({"registry": {"regions": ["cn-north-1"]}}))).await?;
    let said = case.not_ready("Invalid").await?;
    ensure!(said.contains("cn-north-1") && said.contains("spec.registry.regions"), "{said}");
    same(&granted, &case.accounts().await?)?;
    case.instance().await?.push(&case.repository("app"), "v1").await?.allowed()?;

    case.apply(&case.registry_account(json!({"registry": {"rules": []}}))).await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(grant["status"]["applied"].is_null(), "not revoked yet");
            Ok(())
        })
        .await?;
    ensure!(case.repository("app").policy(case.stack()).await?.is_none(), "a wrong spec escaped the narrowed rule");
    Ok(())
}

#[tokio::test]
async fn an_instance_role_keeps_its_access_when_its_own_account_is_no_longer_managed() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    // Under another path than the default, which is all that is known of an account that is not managed.
    let rules = json!([{"namespaces": {"names": [case.namespace]}, "roles": ["registry-grants/nodes/*"]}]);
    let account = json!({"roles": {"path": "/registry-grants/nodes/"}, "consumer": {"rules": rules}});
    case.apply(&case.consumer_account(account)).await?;
    let grant = case.granted(json!({"consumer": {"wholeAccount": null}})).await?;
    let role = grant["status"]["consumer"]["roleARN"].as_str().context("no role")?.to_owned();
    let instance = local_stack::Session::of_instance(case.stack(), &role).await?.allowed()?;
    instance.push(&case.repository("app"), "v1").await?.allowed()?;
    let before = case.accounts().await?;
    case.cluster().kubectl(&["delete", "awsaccount", &case.pair.consumer]).await?;
    case.not_ready("AccountNotFound").await?;
    case.writes_in_three_looks().await?;
    same(&before, &case.accounts().await?)?;
    instance.push(&case.repository("app"), "v2").await?.allowed()?;
    Ok(())
}
