//! Regions, repositories and roles that the operator cannot use: everything else is granted,
//! changed and revoked.

use crate::support::case::{Case, GRANT, condition, document};
use crate::support::foreign_roles::earlier_trust_statement;
use crate::support::restartable::Restartable;
use anyhow::{Context, Result, ensure};
use aws_sdk_iam::types::Tag;
use local_stack::{IamCalls as _, Installation, MANAGEMENT_ROLE, REGION, eventually};
use serde_json::{Value, json};

/// Denies the operator something in the registry account.
async fn deny(case: &Case<'_>, statement: Value) -> Result<()> {
    case.stack()
        .aws(&case.pair.registry)
        .iam
        .put_inline_policy(MANAGEMENT_ROLE, "denied", document(statement))
        .await?;
    Ok(())
}

fn everywhere_else() -> Value {
    json!({
        "Effect": "Deny", "NotAction": ["iam:*", "sts:*"], "Resource": "*",
        "Condition": {"StringNotEquals": {"aws:RequestedRegion": [REGION]}},
    })
}

fn in_regions(regions: &[&str]) -> Value {
    json!({"paths": ["Direct"], "registry": {"regions": regions, "role": null}, "consumer": {"instanceRole": null}})
}

/// Field case 01.
#[tokio::test]
async fn unusable_region_blocks_nothing_and_is_correctable() -> Result<()> {
    let case = Case::with_accounts().await?;
    deny(&case, everywhere_else()).await?;
    case.apply(&case.grant(in_regions(&[REGION, "eu-west-3"])))
        .await?;
    let message = case.not_ready("AccessDenied").await?;
    ensure!(message.contains("eu-west-3"), "{message}");
    let app = case.repository("app");
    let policy = app
        .policy(case.stack())
        .await?
        .context("nothing was granted where it is possible")?;
    ensure!(policy.to_string().contains(&case.pair.consumer), "{policy}");
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    ensure!(
        grant["status"]["applied"]["repositories"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "{grant}"
    );

    case.granted(in_regions(&[REGION])).await?;
    case.reconcile().await?;
    case.apply(&case.grant(in_regions(&[REGION, "eu-west-3"])))
        .await?;
    case.not_ready("AccessDenied").await?;
    case.delete().await?;
    ensure!(
        app.policy(case.stack()).await?.is_none(),
        "something was left"
    );
    Ok(())
}

/// Field case 01, second form.
#[tokio::test]
async fn unusable_repository_blocks_nothing_and_is_correctable() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.repository("team/secret").create(case.stack()).await?;
    let arn = format!(
        "arn:aws:ecr:{REGION}:{}:repository/team/secret",
        case.pair.registry
    );
    deny(
        &case,
        json!({"Effect": "Deny", "Action": "ecr:*", "Resource": arn}),
    )
    .await?;
    let on = |names: &[&str]| {
        let registry = json!({"repositories": names, "role": null});
        json!({"paths": ["Direct"], "registry": registry, "consumer": {"instanceRole": null}})
    };
    case.apply(&case.grant(on(&["app", "team/secret"]))).await?;
    let message = case.not_ready("AccessDenied").await?;
    ensure!(message.contains("team/secret"), "{message}");
    case.granted(on(&["app"])).await?;
    case.delete().await
}

/// Written places stay claimed, and are only given up on request.
#[tokio::test]
async fn lost_region_stays_claimed_until_it_is_abandoned() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    let elsewhere = local_stack::Repository {
        region: "eu-west-1".into(),
        ..case.repository("app")
    };
    elsewhere.create(case.stack()).await?;
    case.granted(in_regions(&[REGION, "eu-west-1"])).await?;
    // Afterwards it knows the region only from the record.
    operator.stop()?;
    deny(&case, everywhere_else()).await?;
    operator.start().await?;
    case.apply(&case.grant(in_regions(&[REGION]))).await?;
    let message = case.not_ready("AccessDenied").await?;
    ensure!(message.contains("eu-west-1"), "{message}");
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    let claimed = grant["status"]["applied"]["repositories"].to_string();
    ensure!(claimed.contains("eu-west-1"), "{claimed}");
    case.begin_to_delete().await?;
    eventually("what can be revoked is revoked", async || {
        let left = case.repository("app").policy(case.stack()).await?;
        ensure!(left.is_none(), "{left:?}");
        let grant = case.cluster().get(&case.namespace, GRANT).await?;
        let claimed = &grant["status"]["applied"]["repositories"];
        ensure!(
            claimed
                .as_array()
                .is_some_and(|all| all.len() == 1 && all[0]["region"] == "eu-west-1"),
            "{claimed}"
        );
        Ok(())
    })
    .await?;
    case.annotate(GRANT, "abandon", "true").await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    let events = case
        .cluster()
        .event(&case.namespace, "", &["Abandoned"])
        .await?;
    let told = events
        .lines()
        .find(|line| line.contains("Abandoned"))
        .context("no Event tells of it")?;
    ensure!(told.contains("eu-west-1"), "{told}");
    ensure!(
        elsewhere.policy(case.stack()).await?.is_some(),
        "how could it be removed?"
    );
    operator.finish()
}

/// Creates a foreign role whose trust policy names a deleted role. `ours`: with a statement of the
/// operator.
async fn blocked_role(case: &Case<'_>, statements: Vec<Value>) -> Result<()> {
    let iam = case.stack().aws(&case.pair.consumer).iam;
    let ec2 = document(
        json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}),
    );
    let gone = iam
        .create_role()
        .role_name("gone")
        .assume_role_policy_document(ec2)
        .send()
        .await?;
    let gone = gone.role.context("no role")?.arn;
    let old = json!({"Sid": "OldDeployer", "Effect": "Allow", "Principal": {"AWS": gone}, "Action": "sts:AssumeRole"});
    let all = [vec![old], statements].concat();
    let trust = json!({"Version": "2012-10-17", "Statement": all}).to_string();
    let consents = Tag::builder()
        .key("registrygrants.dev/allow-extend")
        .value("true")
        .build()?;
    let create = iam
        .create_role()
        .role_name("stale")
        .assume_role_policy_document(trust)
        .tags(consents);
    create.send().await?;
    iam.delete_role().role_name("gone").send().await?;
    let allowed = crate::support::operator_documents::generated(
        &case.pair.consumer,
        &["--account=consumer", "--allow-extend"],
        None,
    )?;
    iam.put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, allowed)
        .await?;
    let rule = json!({"namespaces": {"names": [case.namespace]}, "roles": ["stale"], "management": ["Extend"]});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await
}

fn extends() -> Value {
    json!({"consumer": {"wholeAccount": null, "instanceRole": {"name": "stale", "management": "Extend"}}})
}

/// Field case 03 (a).
#[tokio::test]
async fn role_with_an_unwritable_trust_policy_is_extended() -> Result<()> {
    let case = Case::with_accounts().await?;
    blocked_role(&case, Vec::new()).await?;
    case.granted(extends()).await?;
    ensure!(
        case.consumer().await?.roles["stale"].inline.len() == 1,
        "the role has no policy of the grant"
    );
    case.delete().await?;
    ensure!(
        case.consumer().await?.roles["stale"].inline.is_empty(),
        "the policy is left"
    );
    Ok(())
}

/// Field case 03 (b): an earlier version added a trust statement, and another principal was deleted
/// since.
#[tokio::test]
async fn revocation_blocked_by_a_deleted_principal_is_abandonable() -> Result<()> {
    let case = Case::with_accounts().await?;
    let ours = earlier_trust_statement(&case).await?;
    let alive = json!({"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"});
    blocked_role(&case, vec![alive, ours]).await?;
    case.granted(extends()).await?;
    case.begin_to_delete().await?;
    let message = case.not_ready("BlockedPolicy").await?;
    ensure!(
        message.contains("`OldDeployer`")
            && message.contains("AROA")
            && message.contains("deleted"),
        "{message}"
    );
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    let told = condition(&grant, "ConsumerReady").context("no condition ConsumerReady")?;
    ensure!(
        told["reason"] == "BlockedPolicy" && told["status"] == "False",
        "{told}"
    );
    ensure!(
        condition(&grant, "RoleReady").is_some_and(|role| role["reason"] != "BlockedPolicy"),
        "{grant}"
    );
    ensure!(
        case.consumer().await?.roles["stale"].inline.is_empty(),
        "the grant's policy is left"
    );
    ensure!(
        !case.registry().await?.roles.contains_key("pusher-grant"),
        "the registry's role is left"
    );
    case.annotate(GRANT, "abandon", "true").await?;
    case.cluster().wait_until_gone(&case.namespace, GRANT).await
}
