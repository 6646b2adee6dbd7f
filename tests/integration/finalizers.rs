//! The finalizer: tenants cannot remove it, the operator restores it, a grant that disappears
//! without it is revoked by its record, and it never blocks a deletion. All of this is one test,
//! because its end removes the definitions.

use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{
    HELM_RELEASE, IamCalls as _, Installation, OPERATOR_NAMESPACE, Operator, eventually,
    repository_root,
};
use serde_json::{Value, json};
use std::process::Command;

const NO_FINALIZER: &str = r#"{"metadata":{"finalizers":null}}"#;

#[tokio::test]
async fn finalizer_guards_access_and_never_blocks_deletion() -> Result<()> {
    let installation = Installation::start_with_policies("finalizers").await?;
    let mut operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    eventually("the policy holds", async || guarded(&installation).await).await?;

    tenants_cannot_take_it_off(&installation)
        .await
        .context("tenants")?;
    taken_off_by_an_admin_it_comes_back(&installation)
        .await
        .context("admins")?;
    a_grant_that_disappears_is_revoked(&installation, &operator)
        .await
        .context("one disappears")?;
    many_that_disappear_at_once_are_left_to_the_sweep(&installation, &operator)
        .await
        .context("many disappear")?;
    deletions_of_every_kind_end(&installation)
        .await
        .context("deletions")?;
    restored_without_status_it_is_deleted(&installation, &mut operator)
        .await
        .context("restored")?;
    uninstalled_it_can_be_taken_off(&installation)
        .await
        .context("uninstalled")?;
    drop(operator);
    Ok(())
}

/// A grant that only has a record and the finalizer: enough for the policy.
async fn guarded(installation: &Installation) -> Result<()> {
    let case = Case::on(installation).await?;
    case.apply_accounts().await?;
    case.granted(json!({})).await?;
    tenant(&case).await?;
    let none = json!({"metadata": {"finalizers": null}});
    let tenant = case.cluster().as_user("tenant");
    let taken = tenant.merge(&case.namespace, GRANT, none).await;
    case.delete().await?;
    ensure!(taken.is_err(), "it was taken off");
    Ok(())
}

/// Binds a user to `edit` in the case's namespace.
async fn tenant(case: &Case<'_>) -> Result<()> {
    let cluster = case.cluster();
    cluster.bind_role(&case.namespace, "edit", "tenant").await?;
    let tenant = cluster.as_user("tenant");
    eventually("the tenant may edit", async || {
        let grants = "crossaccountregistrygrants.registrygrants.dev";
        let may = tenant.may(&case.namespace, "patch", grants).await?;
        ensure!(may, "not yet");
        Ok(())
    })
    .await
}

/// Removes the finalizer as an admin.
async fn take_off(case: &Case<'_>, grant: &str) -> Result<()> {
    let none = json!({"metadata": {"finalizers": null}});
    case.cluster()
        .merge(&case.namespace, grant, none)
        .await
        .map(drop)
}

/// Removes the finalizer.
fn patched<'a>(case: &'a Case<'_>, more: &[&'a str]) -> Vec<&'a str> {
    let patch = [
        "patch",
        GRANT,
        "--namespace",
        &case.namespace,
        "--type=merge",
        "--patch",
        NO_FINALIZER,
    ];
    [&patch[..], more].concat()
}

async fn opened<'a>(installation: &'a Installation) -> Result<Case<'a>> {
    let case = Case::on(installation).await?;
    case.apply_accounts().await?;
    case.granted(json!({})).await?;
    Ok(case)
}

async fn tenants_cannot_take_it_off(installation: &Installation) -> Result<()> {
    let case = opened(installation).await?;
    tenant(&case).await?;
    let refused = |message: &str| {
        let ways_out = message.contains("registrygrants.dev/abandon=true")
            && message.contains("system:masters");
        ensure!(message.contains("must stay") && ways_out, "{message}");
        Ok(())
    };
    let taken = case
        .cluster()
        .try_kubectl(&patched(&case, &["--as", "tenant"]), None)
        .await?;
    ensure!(!taken.success, "a tenant took it off");
    refused(&taken.stderr)?;
    // kubectl replace replaces the entire object.
    let mut replacement = case.cluster().get(&case.namespace, GRANT).await?;
    replacement["metadata"]
        .as_object_mut()
        .context("no metadata")?
        .remove("finalizers");
    let replace = ["replace", "-f", "-", "--as", "tenant"];
    let replaced = case
        .cluster()
        .try_kubectl(&replace, Some(&replacement.to_string()))
        .await?;
    ensure!(!replaced.success, "a tenant replaced it away");
    refused(&replaced.stderr)?;
    // Other edits are accepted, and so is adding and removing another finalizer.
    let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}}).to_string();
    for finalizers in [
        json!(["registrygrants.dev/revoke", "example.com/other"]),
        json!(["registrygrants.dev/revoke"]),
    ] {
        let patch = [
            "patch",
            GRANT,
            "--namespace",
            &case.namespace,
            "--type=merge",
            "--as",
            "tenant",
            "--patch",
        ];
        case.cluster()
            .kubectl(&[&patch[..], &[&with(finalizers)]].concat())
            .await?;
    }
    // Nor while it is being deleted and something blocks that.
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.create_instance_profile()
        .instance_profile_name("holder")
        .send()
        .await?;
    iam.add_role_to_profile("holder", "pusher-grant").await?;
    let delete = [
        "delete",
        GRANT,
        "--namespace",
        &case.namespace,
        "--wait=false",
        "--as",
        "tenant",
    ];
    case.cluster().kubectl(&delete).await?;
    case.not_ready("StillInUse").await?;
    let taken = case
        .cluster()
        .try_kubectl(&patched(&case, &["--as", "tenant"]), None)
        .await?;
    ensure!(
        !taken.success,
        "a tenant took it off a grant that is being deleted"
    );
    refused(&taken.stderr)?;
    // The operator removes it when nothing is left.
    iam.remove_role_from_profile("holder", "pusher-grant")
        .await?;
    // It may already be gone.
    drop(case.annotate(GRANT, "reconcile", "now").await);
    case.cluster().wait_until_gone(&case.namespace, GRANT).await
}

async fn taken_off_by_an_admin_it_comes_back(installation: &Installation) -> Result<()> {
    let case = opened(installation).await?;
    take_off(&case, GRANT).await?;
    let is_back = |grant: &Value| {
        ensure!(
            grant["metadata"]["finalizers"] == json!(["registrygrants.dev/revoke"]),
            "not back yet"
        );
        Ok(())
    };
    case.cluster()
        .wait_until(&case.namespace, GRANT, is_back)
        .await?;
    let mut replacement = case.cluster().get(&case.namespace, GRANT).await?;
    replacement["metadata"]
        .as_object_mut()
        .context("no metadata")?
        .remove("finalizers");
    case.cluster()
        .try_kubectl(&["replace", "-f", "-"], Some(&replacement.to_string()))
        .await?
        .ok()?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, is_back)
        .await?;
    case.delete().await
}

/// Pauses the operator's process, so that it sees all changes at once.
fn while_it_sleeps(operator: &Operator, signal: &str) -> Result<()> {
    let pid = serde_json::to_value(operator.identity())?["pid"].to_string();
    ensure!(
        Command::new("kill")
            .args([signal, &pid])
            .status()?
            .success(),
        "no signal {signal} for {pid}"
    );
    Ok(())
}

async fn a_grant_that_disappears_is_revoked(
    installation: &Installation,
    operator: &Operator,
) -> Result<()> {
    let case = Case::on(installation).await?;
    case.apply_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    while_it_sleeps(operator, "-STOP")?;
    take_off(&case, GRANT).await?;
    case.delete().await?;
    while_it_sleeps(operator, "-CONT")?;
    eventually("it is revoked", async || {
        assert_unchanged(&before, &case.accounts().await?)
    })
    .await?;
    // A grant that has its name by then keeps its access.
    case.granted(json!({})).await?;
    let with = case.accounts().await?;
    while_it_sleeps(operator, "-STOP")?;
    take_off(&case, GRANT).await?;
    case.delete().await?;
    case.apply(&case.grant(json!({}))).await?;
    while_it_sleeps(operator, "-CONT")?;
    case.ready().await?;
    ensure!(
        with.0.roles.keys().eq(case.registry().await?.roles.keys()),
        "the role of its successor is gone"
    );
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    assert_unchanged(&before, &case.accounts().await?)
}

async fn many_that_disappear_at_once_are_left_to_the_sweep(
    installation: &Installation,
    operator: &Operator,
) -> Result<()> {
    const GRANTS: usize = 6;
    let case = Case::on(installation).await?;
    case.apply_accounts().await?;
    let spec = json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": {"instanceRole": null}});
    let names: Vec<String> = (0..GRANTS).map(|n| format!("g{n}")).collect();
    for name in &names {
        case.apply(&case.grant_named(name, spec.clone())).await?;
    }
    case.cluster()
        .wait_for_all(&case.namespace, "carg", "Ready")
        .await?;
    let before = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    while_it_sleeps(operator, "-STOP")?;
    for name in &names {
        take_off(&case, &format!("carg/{name}")).await?;
    }
    case.delete_all().await?;
    while_it_sleeps(operator, "-CONT")?;
    let swept = |account: &Value| {
        ensure!(
            account["status"]["sweep"]["found"] == 1,
            "{}",
            account["status"]["sweep"]
        );
        Ok(())
    };
    case.cluster()
        .wait_until("", &format!("awsaccount/{}", case.pair.registry), swept)
        .await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("it was revoked")?;
    ensure!(before.same_meaning(&after), "{after:?}");
    // Narrowing the rules revokes it: access that no rule admits is revoked even if no grant claims
    // it.
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"maxAccess": "Pull"}))]}}),
    ))
    .await?;
    eventually("what no rule admits is revoked", async || {
        let policy = case.repository("app").policy(case.stack()).await?;
        ensure!(policy.is_none(), "it is left: {policy:?}");
        Ok(())
    })
    .await
}

async fn deletions_of_every_kind_end(installation: &Installation) -> Result<()> {
    for cascade in ["background", "foreground", "orphan"] {
        let case = opened(installation).await?;
        let how = format!("--cascade={cascade}");
        let delete = [
            "delete",
            GRANT,
            "--namespace",
            &case.namespace,
            &how,
            "--timeout=120s",
        ];
        case.cluster().kubectl(&delete).await.context(how.clone())?;
    }
    let case = opened(installation).await?;
    case.cluster()
        .kubectl(&["delete", "namespace", &case.namespace, "--timeout=120s"])
        .await?;
    let case = opened(installation).await?;
    let definition = "crossaccountregistrygrants.registrygrants.dev";
    case.cluster()
        .kubectl(&["delete", "crd", definition, "--timeout=120s"])
        .await?;
    ensure!(
        case.repository("app").policy(case.stack()).await?.is_none(),
        "the definition went, and its access is left"
    );
    Ok(())
}

/// The definitions are restored from a backup, with a grant.
async fn restored_without_status_it_is_deleted(
    installation: &Installation,
    operator: &mut Operator,
) -> Result<()> {
    let definitions = repository_root().join("charts/registry-grants/files/crds");
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        &definitions.to_string_lossy(),
    ];
    installation.cluster.kubectl(&apply).await?;
    installation
        .cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
        .await?;
    *operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let case = opened(installation).await?;
    tenant(&case).await?;
    let mut saved = case.cluster().get(&case.namespace, GRANT).await?;
    case.delete().await?;
    let kept = ["name", "namespace", "finalizers"];
    saved["metadata"]
        .as_object_mut()
        .context("no metadata")?
        .retain(|key, _| kept.contains(&key.as_str()));
    saved.as_object_mut().context("no object")?.remove("status");
    case.apply(&saved).await?;
    case.delete().await
}

async fn uninstalled_it_can_be_taken_off(installation: &Installation) -> Result<()> {
    let case = opened(installation).await?;
    // The tenants' role is removed with the chart. This user is not in a group of the policy
    // either.
    case.cluster()
        .bind_role(&case.namespace, "cluster-admin", "keeper")
        .await?;
    case.cluster()
        .helm(&["uninstall", HELM_RELEASE, "--namespace", OPERATOR_NAMESPACE])
        .await?;
    case.begin_to_delete().await?;
    // The chart's policies were removed with it, so nothing is blocked without an operator.
    let none = json!({"metadata": {"finalizers": null}});
    let keeper = case.cluster().as_user("keeper");
    eventually("it can be taken off", async || {
        keeper.merge(&case.namespace, GRANT, none.clone()).await
    })
    .await?;
    case.cluster().wait_until_gone(&case.namespace, GRANT).await
}
