//! An operator that is killed, stopped or restarted: the next one finishes the work.

use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged};
use crate::support::flags::NO_RESYNC;
use anyhow::{Result, ensure};
use local_stack::{AuditLog, CallLog, Emulation, Installation, by_operation};
use serde_json::json;

#[tokio::test]
async fn work_of_an_operator_killed_midway_is_finished_by_the_next() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let emulation = Emulation::of(&installation.stack);
    // In each account, one call in the middle of the work, and one during the revocation.
    for (in_registry, action, deleting) in [
        (false, "PutRolePolicy", false),
        (true, "PutRolePolicy", false),
        (true, "SetRepositoryPolicy", false),
        (true, "DeleteRole", true),
        (false, "DeleteInstanceProfile", true),
    ] {
        let case = Case::on(&installation).await?;
        case.apply_accounts().await?;
        let before = case.accounts().await?;
        let account = if in_registry {
            &case.pair.registry
        } else {
            &case.pair.consumer
        };
        let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
        if deleting {
            case.granted(json!({})).await?;
            emulation.hold(account, action).await?;
            case.begin_to_delete().await?;
        } else {
            emulation.hold(account, action).await?;
            case.apply(&case.grant(json!({}))).await?;
        }
        emulation.until_held(account, action).await?;
        operator.kill();
        emulation.until_not_held(account, action).await?;

        let _fresh = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
        if !deleting {
            case.ready().await?;
            case.instance()
                .await?
                .push(&case.repository("app"), "v1")
                .await?
                .allowed()?;
            case.delete().await?;
        }
        case.cluster()
            .wait_until_gone(&case.namespace, GRANT)
            .await?;
        assert_unchanged(&before, &case.accounts().await?)?;
    }
    Ok(())
}

#[tokio::test]
async fn restarted_operator_writes_nothing_for_a_settled_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    case.granted(json!({})).await?;
    ensure!(operator.terminate()?.success(), "it did not end well");

    let (calls, audit) = (
        CallLog::of(&installation.stack),
        AuditLog::of(&installation.stack),
    );
    let (calls_mark, audit_mark) = (calls.mark()?, audit.mark()?);
    let _fresh = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    local_stack::eventually("the grant was looked at", async || {
        let seen = by_operation(&calls.of_operator(calls_mark)?);
        ensure!(seen.contains_key("ecr:GetRepositoryPolicy"), "{seen:?}");
        Ok(())
    })
    .await?;
    // The calls for a second grant come after all those for the first one.
    case.apply(&case.grant_named(
        "after",
        json!({"paths": ["AssumeRole"], "consumer": {"instanceRole": null}}),
    ))
    .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/after", "Ready")
        .await?;
    let about_first: Vec<_> = audit
        .of_operator(audit_mark)
        .await?
        .into_iter()
        .filter(|write| write.object.ends_with("/grant"))
        .collect();
    ensure!(about_first.is_empty(), "{about_first:?}");
    let writes: Vec<_> = by_operation(&calls.of_operator(calls_mark)?)
        .into_keys()
        .filter(|name| {
            !["Get", "List", "Describe", "Assume"]
                .iter()
                .any(|read| name.split(':').nth(1).is_some_and(|n| n.starts_with(read)))
        })
        .collect();
    ensure!(
        writes == ["iam:CreateRole", "iam:PutRolePolicy"],
        "{writes:?} (those are the second grant's)"
    );
    Ok(())
}

#[tokio::test]
async fn grant_deleted_while_the_operator_is_down_is_revoked_later() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let before = case.accounts().await?;
    let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    case.granted(json!({})).await?;
    operator.kill();
    case.begin_to_delete().await?;
    let _fresh = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    assert_unchanged(&before, &case.accounts().await?)
}
