//! Pods of account B: one with an image in A's registry, and one that pushes to the registry.

use crate::report::say;
use crate::scene::{CLIENT_IMAGE, repository};
use anyhow::{Context, Result, bail, ensure};
use local_stack::{Cluster, Session, Stack, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// The namespace of the Pods. It is not the grant's, because the access of Pods does not depend on
/// who may write grants.
pub const NAMESPACE: &str = "workloads";

/// Creates a Pod with an image of A, without an imagePullSecret.
pub async fn start(stack: &Stack, name: &str, tag: &str) -> Result<()> {
    let container = json!({"name": "main", "image": repository().reference(tag), "securityContext": {"runAsNonRoot": true}});
    let pod = pod(
        name,
        json!({"containers": [container], "terminationGracePeriodSeconds": 0}),
    );
    Cluster::of(stack).apply(&pod.to_string()).await
}

/// Waits until the Pod runs.
pub async fn running(stack: &Stack, name: &str) -> Result<()> {
    let cluster = Cluster::of(stack);
    let ran = cluster
        .wait_for_condition(NAMESPACE, &format!("pod/{name}"), "Ready")
        .await;
    if let Err(error) = ran {
        bail!("{error:#}\n{}", events(&cluster, name).await?);
    }
    let said = events(&cluster, name).await?;
    let pulled = said
        .lines()
        .find(|line| line.contains("Successfully pulled image"));
    say(pulled.with_context(|| format!("the image was not pulled: {said}"))?);
    Ok(())
}

/// Waits until the kubelet backs off. The registry's answer must be a denial.
pub async fn refused(stack: &Stack, name: &str) -> Result<()> {
    let cluster = Cluster::of(stack);
    let object = format!("pod/{name}");
    cluster
        .wait_until(NAMESPACE, &object, |pod| {
            let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            ensure!(
                reason == "ImagePullBackOff",
                "the Pod waits because of {reason}"
            );
            Ok(())
        })
        .await?;
    let said = events(&cluster, name).await?;
    let refusal = said.lines().find(|line| line.contains("403 Forbidden"));
    let refusal = refusal.with_context(|| format!("the pull was not refused with 403: {said}"))?;
    say(format!(
        "ImagePullBackOff: … {}",
        refusal.rsplit("\": ").next().unwrap_or(refusal)
    ));
    Ok(())
}

/// Deletes the Pod.
pub async fn delete(stack: &Stack, name: &str) -> Result<()> {
    let delete = [
        "delete",
        "pod",
        name,
        "--namespace",
        NAMESPACE,
        "--timeout",
        "300s",
    ];
    Cluster::of(stack).kubectl(&delete).await.map(drop)
}

/// Pushes an image from a Pod with this session's credentials, as an instance's metadata service
/// would return them, or through a role of A if one is named. Returns an error if the Pod fails.
pub async fn push(stack: &Stack, session: &Session<'_>, role: Option<&str>) -> Result<()> {
    let cluster = Cluster::of(stack);
    let name = if role.is_some() {
        "push-by-role"
    } else {
        "push-direct"
    };
    let image = repository().reference(name);
    let keys = session.aws().credentials();
    let environment = [
        ("AWS_ACCESS_KEY_ID", keys.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key()),
        (
            "AWS_SESSION_TOKEN",
            keys.session_token().unwrap_or_default(),
        ),
        ("AWS_ENDPOINT_URL", &stack.info.aws_endpoint),
        ("AWS_REGION", &repository().region),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("REGISTRY_PROXY", &stack.info.registry_proxy),
        ("IMAGE", &image),
        ("ROLE", role.unwrap_or_default()),
    ]
    .map(|(name, value)| json!({"name": name, "value": value}));
    let container = json!({"name": "main", "image": CLIENT_IMAGE, "imagePullPolicy": "Never", "env": environment});
    let specification = json!({"containers": [container], "restartPolicy": "Never"});
    cluster.apply(&pod(name, specification).to_string()).await?;
    let ended = eventually(&format!("pod {name} ends"), async || {
        let pod = cluster.get(NAMESPACE, &format!("pod/{name}")).await?;
        let phase = pod["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            phase == "Succeeded" || phase == "Failed",
            "the Pod is {phase}: {}",
            pod["status"]["containerStatuses"]
        );
        Ok(phase)
    })
    .await?;
    let log = cluster
        .kubectl(&["logs", name, "--namespace", NAMESPACE])
        .await?;
    ensure!(ended == "Succeeded", "the Pod failed: {log}");
    say(format!(
        "{image}: {}",
        log.lines().last().unwrap_or_default()
    ));
    delete(stack, name).await
}

fn pod(name: &str, specification: Value) -> Value {
    let mut specification = specification;
    specification["automountServiceAccountToken"] = false.into();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": specification})
}

async fn events(cluster: &Cluster, pod: &str) -> Result<String> {
    // Events arrive shortly after what they report.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let about = format!("involvedObject.name={pod}");
    let messages = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
    cluster
        .kubectl(&[
            "get",
            "events",
            "--namespace",
            NAMESPACE,
            "--field-selector",
            &about,
            "--output",
            messages,
        ])
        .await
}
