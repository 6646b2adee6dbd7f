//! The status of an `AWSAccount`: which grants use it, and the last error.

use crate::support::case::{Case, condition, list};
use anyhow::{Context, Result, ensure};
use local_stack::AuditLog;
use serde_json::{Value, json};

fn grants(account: &Value) -> (i64, i64) {
    let of = |side: &str| account["status"]["grants"][side].as_i64().unwrap_or(-1);
    (of("registry"), of("consumer"))
}

#[tokio::test]
async fn account_counts_its_grants_and_a_burst_takes_few_writes() -> Result<()> {
    let case = Case::new().await?;
    case.apply(&case.registry_account(json!({"registry": null})))
        .await?;
    let name = format!("awsaccount/{}", case.pair.registry);
    let counted = async |wanted: (i64, i64)| {
        let check = |account: &Value| {
            ensure!(
                grants(account) == wanted,
                "{:?} and not {wanted:?}",
                grants(account)
            );
            Ok(())
        };
        case.cluster().wait_until("", &name, check).await
    };
    counted((0, 0)).await?;
    let audit = AuditLog::of(case.stack());
    let mark = audit.mark()?;
    let many: Vec<Value> = (0..60)
        .map(|n| case.grant_named(&format!("grant-{n}"), json!({})))
        .collect();
    case.apply(&list(many)).await?;
    counted((60, 0)).await?;
    let of_account = |write: &local_stack::Write| write.object.ends_with(&case.pair.registry);
    let writes = audit
        .of_operator(mark)
        .await?
        .into_iter()
        .filter(of_account)
        .count();
    ensure!(
        writes < 30,
        "{writes} writes to the account's status for 60 grants"
    );
    // A grant that no rule admits also uses the account, because it may have been admitted before.
    case.delete_all().await?;
    counted((0, 0)).await?;
    let columns = case.cluster().kubectl(&["get", &name]).await?;
    ensure!(
        columns.contains("ASREGISTRY") && columns.contains("ASCONSUMER"),
        "{columns}"
    );
    Ok(())
}

#[tokio::test]
async fn last_error_stays_after_the_account_recovers() -> Result<()> {
    let case = Case::with_accounts().await?;
    let name = format!("awsaccount/{}", case.pair.registry);
    let ready = async |wanted: &str| {
        let check = |account: &Value| {
            let ready = condition(account, "Ready").context("no Ready")?;
            let current = ready["observedGeneration"] == account["metadata"]["generation"];
            ensure!(current && ready["status"] == wanted, "{ready}");
            Ok(())
        };
        case.cluster().wait_until("", &name, check).await
    };
    let never_failed = ready("True").await?;
    ensure!(
        never_failed["status"]["lastError"].is_null(),
        "{}",
        never_failed["status"]
    );
    let other = json!({"credentials": {"assumeRole": {"externalID": "another"}}});
    case.apply(&case.registry_account(other)).await?;
    let failed = ready("False").await?["status"]["lastError"].clone();
    let message = failed["message"].as_str().unwrap_or_default();
    ensure!(
        failed["reason"] == "CredentialsUnavailable" && message.contains("sts:AssumeRole"),
        "{failed}"
    );
    case.apply(&case.registry_account(json!({}))).await?;
    let healed = ready("True").await?["status"]["lastError"].clone();
    ensure!(
        healed == failed && healed["time"].is_string(),
        "{healed} is not {failed}"
    );
    Ok(())
}
