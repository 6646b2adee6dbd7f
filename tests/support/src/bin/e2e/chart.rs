//! The operator in its Pods, installed by the chart.

use crate::report::say;
use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use local_stack::{Cluster, HELM_RELEASE, OPERATOR_NAMESPACE, Stack};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const CHART: &str = "charts/registry-grants";
const SECRET: &str = "aws-session";
/// Helm's time limit for each command that waits.
const TIMEOUT: &str = "90s";

/// The chart's release.
pub struct Operator {
    cluster: Cluster,
    values: PathBuf,
}

/// Returns the tag of the chart's default image.
pub fn app_version() -> Result<String> {
    let file = local_stack::repository_root()
        .join(CHART)
        .join("Chart.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("appVersion:"));
    Ok(version
        .context("Chart.yaml has no appVersion")?
        .trim()
        .trim_matches('"')
        .to_owned())
}

impl Operator {
    /// Prepares the installation: the namespace, and a Secret with the operator's session, which a
    /// real cluster provides in another way.
    pub async fn new(
        stack: &Stack,
        identity: &Credentials,
        folder: &Path,
        replicas: Option<u8>,
    ) -> Result<Self> {
        let cluster = Cluster::of(stack);
        cluster.create_namespace(OPERATOR_NAMESPACE).await?;
        let session = [
            ("AWS_ACCESS_KEY_ID", identity.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", identity.secret_access_key()),
            (
                "AWS_SESSION_TOKEN",
                identity.session_token().unwrap_or_default(),
            ),
        ];
        let data: Value = session
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let metadata = json!({"name": SECRET, "namespace": OPERATOR_NAMESPACE});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        cluster.apply(&secret.to_string()).await?;
        let from_secret = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": name}}});
        let mut values = json!({
            "aws": {"endpointURL": stack.info.aws_endpoint, "region": "us-east-1"},
            "extraEnv": session.map(|(name, _)| from_secret(name)),
        });
        if let Some(replicas) = replicas {
            values["replicaCount"] = replicas.into();
        }
        let file = folder.join("values.json"); // JSON is YAML
        std::fs::write(&file, values.to_string())?;
        Ok(Self {
            cluster,
            values: file,
        })
    }

    /// Runs `helm install --wait` with the chart's defaults, except for AWS.
    pub async fn install(&self) -> Result<()> {
        self.helm("install", &[]).await?;
        self.show().await
    }

    /// Runs `helm upgrade --wait` with one changed value.
    pub async fn upgrade(&self, setting: &str) -> Result<()> {
        let before = self.pods().await?;
        self.helm("upgrade", &["--set", setting]).await?;
        let after = self.pods().await?;
        ensure!(
            !after.iter().any(|pod| before.contains(pod)),
            "expected other Pods than {before:?}; there are {after:?}"
        );
        self.show().await
    }

    /// Runs `helm uninstall --wait`.
    pub async fn uninstall(&self) -> Result<()> {
        let arguments = [
            "uninstall",
            HELM_RELEASE,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--wait",
            "--timeout",
            TIMEOUT,
        ];
        self.cluster.helm(&arguments).await.map(drop)
    }

    async fn helm(&self, command: &str, more: &[&str]) -> Result<()> {
        let chart = local_stack::repository_root().join(CHART);
        let (chart, values) = (chart.to_string_lossy(), self.values.to_string_lossy());
        let mut arguments = vec![
            command,
            HELM_RELEASE,
            &chart,
            "--namespace",
            OPERATOR_NAMESPACE,
        ];
        arguments.extend(["--wait", "--timeout", TIMEOUT, "--values", &values]);
        arguments.extend(more);
        self.cluster.helm(&arguments).await.map(drop)
    }

    /// Kills a Pod: the leader's, if a Lease names one. Returns when the Deployment is complete
    /// again without it.
    pub async fn kill_leader(&self) -> Result<()> {
        let holder = "jsonpath={.items[*].spec.holderIdentity}";
        let holders = self
            .cluster
            .kubectl(&[
                "get",
                "leases",
                "--namespace",
                OPERATOR_NAMESPACE,
                "--output",
                holder,
            ])
            .await?;
        let pods = self.pods().await?;
        let leader = pods.iter().find(|pod| holders.contains(pod.as_str()));
        let killed = leader.or(pods.first()).context("the operator has no Pod")?;
        let role = if leader.is_some() {
            "the leader's Pod"
        } else {
            "the operator's only Pod"
        };
        // A second is the kubelet's minimum. The call in flight is held for longer.
        let delete = [
            "delete",
            "pod",
            killed,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--grace-period=1",
        ];
        self.cluster.kubectl(&delete).await?;
        say(format!("killed {killed}, {role}"));
        let deployment = format!("deployment/{HELM_RELEASE}");
        let complete = [
            "rollout",
            "status",
            &deployment,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--timeout",
            TIMEOUT,
        ];
        self.cluster.kubectl(&complete).await.map(drop)
    }

    /// Without Pods that are being deleted, which may still be listed.
    async fn pods(&self) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/instance={HELM_RELEASE}");
        let get = [
            "get",
            "pods",
            "--namespace",
            OPERATOR_NAMESPACE,
            "--selector",
            &selector,
            "--output",
            "json",
        ];
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&get).await?)?;
        let pods = list["items"].as_array().context("no list of Pods")?;
        let staying = pods
            .iter()
            .map(|pod| &pod["metadata"])
            .filter(|pod| pod["deletionTimestamp"].is_null());
        Ok(staying
            .filter_map(|pod| pod["name"].as_str())
            .map(str::to_owned)
            .collect())
    }

    async fn show(&self) -> Result<()> {
        let staying = self.pods().await?;
        let get = [
            "get",
            "pods",
            "--namespace",
            OPERATOR_NAMESPACE,
            "--no-headers",
        ];
        let lines = self.cluster.kubectl(&get).await?;
        for line in lines
            .lines()
            .filter(|line| staying.iter().any(|pod| line.starts_with(pod.as_str())))
        {
            say(line);
        }
        Ok(())
    }
}
