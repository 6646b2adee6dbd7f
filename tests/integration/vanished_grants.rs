//! Grants that disappear without a deletion, and stored grants that the operator cannot read: they
//! keep their access until it is safe to revoke it.

use crate::support::case::{Case, GRANT, assert_unchanged, direct};
use crate::support::restartable::Restartable;
use crate::support::unparsable::{kubectl_delete, make_fields_unparsable};
use anyhow::{Context, Result, ensure};
use local_stack::{AccountState, Emulation, Installation, eventually};
use serde_json::{Value, json};

/// After a downgrade, for instance. Another grant on the repository is created and deleted, and
/// only its own access is revoked.
#[tokio::test]
async fn unreadable_grant_keeps_its_access_beside_other_grants() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    let before = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    operator.stop()?;
    case.make_unreadable().await?;
    operator.start().await?;
    let other = installation.fresh_pair().await?.consumer;
    let to_other = direct(json!({"consumer": {"accountID": other}}));
    let rule = case.rule(json!({"consumers": [case.pair.consumer, other]}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    case.apply(&case.grant_named("other", to_other)).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    let both = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?
        .to_string();
    ensure!(
        both.contains(&other) && both.contains(&case.pair.consumer),
        "{both}"
    );
    case.delete_named("carg/other").await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(before.same_meaning(&after), "{before:?} became {after:?}");
    operator.finish()
}

#[tokio::test]
async fn unreadable_grant_keeps_the_instance_role_it_shares() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(json!({})).await?;
    let alone = case.accounts().await?;
    case.apply(&case.grant_named("other", json!({"access": "Pull"})))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    operator.stop()?;
    case.make_unreadable().await?;
    operator.start().await?;
    case.delete_named("carg/other").await?;
    assert_unchanged(&alone, &case.accounts().await?)?;
    operator.finish()
}

/// Go accepts times that this operator's parser does not, and the API server stores what a tenant
/// sends.
#[tokio::test]
async fn unparsable_managed_fields_block_no_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    make_fields_unparsable(&case).await?;

    case.apply(&case.grant_named("before", direct(json!({"access": "Pull"}))))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/before", "Ready")
        .await?;
    operator.stop()?;
    operator.start().await?;
    case.apply(&case.grant_named("after", direct(json!({"access": "Pull"}))))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/after", "Ready")
        .await?;
    // It is deleted like any other.
    for grant in [GRANT, "carg/before", "carg/after"] {
        kubectl_delete(&case, grant).await?;
    }
    ensure!(
        case.repository("app").policy(case.stack()).await?.is_none(),
        "it was not revoked"
    );
    operator.finish()
}

/// As after a restore of etcd from a backup that is older than the grants.
#[tokio::test]
async fn vanished_grants_keep_access_until_no_rule_admits_it() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (operator, case) = Restartable::with_accounts(&installation).await?;
    let lost = [
        installation.fresh_pair().await?.consumer,
        installation.fresh_pair().await?.consumer,
    ];
    let consumers = json!([case.pair.consumer, lost[0], lost[1]]);
    let admitted = |consumers: &Value| {
        case.registry_account(
            json!({"registry": {"rules": [case.rule(json!({"consumers": consumers}))]}}),
        )
    };
    case.apply(&admitted(&consumers)).await?;
    case.granted(direct(json!({"access": "Pull"}))).await?;
    for (number, consumer) in lost.iter().enumerate() {
        let grant = direct(json!({"consumer": {"accountID": consumer}}));
        case.apply(&case.grant_named(&format!("lost-{number}"), grant))
            .await?;
        case.cluster()
            .wait_for_condition(&case.namespace, &format!("carg/lost-{number}"), "Ready")
            .await?;
    }
    let process = operator.process()?;
    // It must not restore the finalizers in between.
    process.pause();
    for number in 0..lost.len() {
        let grant = format!("carg/lost-{number}");
        case.cluster()
            .merge(
                &case.namespace,
                &grant,
                json!({"metadata": {"finalizers": null}}),
            )
            .await?;
        case.cluster().delete(&case.namespace, &grant).await?;
    }
    process.resume();
    eventually("it has seen that they are gone", async || {
        ensure!(
            process
                .log()?
                .matches("2 grants disappeared at once")
                .count()
                == 2,
            "it has not said so"
        );
        Ok(())
    })
    .await?;

    let policy = async || {
        let policy = case
            .repository("app")
            .policy(case.stack())
            .await?
            .context("no policy")?;
        anyhow::Ok(policy.to_string())
    };
    let has = |policy: &str, consumer: &str| policy.contains(&format!(":{consumer}:"));
    case.granted(direct(json!({"access": "PullPush"}))).await?;
    case.reconcile().await?;
    let kept = policy().await?;
    ensure!(
        kept.contains("ecr:PutImage") && lost.iter().all(|lost| has(&kept, lost)),
        "{kept}"
    );

    // One of them exists again and is deleted. Only its own access is revoked.
    let again = direct(json!({"consumer": {"accountID": lost[0]}}));
    case.apply(&case.grant_named("lost-0", again)).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/lost-0", "Ready")
        .await?;
    case.delete_named("carg/lost-0").await?;
    let kept = policy().await?;
    ensure!(!has(&kept, &lost[0]) && has(&kept, &lost[1]), "{kept}");

    case.apply(&admitted(&json!([case.pair.consumer]))).await?;
    case.reconcile().await?;
    eventually("what no rule admits is gone", async || {
        let left = policy().await?;
        ensure!(
            !has(&left, &lost[1]) && has(&left, &case.pair.consumer),
            "{left}"
        );
        Ok(())
    })
    .await?;
    operator.finish()
}

/// Somebody removes the finalizer while the operator creates the grant's role.
#[tokio::test]
async fn grant_vanishing_during_a_reconcile_leaves_nothing_behind() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (operator, case) = Restartable::with_accounts(&installation).await?;
    let before = case.accounts().await?;
    let emulation = Emulation::of(&installation.stack);
    emulation.hold(&case.pair.registry, "CreateRole").await?;
    case.apply(&case.grant(json!({"consumer": {"instanceRole": null}})))
        .await?;
    emulation
        .until_held(&case.pair.registry, "CreateRole")
        .await?;
    case.begin_to_delete().await?;
    take_finalizer_off(&case).await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    let process = operator.process()?;
    eventually("the revocation waits for the reconciliation", async || {
        ensure!(
            process
                .log()?
                .contains("waiting for other work on a grant of this name"),
            "it has not said so"
        );
        Ok(())
    })
    .await?;
    emulation.release(&case.pair.registry, "CreateRole").await?;
    eventually("what was made is revoked", async || {
        ensure!(
            process.log()?.contains("The operator has revoked it"),
            "it has not said so"
        );
        assert_unchanged(&before, &case.accounts().await?)
    })
    .await?;
    operator.finish()
}

/// Its successor is created while the vanished grant's role is being removed, and has the same
/// role.
#[tokio::test]
async fn successor_of_a_vanished_grant_keeps_its_roles() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (operator, case) = Restartable::with_accounts(&installation).await?;
    let first = case.granted(json!({})).await?;
    let granted = made_for(&first, &case.accounts().await?)?;
    let process = operator.process()?;
    let emulation = Emulation::of(&installation.stack);
    emulation
        .hold(&case.pair.registry, "DeleteRolePolicy")
        .await?;
    // It sees the deletion only when it is complete.
    process.pause();
    take_finalizer_off(&case).await?;
    case.delete().await?;
    process.resume();
    emulation
        .until_held(&case.pair.registry, "DeleteRolePolicy")
        .await?;
    case.apply(&case.grant(json!({}))).await?;
    eventually("the successor waits for the revocation", async || {
        ensure!(
            process
                .log()?
                .contains("waiting for other work on a grant of this name"),
            "it has not said so"
        );
        Ok(())
    })
    .await?;
    emulation
        .release(&case.pair.registry, "DeleteRolePolicy")
        .await?;
    let successor = case.ready().await?;
    assert_unchanged(&granted, &made_for(&successor, &case.accounts().await?)?)?;
    operator.finish()
}

type Accounts = (AccountState, AccountState);

/// The accounts, without what distinguishes this grant from another one of its name.
fn made_for(grant: &Value, (registry, consumer): &Accounts) -> Result<Accounts> {
    let uid = grant["metadata"]["uid"].as_str().context("no UID")?;
    let names = [(uid, "uid")];
    Ok((registry.renamed(&names)?, consumer.renamed(&names)?))
}

async fn take_finalizer_off(case: &Case<'_>) -> Result<()> {
    let none = json!({"metadata": {"finalizers": null}});
    case.cluster()
        .merge(&case.namespace, GRANT, none)
        .await
        .map(drop)
}
