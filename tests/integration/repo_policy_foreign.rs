//! Other writers of the same repository policy: statements that a grant replaces, tools that undo
//! our statements, and documents that cannot be written.

use crate::support::case::{Case, FastResync, GRANT, condition, direct};
use anyhow::{Context, Result, ensure};
use local_stack::{CallLog, Document, REGION, Repository, by_operation, eventually};
use serde_json::{Value, json};

/// Returns a statement as people write it by hand, which allows the accounts these actions.
fn by_hand(accounts: &[&str], actions: &[&str]) -> Value {
    json!({"Sid": "new statement", "Effect": "Allow", "Principal": {"AWS": accounts}, "Action": actions})
}

async fn statements(case: &Case<'_>, repository: &Repository) -> Result<Vec<Value>> {
    Ok(repository
        .policy(case.stack())
        .await?
        .map(|policy| policy.statements())
        .unwrap_or_default())
}

fn sids(statements: &[Value]) -> Vec<&str> {
    statements
        .iter()
        .filter_map(|statement| statement["Sid"].as_str())
        .collect()
}

#[tokio::test]
async fn handmade_statement_is_replaced_only_once_grants_cover_it() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let other = format!("7{}", &case.pair.consumer[1..]);
    let hand_made = by_hand(
        &[&case.pair.consumer, &other],
        &["ecr:BatchGetImage", "ecr:PutImage"],
    );
    let denying = json!({"Sid": "keep", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository"});
    app.set_policy(
        case.stack(),
        &Document(json!({"Version": "2008-10-17", "Statement": [hand_made, denying]})),
    )
    .await?;

    let replacing = direct(json!({"registry": {"replaceSids": ["new statement", "keep"]}}));
    case.apply(&case.grant(replacing.clone())).await?;
    let message = case.not_ready("NotAdmitted").await?;
    ensure!(message.contains("replaceSids"), "{message}");
    let still = statements(&case, &app).await?;
    ensure!(
        sids(&still).starts_with(&["new statement", "keep"]),
        "changed without leave: {still:?}"
    );

    let rule = case.rule(json!({"allowReplace": true, "consumers": [case.pair.consumer, other]}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    let grant = case.ready().await?;
    let told = &grant["status"]["replacements"];
    ensure!(
        told[0]["state"] == "Kept"
            && told[0]["message"]
                .as_str()
                .is_some_and(|m| m.contains("not an Allow")),
        "{told}"
    );
    ensure!(
        told[1]["state"] == "Kept"
            && told[1]["message"]
                .as_str()
                .is_some_and(|m| m.contains(&other)),
        "{told}"
    );
    let session = case.admin_session("admin").await?;
    session.push(&app, "v1").await?.allowed()?;

    case.apply(&case.grant_named("other", direct(json!({"consumer": {"accountID": other}}))))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    let grant = case.reconcile().await?;
    let told = &grant["status"]["replacements"][1];
    ensure!(
        told["sid"] == "new statement" && told["state"] == "Replaced",
        "{told}"
    );
    let left = statements(&case, &app).await?;
    ensure!(
        left.len() == 2 && !sids(&left).contains(&"new statement") && sids(&left).contains(&"keep"),
        "{left:?}"
    );
    session.push(&app, "v2").await?.allowed()?;

    case.delete().await?;
    let left = statements(&case, &app).await?;
    ensure!(
        !sids(&left).contains(&"new statement"),
        "what was replaced came back: {left:?}"
    );
    session.push(&app, "v3").await?.denied()?;
    Ok(())
}

#[tokio::test]
async fn contested_policy_is_reported_and_rewritten_less_often() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    let app = case.repository("app");
    case.granted(direct(json!({}))).await?;
    let log = CallLog::of(case.stack());
    let mark = log.mark()?;
    let theirs = json!({"Sid": "terraform", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444444444444:root"}, "Action": "ecr:BatchGetImage"});
    let theirs = Document(json!({"Version": "2012-10-17", "Statement": [theirs]}));
    let mut undone = 0;
    let told = eventually("it is told", async || {
        if statements(&case, &app).await?.len() != 1 || undone == 0 {
            app.set_policy(case.stack(), &theirs).await?;
            undone += 1;
        }
        let grant = case.cluster().get(&case.namespace, GRANT).await?;
        let ready = condition(&grant, "Ready").cloned().unwrap_or_default();
        ensure!(ready["reason"] == "ContestedPolicy", "{ready}");
        Ok(ready["message"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    // Tenants must not see foreign Sids: the grant's status has their number, and the account's
    // status the Sids.
    ensure!(
        told.contains("one other statement") && !told.contains("terraform`"),
        "{told}"
    );
    ensure!(
        told.contains("CloudTrail") && told.contains("RegistryGrants"),
        "{told}"
    );
    let contested = async || {
        let account = case
            .cluster()
            .get("", &format!("awsaccount/{}", case.pair.registry))
            .await?;
        anyhow::Ok(account["status"]["contestedPolicies"].clone())
    };
    eventually("the account's status has the Sids", async || {
        let (found, app) = (
            contested().await?,
            json!([{"region": REGION, "repository": "app", "sids": ["terraform"]}]),
        );
        ensure!(found == app, "{found}");
        Ok(())
    })
    .await?;
    let writes = |log: &CallLog| -> Result<usize> {
        let calls = log
            .of_operator(mark)?
            .into_iter()
            .filter(|call| call.account == case.pair.registry);
        Ok(by_operation(&calls.collect::<Vec<_>>())
            .get("ecr:SetRepositoryPolicy")
            .copied()
            .unwrap_or_default())
    };
    ensure!(
        writes(&log)? <= undone,
        "more writes than there was to put back"
    );

    // The policy is restored once the other tool has stopped.
    case.ready().await?;
    let both = statements(&case, &app).await?;
    ensure!(
        both.len() == 2 && sids(&both).contains(&"terraform"),
        "{both:?}"
    );
    eventually("the account's status has them no more", async || {
        ensure!(contested().await?.is_null(), "{}", contested().await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn access_written_back_after_deletion_is_removed() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    let app = case.repository("app");
    case.granted(direct(json!({}))).await?;
    let with_ours = app.policy(case.stack()).await?.context("no policy")?;
    case.delete().await?;
    ensure!(
        app.policy(case.stack()).await?.is_none(),
        "the policy is still there"
    );
    // Somebody who had read the policy before writes it back.
    app.set_policy(case.stack(), &with_ours).await?;
    eventually("it is taken out again", async || {
        ensure!(app.policy(case.stack()).await?.is_none(), "still there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn foreign_statement_that_blocks_writes_is_named() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let root = case.stack().aws(&case.pair.registry);
    let ec2 = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
    let created = root
        .iam
        .create_role()
        .role_name("theirs")
        .assume_role_policy_document(crate::support::case::document(ec2));
    let arn = created.send().await?.role.context("no role")?.arn;
    let old = json!({"Sid": "old", "Effect": "Allow", "Principal": {"AWS": arn}, "Action": "ecr:BatchGetImage"});
    app.set_policy(
        case.stack(),
        &Document(json!({"Version": "2012-10-17", "Statement": [old]})),
    )
    .await?;
    root.iam.delete_role().role_name("theirs").send().await?;

    case.apply(&case.grant(direct(json!({})))).await?;
    let message = case.not_ready("BlockedPolicy").await?;
    ensure!(
        message.contains("`old`")
            && message.contains("AROA")
            && message.contains(&case.pair.registry),
        "{message}"
    );
    root.ecr
        .delete_repository_policy()
        .repository_name("app")
        .send()
        .await?;
    case.ready().await?;
    Ok(())
}

#[tokio::test]
async fn reverted_policy_drift_is_reported_by_an_event() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    case.granted(direct(json!({}))).await?;
    case.stack()
        .aws(&case.pair.registry)
        .ecr
        .delete_repository_policy()
        .repository_name("app")
        .send()
        .await?;
    case.reconcile().await?;
    eventually("the policy is restored", async || {
        ensure!(
            app.policy(case.stack()).await?.is_some(),
            "not restored yet"
        );
        Ok(())
    })
    .await?;
    case.cluster()
        .event(&case.namespace, "", &["DriftCorrected", "repository app"])
        .await
        .map(drop)
}

/// ECR refuses the entire document because of one account that does not exist.
#[tokio::test]
async fn grant_that_aws_rejects_affects_no_other_grant() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let other = format!("7{}", &case.pair.consumer[1..]);
    let rule = case.rule(json!({"consumers": [case.pair.consumer, other, "000000000000"]}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    let of = |account: &str| direct(json!({"consumer": {"accountID": account}}));
    case.granted(direct(json!({}))).await?;
    case.apply(&case.grant_named("mistyped", of("000000000000")))
        .await?;
    let message = case.not_ready_named("carg/mistyped", "Settling").await?;
    ensure!(
        message.contains("account or role does not exist"),
        "{message}"
    );
    // One grant is added, another one deleted, and the mistake affects only its own grant.
    case.apply(&case.grant_named("other", of(&other))).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    case.ready().await?;
    case.delete().await?;
    let left = app
        .policy(case.stack())
        .await?
        .context("no policy")?
        .to_string();
    ensure!(
        left.contains(&other) && !left.contains(&case.pair.consumer),
        "{left}"
    );
    case.delete_all().await?;
    ensure!(
        app.policy(case.stack()).await?.is_none(),
        "something is left"
    );
    Ok(())
}

#[tokio::test]
async fn statement_replaced_repeatedly_is_kept_and_reported() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    let app = case.repository("app");
    let rule = case.rule(json!({"allowReplace": true}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    let hand_made = by_hand(&[&case.pair.consumer], &["ecr:BatchGetImage"]);
    case.granted(direct(
        json!({"registry": {"replaceSids": ["new statement"]}}),
    ))
    .await?;
    let told = eventually("it is told", async || {
        let now = app.policy(case.stack()).await?.context("no policy")?;
        if !sids(&now.statements()).contains(&"new statement") {
            app.set_policy(case.stack(), &now.with_statement(hand_made.clone()))
                .await?;
        }
        let grant = case.cluster().get(&case.namespace, GRANT).await?;
        let told = &grant["status"]["replacements"][0];
        ensure!(told["state"] == "Kept", "{told}");
        ensure!(
            condition(&grant, "Ready").is_some_and(|ready| ready["status"] == "True"),
            "{}",
            grant["status"]
        );
        Ok(told["message"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    ensure!(
        told.contains("keeps restoring it") && told.contains("CloudTrail"),
        "{told}"
    );
    Ok(())
}
