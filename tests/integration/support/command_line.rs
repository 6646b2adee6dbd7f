//! Runs the program's subcommands with the operator's credentials.

use crate::support::case::{Case, OPERATOR, list};
use anyhow::{Context, Result, ensure};
use local_stack::OperatorSettings;
use serde_json::Value;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Output of a command, and its exit status.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Returns standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("no JSON: {} {}", self.stdout, self.stderr))
    }
}

/// Runs a command with these manifests as standard input.
pub async fn run(case: &Case<'_>, arguments: &[&str], manifests: &Value) -> Result<Said> {
    let settings = case.installation.operator_settings(OPERATOR, &[]);
    let OperatorSettings {
        binary,
        ca,
        aws_endpoint,
        credentials,
        ..
    } = settings;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .env("SSL_CERT_FILE", ca)
        .env("AWS_ENDPOINT_URL", aws_endpoint)
        .env("AWS_REGION", local_stack::REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", credentials.access_key_id())
        .env("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(token) = credentials.session_token() {
        command.env("AWS_SESSION_TOKEN", token);
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(manifests.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes);
    Ok(Said {
        status: output.status.code().context("ended by a signal")?,
        stdout: text(output.stdout)?,
        stderr: text(output.stderr)?,
    })
}

/// Returns a case's objects in the cluster, as `kubectl get` prints them.
pub async fn in_cluster(case: &Case<'_>) -> Result<Value> {
    let grants = case.cluster().list(&case.namespace, "carg").await?;
    let accounts = case.cluster().list("default", "awsaccounts").await?;
    let own = [&case.pair.registry, &case.pair.consumer];
    let of_case = accounts
        .into_iter()
        .filter(|a| own.iter().any(|id| a["metadata"]["name"] == id.as_str()));
    let items: Vec<Value> = of_case.chain(grants).collect();
    ensure!(items.len() > 1, "nothing is in the cluster");
    Ok(list(items))
}
