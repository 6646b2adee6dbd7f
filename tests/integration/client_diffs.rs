//! Clients that compare objects, as `kubectl apply` and Argo CD do, see no difference after an
//! unchanged manifest.

use crate::support::case::Case;
use anyhow::{Context, Result, ensure};
use serde_json::json;

#[tokio::test]
async fn reapplied_account_is_unchanged() -> Result<()> {
    let case = Case::new().await?;
    let registry_rule = json!({
        "namespaces": {"names": [case.namespace]},
        "repositories": ["app", "team-b/*"],
        "maxAccess": "PullPush",
        "consumers": [case.pair.consumer],
        "managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"],
    });
    let consumer_rule = json!({"namespaces": {"selector": {"matchLabels": {"team": "b"}}}, "roles": ["registry-grants/*"]});
    let account = json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "AWSAccount",
        "metadata": {"name": case.pair.registry},
        "spec": {"registry": {"rules": [registry_rule]}, "consumer": {"rules": [consumer_rule]}},
    });
    let file = std::env::temp_dir().join(format!(
        "account-{}-{}.json",
        std::process::id(),
        case.pair.registry
    ));
    std::fs::write(&file, account.to_string())?;
    let path = file
        .to_str()
        .context("the temporary folder's name is no text")?;
    let first = case
        .cluster()
        .kubectl(&["apply", "--filename", path])
        .await?;
    let second = case
        .cluster()
        .kubectl(&["apply", "--filename", path])
        .await?;
    std::fs::remove_file(&file)?;
    ensure!(
        first.contains("created") && second.contains("unchanged"),
        "{first}{second}"
    );
    Ok(())
}
