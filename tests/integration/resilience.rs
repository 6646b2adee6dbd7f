//! Crashes, restarts, and other people's broken resources.

use crate::case::{Brisk, Case, GRANT, OPERATOR, QUIET, same};
use anyhow::{Result, ensure};
use local_stack::{AuditLog, CallLog, Emulation, Installation, by_operation};
use serde_json::json;

/// Replicas that choose a leader, with short times.
const REPLICA: [&str; 3] = [
    "--resync-interval=1h",
    "--lease-duration=20s",
    "--aws-call-timeout=3s",
];

#[tokio::test]
async fn of_two_replicas_one_works_and_the_other_takes_over_when_it_dies_in_the_middle()
-> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.open().await?;
    let first = installation.start_operator(OPERATOR, &REPLICA).await?;
    let leader = case.leader().await?;
    let second = installation.start_operator(OPERATOR, &REPLICA).await?;

    let emulation = Emulation::of(&installation.stack);
    emulation
        .hold(&case.pair.registry, "SetRepositoryPolicy")
        .await?;
    case.apply(&case.grant(json!({}))).await?;
    emulation
        .until_held(&case.pair.registry, "SetRepositoryPolicy")
        .await?;
    ensure!(
        case.lease_holder().await? == leader,
        "the standby took the Lease while the leader lived"
    );
    first.kill();
    case.ready().await?;
    ensure!(
        case.lease_holder().await? != leader,
        "nobody took over the Lease"
    );
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;

    // One that is told to end gives the Lease back, so that the next need not wait for it to run
    // out.
    ensure!(second.terminate()?.success(), "it did not end well");
    ensure!(
        case.lease_holder().await?.is_empty(),
        "the Lease was not given back"
    );
    let _third = installation.start_operator(OPERATOR, &REPLICA).await?;
    case.delete().await
}

#[tokio::test]
async fn an_operator_that_is_killed_in_the_middle_is_finished_for_by_the_next_one() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let emulation = Emulation::of(&installation.stack);
    // In each account one call in the middle of the work, and one while it is taken back.
    for (in_registry, action, deleting) in [
        (false, "PutRolePolicy", false),
        (true, "PutRolePolicy", false),
        (true, "SetRepositoryPolicy", false),
        (true, "DeleteRole", true),
        (false, "DeleteInstanceProfile", true),
    ] {
        let case = Case::on(&installation).await?;
        case.open().await?;
        let before = case.accounts().await?;
        let account = if in_registry {
            &case.pair.registry
        } else {
            &case.pair.consumer
        };
        let operator = installation.start_operator(OPERATOR, &QUIET).await?;
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

        let _fresh = installation.start_operator(OPERATOR, &QUIET).await?;
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
        same(&before, &case.accounts().await?)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_restarted_operator_finds_everything_in_place_and_writes_nothing() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.open().await?;
    let operator = installation.start_operator(OPERATOR, &QUIET).await?;
    case.granted(json!({})).await?;
    ensure!(operator.terminate()?.success(), "it did not end well");

    let (calls, audit) = (
        CallLog::of(&installation.stack),
        AuditLog::of(&installation.stack),
    );
    let (calls_mark, audit_mark) = (calls.mark()?, audit.mark()?);
    let _fresh = installation.start_operator(OPERATOR, &QUIET).await?;
    local_stack::eventually("the grant was looked at", async || {
        let seen = by_operation(&calls.of_operator(calls_mark)?);
        ensure!(seen.contains_key("ecr:GetRepositoryPolicy"), "{seen:?}");
        Ok(())
    })
    .await?;
    // Whatever a second grant needs comes after all that the first one made the operator do.
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
async fn a_grant_that_is_deleted_while_the_operator_is_down_is_revoked_when_it_is_back()
-> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.open().await?;
    let before = case.accounts().await?;
    let operator = installation.start_operator(OPERATOR, &QUIET).await?;
    case.granted(json!({})).await?;
    operator.kill();
    case.begin_to_delete().await?;
    let _fresh = installation.start_operator(OPERATOR, &QUIET).await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    same(&before, &case.accounts().await?)
}

#[tokio::test]
async fn broken_resources_never_stop_the_others() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.open().await?;
    // Stored before the definition was what it is now: the rules are taken off for a moment.
    let name = "crossaccountregistrygrants.registrygrants.dev";
    let crd = case
        .cluster()
        .get("default", &format!("crd/{name}"))
        .await?;
    let loose = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    case.cluster()
        .kubectl(&[
            "patch",
            "crd",
            name,
            "--type",
            "json",
            "--patch",
            &loose.to_string(),
        ])
        .await?;
    local_stack::eventually("a broken grant is stored", async || {
        let broken = crate::case::merged(
            case.grant_named("broken", json!({})),
            json!({"spec": {"access": 7}}),
        );
        case.apply(&broken).await
    })
    .await?;
    let strict = json!([{"op": "replace", "path": "/spec/versions/0/schema", "value": crd["spec"]["versions"][0]["schema"]}]);
    case.cluster()
        .kubectl(&[
            "patch",
            "crd",
            name,
            "--type",
            "json",
            "--patch",
            &strict.to_string(),
        ])
        .await?;

    let _operator = installation.start_operator(OPERATOR, &QUIET).await?;
    // One whose repository is missing, and one whose account nobody opened, are there as well.
    case.apply(&case.grant_named(
        "waiting",
        json!({"registry": {"repositories": ["team/none"]}, "consumer": {"instanceRole": null}}),
    ))
    .await?;
    let nowhere =
        json!({"registry": {"accountID": "888888888888"}, "consumer": {"instanceRole": null}});
    case.apply(&case.grant_named("nowhere", nowhere)).await?;
    case.granted(json!({})).await?;
    case.not_ready_named("carg/waiting", "RepositoryNotFound")
        .await?;
    case.not_ready_named("carg/nowhere", "AccountNotFound")
        .await?;
    local_stack::eventually("an Event tells of the broken one", async || {
        let events = case
            .cluster()
            .kubectl(&[
                "events",
                "--for",
                "carg/broken",
                "--namespace",
                &case.namespace,
            ])
            .await?;
        ensure!(events.contains("Invalid"), "{events}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_namespace_with_a_grant_inside_can_be_deleted() -> Result<()> {
    let case = Case::opened().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.cluster()
        .delete("", &format!("namespace/{}", case.namespace))
        .await?;
    same(&before, &case.accounts().await?)
}

#[tokio::test]
async fn a_grant_that_waits_does_not_have_its_status_written_again_and_again() -> Result<()> {
    let brisk = Brisk::start().await?;
    let case = brisk.opened().await?;
    case.apply(&case.grant(json!({"registry": {"repositories": ["team/none"]}})))
        .await?;
    case.not_ready("RepositoryNotFound").await?;
    let again = case.writes_in_three_looks().await?;
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}
