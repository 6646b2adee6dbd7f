//! The chart, installed for real: what its ServiceAccount may do, and no more.

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
    let said = String::from_utf8_lossy(&ran.stdout);
    ensure!(
        ran.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    ensure!(
        said.lines().filter(|line| line.starts_with("ok ")).count() > 30,
        "too few steps ran:\n{said}"
    );
    Ok(())
}

#[tokio::test]
async fn service_account_has_only_the_permissions_it_needs() -> Result<()> {
    let case = Case::new().await?;
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{HELM_RELEASE}");
    let table = [
        ("list", "crossaccountregistrygrants", true),
        ("watch", "awsaccounts", true),
        ("patch", "crossaccountregistrygrants/status", true),
        ("patch", "awsaccounts/status", true),
        ("get", "namespaces", true),
        ("create", "events.events.k8s.io", true),
        ("get", "leases.coordination.k8s.io", false),
        ("create", "crossaccountregistrygrants", false),
        ("delete", "crossaccountregistrygrants", false),
        ("patch", "awsaccounts", false),
        ("create", "awsaccounts", false),
        ("get", "secrets", false),
        ("get", "configmaps", false),
        ("get", "pods", false),
        ("create", "pods", false),
        ("patch", "namespaces", false),
        ("create", "serviceaccounts/token", false),
        ("update", "clusterroles.rbac.authorization.k8s.io", false),
    ];
    for (verb, resource, allowed) in table {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let ask = [
            "auth",
            "can-i",
            verb,
            resource,
            "--subresource",
            subresource,
            "--as",
            &user,
            "--namespace",
            &case.namespace,
        ];
        let said = case.cluster().try_kubectl(&ask, None).await?.stdout;
        ensure!(
            said.trim() == if allowed { "yes" } else { "no" },
            "{verb} {resource}/{subresource}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn namespace_editor_writes_grants_but_sees_no_accounts() -> Result<()> {
    let case = Case::new().await?;
    let binding = [
        "create",
        "rolebinding",
        "tenant",
        "--clusterrole",
        "edit",
        "--user",
        "tenant",
        "--namespace",
        &case.namespace,
    ];
    case.cluster().kubectl(&binding).await?;
    local_stack::eventually("the aggregated roles hold", async || {
        for (verb, resource, allowed) in [
            ("create", "crossaccountregistrygrants", "yes"),
            ("delete", "crossaccountregistrygrants", "yes"),
            ("get", "awsaccounts", "no"),
            ("create", "awsaccounts", "no"),
        ] {
            let ask = [
                "auth",
                "can-i",
                verb,
                resource,
                "--as",
                "tenant",
                "--namespace",
                &case.namespace,
            ];
            let said = case.cluster().try_kubectl(&ask, None).await?.stdout;
            ensure!(said.trim() == allowed, "{verb} {resource}: {said}");
        }
        Ok(())
    })
    .await
}
