//! The chart's installation, upgrade and removal, and the permissions of its ServiceAccount and of
//! tenants.

use crate::support::case::Case;
use anyhow::{Result, ensure};
use local_stack::{HELM_RELEASE, OPERATOR_NAMESPACE, Stack, repository_root};
use std::process::Command;

#[test]
fn chart_installs_upgrades_rolls_back_and_uninstalls() -> Result<()> {
    let stack = Stack::start("chart")?;
    let root = repository_root();
    let ran = Command::new("bash")
        .arg(root.join("tests/chart/lifecycle.sh"))
        .env("KUBECONFIG", &stack.info.kubeconfig)
        .env("KUBECTL", &stack.info.bin.kubectl)
        .env("HELM", &stack.info.bin.helm)
        .env("CHART", root.join("charts/registry-grants"))
        .output()?;
    let message = String::from_utf8_lossy(&ran.stdout);
    ensure!(
        ran.status.success(),
        "{message}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    ensure!(
        message
            .lines()
            .filter(|line| line.starts_with("ok "))
            .count()
            > 30,
        "too few steps ran:\n{message}"
    );
    Ok(())
}

#[tokio::test]
async fn service_account_has_only_the_permissions_it_needs() -> Result<()> {
    let case = Case::new().await?;
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{HELM_RELEASE}");
    let account = case.cluster().as_user(&user);
    let table = [
        (
            "list",
            "crossaccountregistrygrants.registrygrants.dev",
            true,
        ),
        ("watch", "awsaccounts.registrygrants.dev", true),
        (
            "patch",
            "crossaccountregistrygrants.registrygrants.dev/status",
            true,
        ),
        ("patch", "awsaccounts.registrygrants.dev/status", true),
        ("get", "namespaces", true),
        ("create", "events.events.k8s.io", true),
        ("get", "leases.coordination.k8s.io", false),
        (
            "create",
            "crossaccountregistrygrants.registrygrants.dev",
            false,
        ),
        (
            "delete",
            "crossaccountregistrygrants.registrygrants.dev",
            false,
        ),
        ("patch", "awsaccounts.registrygrants.dev", false),
        ("create", "awsaccounts.registrygrants.dev", false),
        ("get", "secrets", false),
        ("get", "configmaps", false),
        ("get", "pods", false),
        ("create", "pods", false),
        ("patch", "namespaces", false),
        ("create", "serviceaccounts/token", false),
        ("update", "clusterroles.rbac.authorization.k8s.io", false),
    ];
    for (verb, resource, allowed) in table {
        let may = account.may(&case.namespace, verb, resource).await?;
        ensure!(may == allowed, "{verb} {resource}: {may}");
    }
    Ok(())
}

#[tokio::test]
async fn namespace_editor_writes_grants_but_sees_no_accounts() -> Result<()> {
    let case = Case::new().await?;
    case.cluster()
        .bind_role(&case.namespace, "edit", "tenant")
        .await?;
    let tenant = case.cluster().as_user("tenant");
    local_stack::eventually("the aggregated roles hold", async || {
        for (verb, resource, allowed) in [
            (
                "create",
                "crossaccountregistrygrants.registrygrants.dev",
                true,
            ),
            (
                "delete",
                "crossaccountregistrygrants.registrygrants.dev",
                true,
            ),
            ("get", "awsaccounts.registrygrants.dev", false),
            ("create", "awsaccounts.registrygrants.dev", false),
        ] {
            let may = tenant.may(&case.namespace, verb, resource).await?;
            ensure!(may == allowed, "{verb} {resource}: {may}");
        }
        Ok(())
    })
    .await
}
