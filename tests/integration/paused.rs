//! A leader that is paused for longer than its Lease, as by a frozen node: it writes nothing late,
//! and stands by in the same process.

use crate::case::{Case, OPERATOR};
use anyhow::{Result, ensure};
use local_stack::{CallLog, Emulation, Installation, eventually};
use serde_json::json;

/// Replicas that choose a leader, with short times.
const REPLICA: [&str; 3] = [
    "--resync-interval=1h",
    "--lease-duration=20s",
    "--aws-call-timeout=3s",
];

#[tokio::test]
async fn a_leader_that_was_paused_writes_nothing_late_stands_by_and_leads_again() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.open().await?;
    let first = installation.start_operator(OPERATOR, &REPLICA).await?;
    let leader = case.leader().await?;
    let second = installation.start_operator(OPERATOR, &REPLICA).await?;

    // It is paused in the middle of its work: right before it would write the repository's policy.
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
