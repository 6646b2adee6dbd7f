//! Disruptions of a cluster with grants: an upgrade, a killed operator, a deleted namespace, an
//! uninstalled chart.

use crate::report::{Done, Report, say};
use crate::scene::{Scene, UPGRADED, accounts, as_before};
use crate::story::{GRANT, NAMESPACE, still_granted};
use anyhow::{Result, ensure};
use local_stack::{Cluster, Emulation, Pair, Repository, Session, prepare};

/// The second grant's namespace.
const OTHER_NAMESPACE: &str = "team-c";

/// Runs all disruptions. The grant of the story exists before and after. Returns whether every step
/// succeeded.
pub async fn live_through(report: &Report, scene: &Scene, running: &Done<Session<'_>>) -> Done<()> {
    let upgraded = report.step("helm upgrade: the grant is unchanged and works", async {
        running.need()?;
        upgrade(scene).await
    });
    let upgraded = upgraded.await;
    let killed = report.step(
        "the operator is killed in the middle of a second grant",
        async {
            upgraded.need()?;
            kill(scene).await
        },
    );
    let killed = killed.await;
    let namespace = report.step("kubectl delete namespace with the second grant", async {
        let (pair, before) = killed.need()?;
        let stack = scene.stack.need()?;
        let deleted = Cluster::of(stack)
            .kubectl(&["delete", "namespace", OTHER_NAMESPACE, "--timeout", "300s"])
            .await?;
        say(deleted.trim());
        as_before(before, &accounts(stack, pair).await?)
    });
    let namespace = namespace.await;
    let again = report.step(
        "helm uninstall while a grant exists, then install again",
        async {
            namespace.need()?;
            uninstall_and_install(scene).await
        },
    );
    again.await
}

async fn upgrade(scene: &Scene) -> Result<()> {
    let stack = scene.stack.need()?;
    let before = accounts(stack, &Pair::example()).await?;
    scene
        .operator
        .need()?
        .upgrade("controller.logLevel=debug")
        .await?;
    Cluster::of(stack)
        .wait_for_condition(NAMESPACE, GRANT, "Ready")
        .await?;
    still_granted(stack, UPGRADED).await?;
    as_before(&before, &accounts(stack, &Pair::example()).await?)
}

/// Returns the accounts of the second grant in their state before it.
async fn kill(scene: &Scene) -> Result<(Pair, [local_stack::AccountState; 2])> {
    let (stack, operator) = (scene.stack.need()?, scene.operator.need()?);
    let pair = Pair::fresh();
    prepare(stack, &pair).await?;
    Repository::new(&pair.registry, "miqp-devops")
        .create(stack)
        .await?;
    let before = accounts(stack, &pair).await?;
    let emulation = Emulation::of(stack);
    // In the middle of the work: the role in A exists, but the policies do not.
    let (account, action) = (&pair.registry, "SetRepositoryPolicy");
    emulation.hold(account, action).await?;
    let cluster = Cluster::of(stack);
    cluster.apply(&pair.article(OTHER_NAMESPACE)).await?;
    emulation.until_held(account, action).await?;
    say(format!("{action} in {account} is in flight"));
    operator.kill_leader().await?;
    emulation.until_not_held(account, action).await?;
    say("the call was never executed");
    cluster
        .wait_for_condition(OTHER_NAMESPACE, GRANT, "Ready")
        .await?;
    say("the next Pod has completed the grant");
    Ok((pair, before))
}

async fn uninstall_and_install(scene: &Scene) -> Result<()> {
    let (stack, operator) = (scene.stack.need()?, scene.operator.need()?);
    let cluster = Cluster::of(stack);
    let before = accounts(stack, &Pair::example()).await?;
    operator.uninstall().await?;
    no_operator(&cluster).await?;
    let grant = cluster.get(NAMESPACE, GRANT).await?;
    ensure!(
        grant["metadata"]["deletionTimestamp"].is_null(),
        "the grant is being deleted"
    );
    say("the operator is gone, and the grant remains");
    operator.install().await?;
    cluster
        .wait_for_condition(NAMESPACE, GRANT, "Ready")
        .await?;
    as_before(&before, &accounts(stack, &Pair::example()).await?)
}

/// Uninstalls the chart at the end. The definitions stay.
pub async fn uninstall(report: &Report, scene: &Scene, deleted: &Done<()>) {
    let uninstall = async {
        deleted.need()?;
        let cluster = Cluster::of(scene.stack.need()?);
        scene.operator.need()?.uninstall().await?;
        no_operator(&cluster).await?;
        let kept = cluster.kubectl(&["get", "crd", "--output", "name"]).await?;
        kept.lines().for_each(say);
        ensure!(
            kept.lines().count() == 2,
            "expected both definitions to stay; there are {kept:?}"
        );
        Ok(())
    };
    report.step("helm uninstall", uninstall).await;
}

async fn no_operator(cluster: &Cluster) -> Result<()> {
    let selector = "app.kubernetes.io/instance=registry-grants";
    let kinds = "deployments,replicasets,serviceaccounts,clusterroles,clusterrolebindings";
    let left = cluster
        .kubectl(&[
            "get",
            kinds,
            "--all-namespaces",
            "--selector",
            selector,
            "--output",
            "name",
        ])
        .await?;
    ensure!(left.is_empty(), "these stay: {left}");
    Ok(())
}
