//! Replicas that choose a leader: a standby takes over from a leader that dies, and a leader that
//! is paused for longer than its Lease writes nothing late.

use crate::support::case::{Case, OPERATOR};
use crate::support::flags::REPLICA;
use anyhow::{Result, ensure};
use local_stack::{CallLog, Emulation, Installation, eventually};
use serde_json::json;

#[tokio::test]
async fn paused_leader_writes_nothing_late_and_leads_again() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let first = installation.start_operator(OPERATOR, &REPLICA).await?;
    let leader = case.leader().await?;
    let second = installation.start_operator(OPERATOR, &REPLICA).await?;

    // It is paused in the middle of its work, right before it would write the repository's policy.
    let emulation = Emulation::of(&installation.stack);
    emulation
        .hold(&case.pair.registry, "GetRepositoryPolicy")
        .await?;
    case.apply(&case.grant(json!({}))).await?;
    emulation
        .until_held(&case.pair.registry, "GetRepositoryPolicy")
        .await?;
    first.pause();
    emulation
        .release(&case.pair.registry, "GetRepositoryPolicy")
        .await?;
    case.ready().await?;
    ensure!(
        case.lease_holder().await? != leader,
        "nobody took over the Lease"
    );

    let calls = CallLog::of(&installation.stack);
    let mark = calls.mark()?;
    first.resume();
    eventually(
        "the paused one noticed that it leads no longer",
        async || {
            ensure!(
                first.log()?.contains("no longer leads"),
                "it has not said so"
            );
            ensure!(
                first.metrics().await?.contains("registry_grants_leader 0"),
                "it takes itself for the leader"
            );
            Ok(())
        },
    )
    .await?;
    let late: Vec<_> = calls
        .of_operator(mark)?
        .into_iter()
        .filter(local_stack::Call::is_write)
        .collect();
    ensure!(late.is_empty(), "{late:?}");

    second.kill();
    eventually(
        "the first one leads again, in the same process",
        async || {
            ensure!(
                case.lease_holder().await? == leader,
                "{}",
                case.lease_holder().await?
            );
            Ok(())
        },
    )
    .await?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    ensure!(first.terminate()?.success(), "it did not end well");
    ensure!(
        case.lease_holder().await?.is_empty(),
        "the Lease was not returned"
    );
    Ok(())
}

#[tokio::test]
async fn standby_takes_over_when_the_leader_dies_in_mid_write() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
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

    // A replica that terminates releases the Lease, so that the next one need not wait until it
    // expires.
    ensure!(second.terminate()?.success(), "it did not end well");
    ensure!(
        case.lease_holder().await?.is_empty(),
        "the Lease was not given back"
    );
    let _third = installation.start_operator(OPERATOR, &REPLICA).await?;
    case.delete().await
}
