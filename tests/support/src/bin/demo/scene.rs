//! The setup before the story: the stack, the accounts, the chart and the operator.

use crate::kept::{self, Kept};
use crate::report::{Done, Report, say};
use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use local_stack::{
    AccountState, Cluster, HELM_RELEASE, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Operator,
    OperatorSettings, Pair, Repository, Session, Stack, install_chart,
    instance_role_allowed_everything, operator_identity, prepare,
};
use std::path::Path;

/// Short, so that the operator soon notices a change made by hand.
const RESYNC: &str = "2s";

/// The parts that remain after the story.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Delete,
    Keep,
}

/// The setup. Each part is the result of a step.
pub struct Scene {
    pub stack: Done<Stack>,
    /// The ARN of a role of B that B allows everything.
    pub tester: Done<String>,
    pub operator: Done<Operator>,
    pub before: Done<[AccountState; 2]>,
}

/// The repository of the article.
pub fn repository() -> Repository {
    Repository::new(&Pair::example().registry, "miqp-devops")
}

/// Returns the current state of both accounts.
pub async fn accounts(stack: &Stack) -> Result<[AccountState; 2]> {
    let Pair { registry, consumer } = Pair::example();
    let regions = [repository().region];
    let regions: Vec<&str> = regions.iter().map(String::as_str).collect();
    Ok([
        AccountState::read(&stack.aws(&registry), &regions).await?,
        AccountState::read(&stack.aws(&consumer), &regions).await?,
    ])
}

/// Sets everything up, with its files in `folder`.
pub async fn set(report: &Report, folder: &Path, end: End) -> Scene {
    let stack = report
        .step("start the local stack", start(folder, end))
        .await;
    let credentials = report
        .step("set up both accounts", async {
            set_up_accounts(stack.need()?).await
        })
        .await;
    let tester = report.step("create a role in B that B allows everything", async {
        credentials.need()?; // with the accounts
        role_with_every_permission(stack.need()?).await
    });
    let tester = tester.await;
    let chart = report
        .step("helm install the chart", async {
            install(stack.need()?).await
        })
        .await;
    let operator = report.step("run the operator as the chart's ServiceAccount", async {
        chart.need()?;
        run_operator(stack.need()?, credentials.need()?, folder, end).await
    });
    let operator = operator.await;
    let before = report.step("record the state of both accounts", async {
        tester.need()?;
        let states = accounts(stack.need()?).await?;
        for (account, state) in ["A", "B"].iter().zip(&states) {
            let (roles, repositories) = (state.roles.len(), state.repositories.len());
            say(format!("{account}: {roles} role(s), {repositories} repository(ies), their policies and tags"));
        }
        Ok(states)
    });
    Scene {
        before: before.await,
        stack,
        tester,
        operator,
    }
}

async fn start(folder: &Path, end: End) -> Result<Stack> {
    say(
        "etcd, kube-apiserver, kube-controller-manager, AWS, a registry; the first run builds them, which takes about 10 minutes",
    );
    if end == End::Delete {
        return Stack::start_in(folder);
    }
    let stack = Stack::start_to_stay(folder)?;
    note(folder, &stack, None)?;
    Ok(stack)
}

/// Records the processes as soon as they run, so that `make demo-down` finds them even if this
/// process is interrupted.
fn note(folder: &Path, stack: &Stack, operator: Option<&Operator>) -> Result<()> {
    let operator = operator.map(Operator::identity);
    kept::write(
        folder,
        &Kept {
            stack: stack.identity(),
            operator,
            info: stack.info.clone(),
        },
    )
}

async fn set_up_accounts(stack: &Stack) -> Result<Credentials> {
    let pair = Pair::example();
    say(format!(
        "{OPERATOR_ACCOUNT}: the operator's own role, which may assume the management roles and nothing else"
    ));
    let credentials = operator_identity(stack).await?;
    say(
        "A and B: the management role registry-grants and its boundary, from examples/management-roles",
    );
    prepare(stack, &pair).await?;
    let repository = repository();
    say(format!(
        "A: repository {} with an image that A has pushed",
        repository.name
    ));
    repository.create(stack).await?;
    Session::of_root(stack, &pair.registry)
        .push(&repository, "of-a")
        .await?
        .allowed()?;
    Ok(credentials)
}

async fn role_with_every_permission(stack: &Stack) -> Result<String> {
    let root = stack.aws(&Pair::example().consumer);
    let arn = instance_role_allowed_everything(&root, "allowed-everything").await?;
    say(format!(
        "B allows {arn} ecr:* and sts:AssumeRole on *; without A's consent it has no access in A"
    ));
    Ok(arn)
}

async fn install(stack: &Stack) -> Result<()> {
    let cluster = Cluster::of(stack);
    say("with replicaCount=0, because this cluster has no node: the operator runs outside it");
    install_chart(&cluster, &[]).await?;
    let made = [
        "get",
        "crd,clusterrole",
        "--selector",
        "app.kubernetes.io/instance=registry-grants",
        "--output",
        "name",
    ];
    for name in cluster.kubectl(&made).await?.lines() {
        say(name);
    }
    Ok(())
}

async fn run_operator(
    stack: &Stack,
    credentials: &Credentials,
    folder: &Path,
    end: End,
) -> Result<Operator> {
    let kubeconfig = folder.join("operator.kubeconfig");
    Cluster::of(stack)
        .kubeconfig_of(OPERATOR_NAMESPACE, HELM_RELEASE, &kubeconfig)
        .await?;
    say(format!(
        "with a token of ServiceAccount {OPERATOR_NAMESPACE}/{HELM_RELEASE}, so that the chart's RBAC applies"
    ));
    // Cargo has built both programs into the same folder.
    let binary = std::env::current_exe()?.with_file_name("registry-grants");
    let arguments = ["--resync-interval", RESYNC, "--log-format", "text"]
        .map(String::from)
        .to_vec();
    let settings = OperatorSettings {
        binary,
        kubeconfig,
        ca: stack.info.ca.clone(),
        aws_endpoint: stack.info.aws_endpoint.clone(),
        credentials: credentials.clone(),
        arguments,
        log: stack.info.logs.join("operator.log"),
    };
    say(format!(
        "registry-grants controller {}",
        settings.arguments.join(" ")
    ));
    let mut operator = match end {
        End::Delete => Operator::start(&settings)?,
        End::Keep => Operator::start_to_stay(&settings)?,
    };
    if end == End::Keep {
        note(folder, stack, Some(&operator))?;
    }
    operator
        .ready()
        .await
        .context("the operator did not become ready")?;
    Ok(operator)
}
