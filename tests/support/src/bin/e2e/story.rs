//! The steps of the test. Account A owns the repository, and the cluster's node is an EC2 instance
//! of account B.

use crate::report::{Done, Report, say};
use crate::scene::{self, AFTER, BEFORE, Scene, UPGRADED, accounts};
use crate::{Options, kept, pods, upheaval};
use anyhow::{Context, Result, ensure};
use local_stack::{CallLog, Cluster, Node, Pair, Session, Stack};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

pub const NAMESPACE: &str = "team-b";
pub const GRANT: &str = "carg/miq-devops";
const POD: &str = "miq";

/// The roles that the grant's status names, and the time when it became Ready.
pub struct Granted {
    pub role_in_a: String,
    pub instance_role: String,
    ready: Instant,
}

/// Runs the test, with its files in `folder`. Returns whether every step succeeded.
pub async fn tell(folder: &Path, options: &Options) -> Result<bool> {
    let Pair { registry, consumer } = Pair::example();
    println!(
        "Account A ({registry}) owns a private repository; a cluster node in account B ({consumer}) should pull from it."
    );
    kept::clear(folder)?;
    let report = Report::new(folder.join("cluster/logs"));
    let times = Times::default();
    let scene = scene::set(&report, folder, options).await;
    let denied = pull_is_refused(&report, &scene, "before the grant", BEFORE, &scene.before).await;
    let granted = grant(&report, &scene, &denied, &times).await;
    let running = runs(&report, &scene, &granted, &times).await;
    push(&report, &scene, &granted).await;
    let lived = upheaval::live_through(&report, &scene, &running).await;
    let deleted = delete(&report, &scene, &lived).await;
    let deleted = pull_is_refused(&report, &scene, "after the grant", AFTER, &deleted).await;
    let compare = async {
        deleted.need()?;
        scene::as_before(
            scene.before.need()?,
            &accounts(scene.stack.need()?, &Pair::example()).await?,
        )
    };
    report
        .step("check that both accounts are as before", compare)
        .await;
    upheaval::uninstall(&report, &scene, &deleted).await;
    let all_ok = report.finish();
    times.tell();
    if !all_ok && let Ok(stack) = scene.stack.need() {
        kept::keep(folder, stack).await;
    }
    Ok(all_ok)
}

/// Printed but not asserted, because they depend on the machine.
#[derive(Default)]
struct Times {
    apply_to_ready: Cell<Option<Duration>>,
    ready_to_running: Cell<Option<Duration>>,
}

impl Times {
    fn tell(&self) {
        let seconds = |time: &Cell<Option<Duration>>| {
            time.get().map_or("not reached".into(), |time| {
                format!("{:.1} s", time.as_secs_f64())
            })
        };
        println!(
            "     kubectl apply → grant Ready: {}",
            seconds(&self.apply_to_ready)
        );
        println!(
            "     grant Ready → Pod Running (kubelet restarted, image pulled): {}",
            seconds(&self.ready_to_running)
        );
    }
}

/// Checks that a pull is refused on a node with a role that B allows everything. The node does not
/// have the image.
async fn pull_is_refused<T>(
    report: &Report,
    scene: &Scene,
    when: &str,
    tag: &str,
    needed: &Done<T>,
) -> Done<()> {
    let pod = if tag == BEFORE { POD } else { tag };
    let refused = async {
        needed.need()?;
        let stack = scene.stack.need()?;
        let session = Session::of_instance(stack, scene.tester.need()?)
            .await?
            .allowed()?;
        Node::of(stack)?.take_identity(&session).await?;
        if tag == BEFORE {
            Cluster::of(stack).create_namespace(pods::NAMESPACE).await?;
        }
        pods::start(stack, pod, tag).await?;
        pods::refused(stack, pod).await
    };
    report
        .step(&format!("{when}: the kubelet's pull is refused"), refused)
        .await
}

async fn grant(report: &Report, scene: &Scene, denied: &Done<()>, times: &Times) -> Done<Granted> {
    let granted = report.step(
        "kubectl apply examples/article.yaml, wait for Ready",
        async {
            denied.need()?;
            let cluster = Cluster::of(scene.stack.need()?);
            let file = local_stack::repository_root().join("examples/article.yaml");
            let applied = Instant::now();
            cluster
                .kubectl(&["apply", "-f", &file.to_string_lossy()])
                .await?
                .lines()
                .for_each(say);
            let grant = cluster
                .wait_for_condition(NAMESPACE, GRANT, "Ready")
                .await?;
            let ready = Instant::now();
            times.apply_to_ready.set(Some(ready - applied));
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
                ready,
            })
        },
    );
    granted.await
}

/// Returns the session of the instance role that the operator created.
async fn runs<'a>(
    report: &Report,
    scene: &'a Scene,
    granted: &Done<Granted>,
    times: &Times,
) -> Done<Session<'a>> {
    let running = report.step(
        "the same Pod runs with the instance role that the operator created",
        async {
            let granted = granted.need()?;
            let stack = scene.stack.need()?;
            let calls = CallLog::of(stack);
            let mark = calls.mark()?;
            let session = Session::of_instance(stack, &granted.instance_role)
                .await?
                .allowed()?;
            Node::of(stack)?.take_identity(&session).await?;
            say(format!("the node's role is {}", granted.instance_role));
            pods::running(stack, POD).await?;
            times.ready_to_running.set(Some(granted.ready.elapsed()));
            // The call log shows which session pulled.
            let pulls = calls
                .since(mark)?
                .into_iter()
                .filter(|call| call.action == "GetDownloadUrlForLayer")
                .collect::<Vec<_>>();
            let by_instance = pulls
                .iter()
                .filter(|call| call.access_key == session.aws().credentials().access_key_id());
            let layers = by_instance.count();
            ensure!(
                layers > 0 && layers == pulls.len(),
                "expected pulls only by the instance role's session: {pulls:?}"
            );
            Ok(session)
        },
    );
    running.await
}

async fn push(report: &Report, scene: &Scene, granted: &Done<Granted>) {
    let session = async |stack| -> Result<Session<'_>> {
        Session::of_instance(stack, &granted.need()?.instance_role)
            .await?
            .allowed()
    };
    let direct = async {
        granted.need()?;
        let stack = scene.stack.need()?;
        pods::push(stack, &session(stack).await?, None).await
    };
    report.step("a Pod in B pushes directly", direct).await;
    let by_role = async {
        let role = &granted.need()?.role_in_a;
        let stack = scene.stack.need()?;
        pods::push(stack, &session(stack).await?, Some(role)).await
    };
    report
        .step("a Pod in B pushes through the role in A", by_role)
        .await;
}

/// Checks that a Pod with a new image can run.
pub async fn still_granted(stack: &Stack, tag: &str) -> Result<()> {
    ensure!(tag == UPGRADED, "no such image");
    pods::start(stack, tag, tag).await?;
    pods::running(stack, tag).await?;
    pods::delete(stack, tag).await
}

async fn delete(report: &Report, scene: &Scene, lived: &Done<()>) -> Done<()> {
    let delete = async {
        lived.need()?;
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
