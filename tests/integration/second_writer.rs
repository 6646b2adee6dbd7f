//! Two clusters whose operators have the same installation ID, because one was restored from the
//! other's backup, or because the workloads moved.

use crate::support::case::{Case, OPERATOR, condition, direct};
use crate::support::flags::{self, FAST_RESYNC};
use anyhow::{Context, Result, ensure};
use local_stack::{Installation, Operator, eventually};
use serde_json::{Value, json};

async fn operator(installation: &Installation) -> Result<Operator> {
    let more = ["--installation=0123456789ab", "--sweep=off"];
    let flags = flags::with(&FAST_RESYNC, &more);
    installation.start_operator(OPERATOR, &flags).await
}

async fn open(case: &Case<'_>) -> Result<()> {
    case.apply(&case.registry_account(json!({}))).await?;
    case.apply(&case.consumer_account(json!({}))).await
}

async fn second_writer(case: &Case<'_>) -> Result<Value> {
    let account = case
        .cluster()
        .get("", &format!("awsaccount/{}", case.pair.registry))
        .await?;
    Ok(account["status"]["secondWriter"].clone())
}

#[tokio::test]
async fn operator_that_notices_a_second_writer_only_revokes() -> Result<()> {
    let (here, there) = Installation::exclusive_pair().await?;
    let case = Case::on(&here).await?;
    case.apply_accounts().await?;
    let first = operator(&here).await?;
    case.granted(direct(json!({}))).await?;
    let app = case.repository("app");
    let policy = async || {
        anyhow::Ok(
            app.policy(case.stack())
                .await?
                .map(|policy| policy.to_string())
                .unwrap_or_default(),
        )
    };

    let other = case.in_cluster_of(&there).await?;
    open(&other).await?;
    let second = operator(&there).await?;
    let role = "role/ci";
    case.admin_session("ci").await?;
    let consumer = json!({"wholeAccount": null, "instanceRole": null, "roles": ["ci"]});
    let narrow = json!({"access": "Pull", "paths": ["Direct"], "registry": {"role": null}, "consumer": consumer});
    other.apply(&other.grant_named("theirs", narrow)).await?;
    eventually("it is noticed", async || {
        ensure!(
            second_writer(&case).await?["evidence"]
                .as_array()
                .is_some_and(|all| all.len() >= 2),
            "not yet"
        );
        Ok(())
    })
    .await?;

    case.apply(&case.grant_named("new", direct(json!({"access": "Pull"}))))
        .await?;
    let message = case.not_ready_named("carg/new", "SecondWriter").await?;
    ensure!(
        message.contains("registrygrants.dev/sole-writer=true"),
        "it does not say what to do: {message}"
    );
    other
        .cluster()
        .wait_for_condition(&other.namespace, "carg/theirs", "Ready")
        .await?;
    case.delete_named("carg/grant").await?;
    case.reconcile_named("carg/new").await?;
    let left = policy().await?;
    ensure!(
        left.contains(role) && !left.contains("ecr:PutImage"),
        "{left}"
    );

    second.kill();
    let account = format!("awsaccount/{}", case.pair.registry);
    let word = json!({"metadata": {"annotations": {"registrygrants.dev/sole-writer": "true"}}});
    case.cluster().merge("", &account, word).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/new", "Ready")
        .await?;
    eventually(
        "what the other one had is gone, and nothing is said of it any more",
        async || {
            let left = policy().await?;
            ensure!(
                !left.contains(role) && left.contains("ecr:BatchGetImage"),
                "{left}"
            );
            ensure!(
                second_writer(&case).await?.is_null(),
                "{}",
                second_writer(&case).await?
            );
            Ok(())
        },
    )
    .await?;
    ensure!(first.terminate()?.success(), "it did not end well");
    Ok(())
}

/// The documented move to another cluster: the old operator stops, the new one has its ID, and
/// every grant has a new UID.
#[tokio::test]
async fn move_to_another_cluster_is_no_second_writer() -> Result<()> {
    let (old, new) = Installation::exclusive_pair().await?;
    let case = Case::on(&old).await?;
    case.apply_accounts().await?;
    let first = operator(&old).await?;
    case.granted(json!({})).await?;
    ensure!(first.terminate()?.success(), "it did not end well");

    let moved = case.in_cluster_of(&new).await?;
    open(&moved).await?;
    let second = operator(&new).await?;
    let granted = moved.granted(json!({})).await?;
    let uid = granted["metadata"]["uid"]
        .as_str()
        .context("no UID")?
        .to_owned();
    for time in 1..=3 {
        moved.reconcile().await?;
        ensure!(
            second_writer(&moved).await?.is_null(),
            "time {time}: {}",
            second_writer(&moved).await?
        );
    }
    let (registry, _) = case.accounts().await?;
    let role = serde_json::to_string(&registry.roles["pusher-grant"])?;
    ensure!(
        role.contains(&uid),
        "the role is not tagged for the new grant: {role}"
    );
    ensure!(
        condition(&granted, "Ready").is_some_and(|ready| ready["status"] == "True"),
        "{granted}"
    );
    ensure!(second.terminate()?.success(), "it did not end well");
    Ok(())
}
