//! Accounts that AWS throttles: they hold up no other, and cost few calls more. (Tests begin in the
//! order of their names, and this one waits for minutes, so it should begin early.)

use crate::support::case::{Case, OPERATOR, condition};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{CallLog, Installation};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// As many as take a throttled account minutes.
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
    // What a grant takes while nobody throttles.
    let mark = calls.mark()?;
    slow.apply(&list(
        (0..GRANTS).map(|number| grant(&slow, "before", number)),
    ))
    .await?;
    slow.cluster()
        .wait_for_all(&slow.namespace, "carg", "Ready")
        .await?;
    let before = sent(mark)?;
    throttle(&installation, &slow.pair.registry)?;
    let mark = calls.mark()?;
    slow.apply(&list(
        (0..GRANTS).map(|number| grant(&slow, "throttled", number)),
    ))
    .await?;

    // A grant in idle accounts, and a deletion in the throttled one, do not wait for the crowd.
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
    // Those refused, and the deletion's, among them.
    ensure!(
        throttled * 2 < before * 3,
        "{throttled} calls instead of {before}"
    );
    drop(operator);
    Ok(())
}

/// One with a role of its own, and no share in a policy of others.
fn grant(case: &Case<'_>, kind: &str, number: usize) -> Value {
    case.grant_named(
        &format!("{kind}-{number}"),
        json!({"paths": ["AssumeRole"], "consumer": {"instanceRole": null}}),
    )
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}

async fn not_ready(case: &Case<'_>) -> Result<usize> {
    let grants = case.cluster().list(&case.namespace, "carg").await?;
    let is_ready =
        |grant: &&Value| condition(grant, "Ready").is_some_and(|ready| ready["status"] == "True");
    Ok(grants.iter().filter(|grant| !is_ready(grant)).count())
}

/// Has IAM and ECR admit a few calls a second of the account.
fn throttle(installation: &Installation, account: &str) -> Result<()> {
    let endpoint = installation.operator_settings(OPERATOR, &[]).aws_endpoint;
    let authority = endpoint
        .strip_prefix("http://")
        .context("not plain HTTP")?
        .trim_end_matches('/');
    let body = json!({"account": account, "perSecond": PER_SECOND}).to_string();
    let mut connection = TcpStream::connect(authority)?;
    let length = body.len();
    let head = format!(
        "POST /_stack/throttle HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n"
    );
    connection.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.split(' ').nth(1) == Some("200"), "{answer}");
    Ok(())
}
