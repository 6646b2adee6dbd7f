//! The steps of the demo. Account A owns the repository, and account B has the EC2 instance.

use crate::kept;
use crate::report::{Done, Report, say};
use crate::scene::{self, End, Scene, repository};
use crate::{access, article};
use anyhow::{Context, Result, ensure};
use local_stack::{AccountState, Cluster, Document, Pair, Stack, eventually};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

const NAMESPACE: &str = "team-b";
const GRANT: &str = "carg/miq-devops";
const ROLE_A: &str = "ECS-AssumeRole-MIQDevOps";
const FOREIGN_SID: &str = "SomebodyElses";

/// The roles that the grant's status names.
pub struct Granted {
    pub role_in_a: String,
    pub instance_role: String,
}

/// Runs the demo, with its files in `folder`.
pub async fn tell(folder: &Path, end: End) -> Result<ExitCode> {
    kept::refuse_if_running(folder)?;
    let Pair { registry, consumer } = Pair::example();
    println!(
        "Account A ({registry}) owns a private repository; an EC2 instance in account B ({consumer}) should push and pull."
    );

    let report = Report::new(folder.join("logs"));
    let scene = scene::set(&report, folder, end).await;
    access::denied(&report, &scene, "before the grant", &scene.before).await;
    let granted = grant(&report, &scene).await;
    article::compare(&report, &scene, &granted).await;
    let instance = access::allowed(&report, &scene, &granted).await;
    if end == End::Keep {
        let docker = folder.join("docker");
        std::fs::create_dir_all(&docker)?;
        if let Ok(instance) = instance.need() {
            instance.log_in(&repository(), &docker).await?.allowed()?;
        }
        drop(instance);
        return keep(&report, folder, &docker, scene);
    }
    let foreign = changes_by_hand(&report, &scene, &granted).await;
    let deleted = delete(&report, &scene, &granted).await;
    access::denied(&report, &scene, "after the grant", &deleted).await;
    let compare = async {
        deleted.need()?;
        as_before(&scene, foreign.need().is_ok()).await
    };
    report
        .step("check that both accounts are as before", compare)
        .await;
    Ok(exit(report.finish()))
}

fn exit(all_ok: bool) -> ExitCode {
    if all_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn grant(report: &Report, scene: &Scene) -> Done<Granted> {
    let applied = report.step("kubectl apply examples/article.yaml", async {
        scene.operator.need()?;
        scene.before.need()?;
        let cluster = Cluster::of(scene.stack.need()?);
        let file = local_stack::repository_root().join("examples/article.yaml");
        let output = cluster
            .kubectl(&["apply", "-f", &file.to_string_lossy()])
            .await?;
        output.lines().for_each(say);
        Ok(())
    });
    let applied = applied.await;
    let ready = report.step("kubectl wait --for=condition=Ready", async {
        applied.need()?;
        let cluster = Cluster::of(scene.stack.need()?);
        let grant = cluster
            .wait_for_condition(NAMESPACE, GRANT, "Ready")
            .await?;
        cluster
            .kubectl(&["get", GRANT, "--namespace", NAMESPACE])
            .await?
            .lines()
            .for_each(say);
        let arn = |side: &str| {
            let arn = grant["status"][side]["roleARN"].as_str();
            arn.map(str::to_owned).with_context(|| {
                format!("status.{side}.roleARN is missing in {:#}", grant["status"])
            })
        };
        Ok(Granted {
            role_in_a: arn("registry")?,
            instance_role: arn("consumer")?,
        })
    });
    ready.await
}

/// Returns the step that leaves a foreign statement behind.
async fn changes_by_hand(report: &Report, scene: &Scene, granted: &Done<Granted>) -> Done<()> {
    let trust = async {
        granted.need()?;
        trust_is_put_back(scene.stack.need()?).await
    };
    report
        .step("revert a trust policy that was changed by hand", trust)
        .await;
    let foreign = async {
        granted.need()?;
        foreign_statement_survives(scene.stack.need()?).await
    };
    report
        .step("keep a foreign statement in the repository policy", foreign)
        .await
}

async fn trust_is_put_back(stack: &Stack) -> Result<()> {
    let root = stack.aws(&repository().account);
    let trust = async || -> Result<Document> {
        let state = AccountState::read(&root, &[]).await?;
        Ok(state
            .roles
            .get(ROLE_A)
            .context("role A is gone")?
            .trust
            .clone())
    };
    let right = trust().await?;
    let opened = right.with_statement(json!({
        "Sid": "OpenedByHand", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444444444444:root"}, "Action": "sts:AssumeRole",
    }));
    let change = root
        .iam
        .update_assume_role_policy()
        .role_name(ROLE_A)
        .policy_document(opened.to_string());
    change.send().await.context("UpdateAssumeRolePolicy")?;
    say("A's admin lets account 444444444444 assume the role");
    eventually("the trust policy is as it was", async || {
        let now = trust().await?;
        ensure!(now.same_meaning(&right), "it is {now}");
        Ok(())
    })
    .await?;
    say("the operator has reverted it");
    Ok(())
}

async fn foreign_statement_survives(stack: &Stack) -> Result<()> {
    let repository = repository();
    let right = repository
        .policy(stack)
        .await?
        .context("the repository has no policy")?;
    let mut ours = right.statements();
    let first = ours
        .first_mut()
        .context("the repository's policy is empty")?;
    first["Action"] = json!(["ecr:BatchGetImage"]);
    let foreign = json!({
        "Sid": FOREIGN_SID, "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::555555555555:root"}, "Action": "ecr:BatchGetImage",
    });
    repository
        .set_policy(
            stack,
            &right.with_statements(ours).with_statement(foreign.clone()),
        )
        .await?;
    say(
        "A's admin adds a statement for account 555555555555, and changes the operator's statement",
    );
    let expected = right.with_statement(foreign);
    eventually(
        "the operator's statement is as it was, beside the foreign one",
        async || {
            let now = repository
                .policy(stack)
                .await?
                .context("the repository has no policy")?;
            ensure!(now == expected, "it is {now}, not {expected}");
            Ok(())
        },
    )
    .await?;
    say("the operator has repaired its own statement and kept the foreign one");
    Ok(())
}

async fn delete(report: &Report, scene: &Scene, granted: &Done<Granted>) -> Done<()> {
    let delete = async {
        granted.need()?;
        let cluster = Cluster::of(scene.stack.need()?);
        let deleted = cluster
            .kubectl(&[
                "delete",
                GRANT,
                "--namespace",
                NAMESPACE,
                "--timeout",
                "300s",
            ])
            .await?;
        say(deleted.trim());
        Ok(())
    };
    report.step("kubectl delete the grant", delete).await
}

async fn as_before(scene: &Scene, with_foreign_statement: bool) -> Result<()> {
    let (stack, before) = (scene.stack.need()?, scene.before.need()?);
    if with_foreign_statement {
        let repository = repository();
        let policy = repository
            .policy(stack)
            .await?
            .context("the foreign statement is gone, with the whole policy")?;
        let sids: Vec<_> = policy
            .statements()
            .into_iter()
            .map(|statement| statement["Sid"].clone())
            .collect();
        ensure!(
            sids == [json!(FOREIGN_SID)],
            "expected the foreign statement alone in the repository policy; it is {policy}"
        );
        say("the foreign statement is still there; A's admin removes it again");
        repository
            .set_policy(stack, &policy.without_statement(FOREIGN_SID))
            .await?;
    }
    let after = scene::accounts(stack).await?;
    for ((account, before), after) in ["A", "B"].iter().zip(before).zip(&after) {
        let differences = before.differences(after);
        ensure!(
            differences.is_empty(),
            "account {account} is not as before the grant:\n{}",
            differences.join("\n")
        );
        say(format!(
            "{account}: the same roles, policies, tags, instance profiles and repository policies"
        ));
    }
    Ok(())
}

fn keep(report: &Report, folder: &Path, docker: &Path, scene: Scene) -> Result<ExitCode> {
    let all_ok = report.finish();
    let Some(stack) = scene.stack.into_value() else {
        return Ok(ExitCode::FAILURE);
    };
    if let Some(operator) = scene.operator.into_value() {
        operator.leave();
    }
    kept::explain(folder, docker, &stack.info, &repository())?;
    Ok(exit(all_ok))
}
