//! The setup before the story: the cluster, the accounts, the images and the operator.

use crate::Options;
use crate::chart::{self, Operator};
use crate::report::{Done, Report, say};
use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use local_stack::{
    AccountState, Cluster, Images, Node, Pair, Repository, Session, Stack,
    instance_role_allowed_everything, operator_identity, prepare,
};
use std::path::{Path, PathBuf};

/// The images in A's repository. Each is pulled only once, so that the node never has it already.
pub const BEFORE: &str = "before";
pub const UPGRADED: &str = "upgraded";
pub const AFTER: &str = "after";
/// The image of the registry client, which is loaded into the node.
pub const CLIENT_IMAGE: &str = "docker.io/library/registry-client:made-here";

/// The setup. Each part is the result of a step.
pub struct Scene {
    pub stack: Done<Stack>,
    /// The ARN of an instance role of B that B allows everything.
    pub tester: Done<String>,
    pub operator: Done<Operator>,
    pub before: Done<[AccountState; 2]>,
}

/// The article's repository.
pub fn repository() -> Repository {
    Repository::new(&Pair::example().registry, "miqp-devops")
}

/// Returns the current state of both accounts of a pair.
pub async fn accounts(stack: &Stack, pair: &Pair) -> Result<[AccountState; 2]> {
    let region = repository().region;
    Ok([
        AccountState::read(&stack.aws(&pair.registry), &[&region]).await?,
        AccountState::read(&stack.aws(&pair.consumer), &[&region]).await?,
    ])
}

/// Fails with the differences.
pub fn as_before(before: &[AccountState; 2], after: &[AccountState; 2]) -> Result<()> {
    for ((account, before), after) in ["A", "B"].iter().zip(before).zip(after) {
        let differences = before.differences(after);
        anyhow::ensure!(
            differences.is_empty(),
            "account {account} is not as before:\n{}",
            differences.join("\n")
        );
    }
    say(
        "A and B: the same roles, policies, tags, instance profiles and repository policies as before",
    );
    Ok(())
}

/// Sets everything up, with its files in `folder`.
pub async fn set(report: &Report, folder: &Path, options: &Options) -> Scene {
    let stack = report
        .step(
            "start a cluster with one node, and two AWS accounts",
            start(folder, options),
        )
        .await;
    let identity = report.step("set up both accounts, and push images to A", async {
        set_up_accounts(stack.need()?, &images(folder)?).await
    });
    let identity = identity.await;
    let tester = report.step(
        "create an instance role in B that B allows everything",
        async {
            identity.need()?; // with the accounts
            let root = stack.need()?.aws(&Pair::example().consumer);
            let arn = instance_role_allowed_everything(&root, "allowed-everything").await?;
            say(format!("{arn}: without A's consent it has no access in A"));
            Ok(arn)
        },
    );
    let tester = tester.await;
    let images = report.step("build the operator's image as in the Dockerfile", async {
        make_images(stack.need()?, &images(folder)?).await
    });
    let images = images.await;
    let operator = report.step("helm install --wait", async {
        images.need()?;
        let operator =
            Operator::new(stack.need()?, identity.need()?, folder, options.replicas).await?;
        operator.install().await?;
        Ok(operator)
    });
    let operator = operator.await;
    let before = report.step("record the state of both accounts", async {
        operator.need()?;
        let states = accounts(stack.need()?, &Pair::example()).await?;
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

fn images(folder: &Path) -> Result<Images> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images)?;
    Ok(Images::into_folder(&images))
}

async fn start(folder: &Path, options: &Options) -> Result<Stack> {
    let stack = Stack::start_with_node(
        &folder.join("cluster"),
        &[repository().host()],
        options.by_kind,
    )?;
    let columns = "custom-columns=NODE:.metadata.name,KUBELET:.status.nodeInfo.kubeletVersion,\
                   RUNTIME:.status.nodeInfo.containerRuntimeVersion,KERNEL:.status.nodeInfo.kernelVersion";
    Cluster::of(&stack)
        .kubectl(&["get", "nodes", "--output", columns])
        .await?
        .lines()
        .for_each(say);
    Ok(stack)
}

async fn set_up_accounts(stack: &Stack, images: &Images) -> Result<Credentials> {
    let identity = operator_identity(stack).await?;
    let pair = Pair::example();
    prepare(stack, &pair).await?;
    say(
        "created the operator's role, and in A and B the management role from examples/management-roles",
    );
    let repository = repository();
    repository.create(stack).await?;
    let owner = Session::of_root(stack, &pair.registry);
    for tag in [BEFORE, UPGRADED, AFTER] {
        let archive = images.workload(tag).await?;
        owner
            .push_archive(&repository, tag, &archive)
            .await?
            .allowed()?;
        say(format!("A pushes {}", repository.reference(tag)));
    }
    Ok(identity)
}

async fn make_images(stack: &Stack, images: &Images) -> Result<()> {
    let node = Node::of(stack)?;
    let tag = chart::app_version()?;
    let operator = images.operator(&release_binary()?, &tag).await?;
    node.load_image(&operator).await?;
    let size = std::fs::metadata(&operator)?.len() / 1_000_000;
    say(format!(
        "registry-grants:{tag}: the release binary, its shared libraries, certificates; {size} MB"
    ));
    let client = images.client(
        CLIENT_IMAGE,
        &stack.info.bin.crane,
        node.credential_provider(),
    );
    node.load_image(&client.await?).await?;
    say("registry-client: crane, ECR's credential provider and a shell script");
    Ok(())
}

/// Cargo has built both programs into neighbouring folders.
fn release_binary() -> Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let target = ours
        .parent()
        .and_then(Path::parent)
        .context("this program is not in a target folder of cargo")?;
    let binary = target.join("release/registry-grants");
    anyhow::ensure!(
        binary.exists(),
        "there is no {}: `make e2e` builds it",
        binary.display()
    );
    Ok(binary)
}
