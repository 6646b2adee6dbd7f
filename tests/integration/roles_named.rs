//! Roles that a grant names exactly: the operator evaluates access for each that it may read.

use crate::support::case::{Case, GRANT, verdicts};
use anyhow::{Result, ensure};
use serde_json::json;

#[tokio::test]
async fn named_roles_are_judged_one_by_one_and_patterns_are_not() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.admin_session("builder").await?;
    let consumer =
        json!({"wholeAccount": null, "instanceRole": null, "roles": ["builder", "ci/*", "nobody"]});
    case.apply(&case.grant(json!({"consumer": consumer, "paths": ["Direct"]})))
        .await?;
    let message = case.not_ready("PathDenied").await?;
    ensure!(message.contains("role/nobody does not exist"), "{message}");
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    let of = |role: &str| {
        let arn = format!("arn:aws:iam::{}:role/{role}", case.pair.consumer);
        verdicts(&grant, &arn)
            .remove(&("Direct".into(), "Pull".into()))
            .map(|(verdict, _)| verdict)
    };
    let told = [of("builder"), of("ci/*"), of("nobody")].map(Option::unwrap_or_default);
    ensure!(
        told == ["Allowed", "Depends", "Denied"],
        "{told:?}: {:#}",
        grant["status"]["access"]
    );

    let consumer =
        json!({"wholeAccount": null, "instanceRole": null, "roles": ["builder", "ci/*"]});
    case.granted(json!({"consumer": consumer, "paths": ["Direct"]}))
        .await
        .map(drop)
}

#[tokio::test]
async fn roles_are_not_read_for_namespaces_no_rule_admits() -> Result<()> {
    let case = Case::with_accounts().await?;
    let rule = json!({"namespaces": {"names": ["somebody-else"]}, "roles": ["registry-grants/*"]});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await?;
    case.admin_session("payments").await?;
    let consumer =
        json!({"wholeAccount": null, "instanceRole": null, "roles": ["payments", "nobody"]});
    let grant = case
        .granted(json!({"consumer": consumer, "paths": ["Direct"]}))
        .await?;
    for role in ["payments", "nobody"] {
        let told = verdicts(
            &grant,
            &format!("arn:aws:iam::{}:role/{role}", case.pair.consumer),
        );
        ensure!(
            told.len() == 2 && told.values().all(|(verdict, _)| verdict == "Unknown"),
            "{role}: {told:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn unmanaged_consumers_access_is_unknown_with_what_to_check() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    let consumer = json!({"wholeAccount": null, "roles": ["builder"], "instanceRole": null});
    let grant = case.granted(json!({"consumer": consumer})).await?;
    let arn = format!("arn:aws:iam::{}:role/builder", case.pair.consumer);
    for ((path, action), (verdict, message)) in verdicts(&grant, &arn) {
        ensure!(verdict == "Unknown", "{path} {action}: {verdict}");
        ensure!(
            message.contains("has no AWSAccount") && message.contains("check there"),
            "{message}"
        );
    }
    Ok(())
}
