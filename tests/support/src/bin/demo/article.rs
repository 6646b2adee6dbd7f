//! The four steps that the article does by hand: the resources in AWS must have the same meaning as
//! its documents, except for the role's path.

use crate::report::{Done, Report, say};
use crate::scene::{Scene, accounts, repository};
use crate::story::Granted;
use anyhow::{Context, Result, ensure};
use local_stack::{Document, Role};

const ROLE_TRUST: &str = include_str!("../../../article/1-role-trust.json");
const REPOSITORY_POLICY: &str = include_str!("../../../article/2-repository-policy.json");
const INSTANCE_ROLE_TRUST: &str = include_str!("../../../article/3-instance-role-trust.json");
const MANAGED_POLICY: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser";

/// Checks each step of the article in a step of the demo.
pub async fn compare(report: &Report, scene: &Scene, granted: &Done<Granted>) {
    let role_in_a = async || role(scene, 0, &granted.need()?.role_in_a).await;
    let managed = async {
        let attached = role_in_a().await?.attached;
        ensure!(
            attached.iter().eq([MANAGED_POLICY]),
            "expected {MANAGED_POLICY} to be attached to the role; there are {attached:?}"
        );
        say(format!("attached: {MANAGED_POLICY}"));
        Ok(())
    };
    report
        .step(
            "article, step 1: a role in A with the managed policy",
            managed,
        )
        .await;
    let trust = async { is_equal(&role_in_a().await?.trust, ROLE_TRUST) };
    report.step("article, step 2: B may assume it", trust).await;
    let policy = async {
        granted.need()?;
        let policy = repository().policy(scene.stack.need()?).await?;
        is_equal(
            &policy.context("the repository has no policy")?,
            REPOSITORY_POLICY,
        )
    };
    report
        .step("article, step 3: the repository's policy", policy)
        .await;
    let instance = async {
        is_equal(
            &role(scene, 1, &granted.need()?.instance_role).await?.trust,
            INSTANCE_ROLE_TRUST,
        )
    };
    report
        .step(
            "article, step 4: EC2 may assume the instance's role in B",
            instance,
        )
        .await;
}

async fn role(scene: &Scene, account: usize, arn: &str) -> Result<Role> {
    let state = &accounts(scene.stack.need()?).await?[account];
    let role = state.roles.values().find(|role| role.arn == arn).cloned();
    role.with_context(|| format!("there is no role {arn}; there are {:?}", state.roles.keys()))
}

fn is_equal(actual: &Document, article: &str) -> Result<()> {
    let expected = Document::parse(article)?;
    ensure!(
        actual.without_role_paths().same_meaning(&expected),
        "expected the same meaning, up to the role's path, as\n{expected}\nit is\n{actual}"
    );
    say(format!("same meaning as the manual setup: {actual}"));
    Ok(())
}
