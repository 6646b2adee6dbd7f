//! Checks access with a real registry client.

use crate::report::{Done, Report, say};
use crate::scene::{Scene, repository};
use crate::story::Granted;
use anyhow::{Result, ensure};
use local_stack::{Outcome, Pair, Repository, Session};

/// Checks that an instance of B, whose role B allows everything, has no access by either path.
/// `needed` is the step that must come before.
pub async fn denied<T>(report: &Report, scene: &Scene, when: &str, needed: &Done<T>) {
    let tester = async || -> Result<Session<'_>> {
        needed.need()?;
        Session::of_instance(scene.stack.need()?, scene.tester.need()?)
            .await?
            .allowed()
    };
    let repository = repository();
    let push = async { is_denied(tester().await?.push(&repository, "denied").await?) };
    report
        .step(&format!("{when}: direct push is denied"), push)
        .await;
    let pull = async { is_denied(tester().await?.pull(&repository, "of-a").await?) };
    report
        .step(&format!("{when}: direct pull is denied"), pull)
        .await;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/ECS-AssumeRole-MIQDevOps",
        Pair::example().registry
    );
    let assume = async { is_denied(tester().await?.assume(&role).await?) };
    report
        .step(&format!("{when}: assuming the role in A is denied"), assume)
        .await;
}

fn is_denied<T>(outcome: Outcome<T>) -> Result<()> {
    say(format!("as expected: {}", outcome.denied()?));
    Ok(())
}

/// Checks both paths as the instance with the role that the operator created. Returns its session.
pub async fn allowed<'a>(
    report: &Report,
    scene: &'a Scene,
    granted: &Done<Granted>,
) -> Done<Session<'a>> {
    let repository = repository();
    let instance = report.step(
        "start as the EC2 instance with the role that the operator created",
        async {
            let role = &granted.need()?.instance_role;
            let session = Session::of_instance(scene.stack.need()?, role)
                .await?
                .allowed()?;
            say(role);
            Ok(session)
        },
    );
    let instance = instance.await;
    let pushed = report
        .step("direct: push", async {
            push(instance.need()?, &repository, "direct").await
        })
        .await;
    report
        .step("direct: pull", async {
            pull(instance.need()?, &repository, "direct", pushed.need()?).await
        })
        .await;
    let by_role = report.step("through the role in A: assume it", async {
        let role = &granted.need()?.role_in_a;
        let session = instance.need()?.assume(role).await?.allowed()?;
        say(role);
        Ok(session)
    });
    let by_role = by_role.await;
    let pushed = report
        .step("through the role in A: push", async {
            push(by_role.need()?, &repository, "by-role").await
        })
        .await;
    report
        .step("through the role in A: pull", async {
            pull(by_role.need()?, &repository, "by-role", pushed.need()?).await
        })
        .await;
    instance
}

async fn push(session: &Session<'_>, repository: &Repository, tag: &str) -> Result<String> {
    let digest = session.push(repository, tag).await?.allowed()?;
    say(format!(
        "crane push {}/{}:{tag}: {digest}",
        repository.host(),
        repository.name
    ));
    Ok(digest)
}

async fn pull(
    session: &Session<'_>,
    repository: &Repository,
    tag: &str,
    pushed: &str,
) -> Result<()> {
    let pulled = session.pull(repository, tag).await?.allowed()?;
    ensure!(
        pulled == pushed,
        "expected the image that was pushed, {pushed}; it is {pulled}"
    );
    say(format!(
        "crane pull {}/{}:{tag}: the pushed image",
        repository.host(),
        repository.name
    ));
    Ok(())
}
