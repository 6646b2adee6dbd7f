//! The chart's admission policies reject what the operator would refuse, in the same words, and
//! never block a deletion.

mod table;

use self::table::{NAMESPACE, accounts, grant, rows};
use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged, condition, list};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{Installation, Operator, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::OnceCell;

/// The installation of all tests here, with the policies and an operator.
async fn installation() -> Result<&'static Installation> {
    static SHARED: OnceCell<(Installation, Operator)> = OnceCell::const_new();
    let start = async || {
        let installation = Installation::start_with_policies("policies").await?;
        let operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
        anyhow::Ok((installation, operator))
    };
    Ok(&SHARED.get_or_try_init(start).await?.0)
}

/// Returns the API server's message for each grant that it would refuse, by name. Nothing is
/// stored.
async fn refusals(
    installation: &Installation,
    grants: &[Value],
) -> Result<BTreeMap<String, String>> {
    let mut refused = BTreeMap::new();
    for grant in grants {
        let name = grant["metadata"]["name"].as_str().context("no name")?;
        if let Some(why) = installation.cluster.would_refuse(grant).await? {
            refused.insert(name.to_owned(), why);
        }
    }
    Ok(refused)
}

#[tokio::test]
async fn policies_reject_what_the_operator_would_in_the_same_words() -> Result<()> {
    let installation = installation().await?;
    let cluster = &installation.cluster;
    cluster.create_namespace(NAMESPACE).await?;
    cluster
        .label("", &format!("namespace/{NAMESPACE}"), json!({"team": "b"}))
        .await?;
    let rows = rows();
    let items: Vec<Value> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, of)| of.accounts(row))
        .collect();
    cluster.apply(&list(items.clone()).to_string()).await?;
    // Once a grant that no rule admits is refused for each account, the policies know all accounts.
    let unknown = |row| {
        let (registry, consumer) = accounts(row);
        [registry, consumer].map(|id| {
            let mut asked = grant(
                row,
                json!({"registry": {"accountID": id}, "consumer": {"accountID": "999999999999"}}),
            );
            asked["metadata"]["name"] = json!(format!("to-nobody-{id}"));
            asked
        })
    };
    let unknown: Vec<Value> = (0..rows.len()).flat_map(unknown).collect();
    eventually("the policies know the accounts", async || {
        let refused = refusals(installation, &unknown).await?.len();
        ensure!(refused == unknown.len(), "{refused} of {}", unknown.len());
        Ok(())
    })
    .await?;
    let grants: Vec<Value> = rows.iter().map(|row| row.grant.clone()).collect();
    let rejected = refusals(installation, &grants).await?;
    for (row, of) in rows.iter().enumerate() {
        let by_operator = of.judged_by_the_operator(row)?;
        let of_grant = format!(
            "row {row}: {} under {} and {}",
            of.grant["spec"], of.registry_rules, of.consumer_rules
        );
        let Some(by_policy) = rejected.get(&format!("row-{row}")) else {
            ensure!(
                by_operator.is_empty() && of.refused.is_empty(),
                "admitted, but the operator says {by_operator:?}: {of_grant}"
            );
            continue;
        };
        ensure!(
            !of.refused.is_empty() && of.refused.iter().all(|what| by_policy.contains(what)),
            "{by_policy}: {of_grant}"
        );
        let alike = by_operator
            .iter()
            .any(|problem| by_policy.ends_with(&problem.message));
        ensure!(
            alike,
            "the policy says {by_policy}, the operator {by_operator:#?}: {of_grant}"
        );
    }
    // The operator would keep trying to access these accounts.
    for account in &items {
        let name = account["metadata"]["name"].as_str().context("no name")?;
        let account = format!("awsaccount/{name}");
        cluster.begin_to_delete("", &account).await?;
    }
    Ok(())
}

#[tokio::test]
async fn grant_that_policies_cannot_judge_is_left_to_the_operator() -> Result<()> {
    let installation = installation().await?;
    let case = Case::on(installation).await?;
    case.apply(&case.grant(json!({}))).await?;
    case.not_ready("AccountNotFound").await?;
    // So many that comparing them exceeds the API server's cost limit for a policy.
    let patterns = |of: char| {
        (0..100)
            .map(|n| format!("team/{}{n:03}*", String::from(of).repeat(100)))
            .collect::<Vec<_>>()
    };
    let rules = vec![case.rule(json!({"repositories": patterns('x')})); 20];
    case.apply(&case.registry_account(json!({"registry": {"rules": rules}})))
        .await?;
    let refused = |name: &str, repositories: Value| {
        case.grant_named(name, json!({"registry": {"repositories": repositories}}))
    };
    eventually("the policies know the account", async || {
        refusals(installation, &[refused("few", json!(["other"]))])
            .await?
            .remove("few")
            .context("not refused")
    })
    .await?;
    case.apply(&refused("many", json!(patterns('y')))).await?;
    case.not_ready_named("carg/many", "NotAdmitted")
        .await
        .map(drop)
}

#[tokio::test]
async fn grant_outside_narrowed_rules_is_revoked_and_deletable() -> Result<()> {
    let case = Case::on(installation().await?).await?;
    case.apply_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"maxAccess": "Pull"}))]}}),
    ))
    .await?;
    let message = case.not_ready("NotAdmitted").await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(grant["status"]["applied"].is_null(), "not revoked yet");
            Ok(())
        })
        .await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    // An update that asks for nothing new is accepted. One that does is refused with the same
    // message.
    let name = case.namespace.as_str();
    let note = json!({"metadata": {"annotations": {"note": "kept"}}});
    case.cluster().merge(name, GRANT, note).await?;
    let finalizers = json!(["registrygrants.dev/revoke", "example.com/other"]);
    let patch = json!({"metadata": {"finalizers": finalizers}});
    case.cluster().merge(name, GRANT, patch).await?;
    let refused = case
        .cluster()
        .refused(&case.grant(json!({"paths": ["Direct"]})))
        .await?;
    ensure!(
        refused.contains(&message),
        "{refused}: the operator says {message}"
    );
    // Only the other finalizer blocks its deletion, and it can be removed.
    case.begin_to_delete().await?;
    case.cluster()
        .wait_until(name, GRANT, |grant| {
            ensure!(
                grant["metadata"]["finalizers"] == json!(["example.com/other"]),
                "{}",
                grant["metadata"]["finalizers"]
            );
            Ok(())
        })
        .await?;
    let none = json!({"metadata": {"finalizers": null}});
    case.cluster().merge(name, GRANT, none).await?;
    case.cluster().wait_until_gone(name, GRANT).await
}

#[tokio::test]
async fn account_in_use_by_grants_cannot_be_deleted() -> Result<()> {
    let case = Case::on(installation().await?).await?;
    case.apply_accounts().await?;
    case.granted(json!({})).await?;
    let accounts = [
        (&case.pair.registry, "registry"),
        (&case.pair.consumer, "consumer"),
    ];
    for (account, side) in accounts {
        let name = format!("awsaccount/{account}");
        case.cluster()
            .wait_until("", &name, |account| counts(account, side, 1))
            .await?;
        let deleted = case.cluster().try_kubectl(&["delete", &name], None).await?;
        let stderr = deleted.stderr;
        ensure!(
            !deleted.success
                && stderr.contains(&format!("AWSAccount {account} is used by 1 grant, whose")),
            "{stderr}"
        );
        ensure!(
            stderr.contains("kubectl get carg --all-namespaces")
                && stderr.contains("remove the rules"),
            "{stderr}"
        );
    }
    case.delete().await?;
    for (account, side) in accounts {
        let name = format!("awsaccount/{account}");
        case.cluster()
            .wait_until("", &name, |account| counts(account, side, 0))
            .await?;
        case.cluster().delete("", &name).await?;
    }
    Ok(())
}

fn counts(account: &Value, side: &str, wanted: i64) -> Result<()> {
    let (found, ready) = (
        &account["status"]["grants"][side],
        condition(account, "Ready"),
    );
    ensure!(
        *found == wanted,
        "{found} and not {wanted} grants; {ready:?}"
    );
    Ok(())
}
