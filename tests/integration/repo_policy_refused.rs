//! A principal that AWS rejects in a repository policy: no other grant loses access, and
//! revocations continue.

use crate::support::case::{Case, OPERATOR, direct, document};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{CallLog, Emulation, Installation, Repository, eventually};
use serde_json::{Value, json};

/// Returns a grant for this account by the repository's policy alone.
fn direct_to(account: &str) -> Value {
    direct(json!({"consumer": {"accountID": account}}))
}

/// Further consumers: an account, and a number that does not exist.
fn others(case: &Case<'_>) -> [String; 2] {
    [
        format!("7{}", &case.pair.consumer[1..]),
        "000000000000".to_owned(),
    ]
}

async fn open(case: &Case<'_>) -> Result<()> {
    case.apply_accounts().await?;
    let consumers: Vec<String> = others(case)
        .into_iter()
        .chain([case.pair.consumer.clone()])
        .collect();
    let rule = case.rule(json!({"consumers": consumers}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await
}

async fn ready(case: &Case<'_>, name: &str, account: &str) -> Result<()> {
    case.apply(&case.grant_named(name, direct_to(account)))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, &format!("carg/{name}"), "Ready")
        .await
        .map(drop)
}

async fn policy(case: &Case<'_>, app: &Repository) -> Result<String> {
    Ok(app
        .policy(case.stack())
        .await?
        .context("no policy")?
        .to_string())
}

#[tokio::test]
async fn rejected_grant_takes_no_access_after_a_restart() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let case = Case::on(&installation).await?;
    open(&case).await?;
    let [other, nobody] = others(&case);
    ready(&case, "grant", &case.pair.consumer).await?;
    ready(&case, "other", &other).await?;
    case.apply(&case.grant_named("mistyped", direct_to(&nobody)))
        .await?;
    case.not_ready_named("carg/mistyped", "Settling").await?;
    operator.kill();

    let log = CallLog::of(case.stack());
    let mark = log.mark()?;
    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let calls = eventually("the new operator has tried", async || {
        let calls = log.of_operator(mark)?;
        let sets = |taken: bool| {
            let of = |status: u16| (200..300).contains(&status) == taken;
            calls
                .iter()
                .filter(|call| call.action == "SetRepositoryPolicy" && of(call.status))
                .count()
        };
        ensure!(
            sets(false) >= 1 && sets(true) >= 1,
            "{} refused, {} taken",
            sets(false),
            sets(true)
        );
        Ok(calls)
    })
    .await?;
    let deleted = calls
        .iter()
        .filter(|call| call.action == "DeleteRepositoryPolicy")
        .count();
    ensure!(
        deleted == 0,
        "the policy was deleted, and with it everybody's access"
    );
    let left = policy(&case, &case.repository("app")).await?;
    ensure!(
        left.contains(&other) && left.contains(&case.pair.consumer),
        "{left}"
    );
    case.ready().await?;
    Ok(())
}

/// If a valid principal is deleted, AWS refuses every policy that names it, even one that only
/// removes others.
#[tokio::test]
async fn closed_consumer_account_blocks_no_revocation_or_new_access() -> Result<()> {
    let case = Case::new().await?;
    let (app, [closed, newcomer]) = (
        case.repository("app"),
        ["6", "7"].map(|first| format!("{first}{}", &case.pair.consumer[1..])),
    );
    case.apply_accounts().await?;
    let rule = case.rule(json!({"consumers": [case.pair.consumer, closed, newcomer]}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    ready(&case, "grant", &case.pair.consumer).await?;
    ready(&case, "closed", &closed).await?;
    Emulation::of(case.stack()).close_account(&closed).await?;

    ready(&case, "newcomer", &newcomer).await?;
    let policy_of_app = policy(&case, &app).await?;
    ensure!(
        policy_of_app.contains(&case.pair.consumer),
        "others lost their access: {policy_of_app}"
    );
    case.cluster().delete(&case.namespace, "carg/grant").await?;
    let policy_of_app = policy(&case, &app).await?;
    ensure!(
        !policy_of_app.contains(&case.pair.consumer) && policy_of_app.contains(&newcomer),
        "{policy_of_app}"
    );
    case.cluster()
        .delete(&case.namespace, "carg/closed")
        .await?;
    case.cluster()
        .delete(&case.namespace, "carg/newcomer")
        .await?;
    ensure!(
        app.policy(case.stack()).await?.is_none(),
        "something is left"
    );
    Ok(())
}

/// Field case 12: an old policy that ECR does not accept any more.
#[tokio::test]
async fn foreign_statement_that_ecr_no_longer_accepts_is_named() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let old = json!({"Sid": "Old", "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", case.pair.consumer)},
        "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"]});
    Emulation::of(case.stack())
        .plant_policy(&app, &document(old))
        .await?;
    case.apply(&case.grant(direct_to(&case.pair.consumer)))
        .await?;
    let message = case.not_ready("BlockedPolicy").await?;
    ensure!(
        message.contains("`Old` has ecr:GetAuthorizationToken")
            && message.contains("not this operator's"),
        "{message}"
    );
    ensure!(
        message.contains(&case.pair.registry) && message.contains("in ECR"),
        "{message}"
    );
    Ok(())
}
