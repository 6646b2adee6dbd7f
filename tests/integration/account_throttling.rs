//! Accounts that AWS throttles delay no other account, and cost few extra calls. Tests start in the
//! order of their names; this one takes minutes, so its name comes early.

use crate::support::case::{Case, OPERATOR, condition, list};
use crate::support::flags::NO_RESYNC;
use anyhow::{Result, ensure};
use local_stack::{CallLog, Emulation, Installation};
use serde_json::{Value, json};

/// So many that a throttled account needs minutes for them.
const GRANTS: usize = 40;
const PER_SECOND: u32 = 2;

#[tokio::test]
async fn throttled_accounts_delay_no_others_and_cost_few_extra_calls() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (slow, idle) = (
        Case::on(&installation).await?,
        Case::on(&installation).await?,
    );
    slow.apply_accounts().await?;
    idle.apply_accounts().await?;
    let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let calls = CallLog::of(&installation.stack);
    let sent = |mark| {
        let calls = calls.of_operator(mark)?.into_iter();
        anyhow::Ok(
            calls
                .filter(|call| call.account == slow.pair.registry && call.service != "sts")
                .count(),
        )
    };
    // The calls for a grant without throttling.
    let mark = calls.mark()?;
    slow.apply(&list(
        (0..GRANTS).map(|number| grant(&slow, "before", number)),
    ))
    .await?;
    slow.cluster()
        .wait_for_all(&slow.namespace, "carg", "Ready")
        .await?;
    let before = sent(mark)?;
    Emulation::of(&installation.stack)
        .throttle(&slow.pair.registry, PER_SECOND)
        .await?;
    let mark = calls.mark()?;
    slow.apply(&list(
        (0..GRANTS).map(|number| grant(&slow, "throttled", number)),
    ))
    .await?;

    // A grant in idle accounts and a deletion in the throttled one do not wait for the other
    // grants.
    idle.granted(json!({})).await?;
    let left = not_ready(&slow).await?;
    ensure!(
        left > GRANTS / 2,
        "{left} of the throttled grants waited when the one in idle accounts was Ready"
    );
    slow.delete_named("carg/before-0").await?;
    let left = not_ready(&slow).await?;
    ensure!(
        left > GRANTS / 4,
        "{left} of the throttled grants waited when the deletion was done"
    );

    slow.cluster()
        .wait_for_all(&slow.namespace, "carg", "Ready")
        .await?;
    let throttled = sent(mark)?;
    println!("calls: {before} for {GRANTS} grants, {throttled} while throttled to {PER_SECOND}/s");
    // Includes refused calls and those of the deletion.
    ensure!(
        throttled * 2 < before * 3,
        "{throttled} calls instead of {before}"
    );
    drop(operator);
    Ok(())
}

/// A grant with its own role and no part in a shared policy.
fn grant(case: &Case<'_>, kind: &str, number: usize) -> Value {
    case.grant_named(
        &format!("{kind}-{number}"),
        json!({"paths": ["AssumeRole"], "consumer": {"instanceRole": null}}),
    )
}

async fn not_ready(case: &Case<'_>) -> Result<usize> {
    let grants = case.cluster().list(&case.namespace, "carg").await?;
    let is_ready =
        |grant: &&Value| condition(grant, "Ready").is_some_and(|ready| ready["status"] == "True");
    Ok(grants.iter().filter(|grant| !is_ready(grant)).count())
}
