//! The operator with EKS Pod Identity, whose session passes six tags to every account.

use crate::support::case::{Case, OPERATOR, document, list, merged};
use anyhow::{Context, Result, ensure};
use aws_sdk_sts::types::{Credentials, Tag};
use local_stack::{IamCalls as _, OPERATOR_ACCOUNT, OPERATOR_ROLE};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const TAGS: [(&str, &str); 6] = [
    (
        "eks-cluster-arn",
        "arn:aws:eks:us-east-1:333333333333:cluster/tools",
    ),
    ("eks-cluster-name", "tools"),
    ("kubernetes-namespace", "registry-grants"),
    ("kubernetes-pod-name", "registry-grants-6f8d9c7b54-x2x4k"),
    ("kubernetes-pod-uid", "6b8b9bd0-52c7-4d5c-9d36-0c1c2b0c7a11"),
    ("kubernetes-service-account", "registry-grants"),
];

/// Returns the operator's session as the EKS Auth service creates it.
async fn pod_identity(case: &Case<'_>) -> Result<Credentials> {
    let root = case.stack().aws(OPERATOR_ACCOUNT);
    let principal = json!({"AWS": format!("arn:aws:iam::{OPERATOR_ACCOUNT}:root")});
    let trust = json!({"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession"]});
    root.iam
        .set_trust_policy(OPERATOR_ROLE, document(trust))
        .await?;
    let mut assume = root.sts.assume_role().role_session_name("pod");
    assume = assume.role_arn(format!(
        "arn:aws:iam::{OPERATOR_ACCOUNT}:role/{OPERATOR_ROLE}"
    ));
    for (key, value) in TAGS {
        assume = assume
            .tags(Tag::builder().key(key).value(value).build()?)
            .transitive_tag_keys(key);
    }
    assume.send().await?.credentials.context("no credentials")
}

/// Runs `plan` for these manifests with these credentials. Returns exit status, standard output and
/// standard error.
async fn plan(
    case: &Case<'_>,
    credentials: &Credentials,
    manifests: &Value,
) -> Result<(Option<i32>, String, String)> {
    let settings = case.installation.operator_settings(OPERATOR, &[]);
    let mut child = Command::new(settings.binary)
        .args(["plan", "-f", "-", "--installation", "0123456789ab"])
        .env_clear()
        .env("AWS_ENDPOINT_URL", settings.aws_endpoint)
        .env("AWS_REGION", local_stack::REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", &credentials.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key)
        .env("AWS_SESSION_TOKEN", &credentials.session_token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(manifests.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok((
        output.status.code(),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

#[tokio::test]
async fn eks_pod_identity_tags_leave_room_for_the_longest_namespace() -> Result<()> {
    let case = Case::with_accounts().await?;
    let credentials = pod_identity(&case).await?;
    let long = "n".repeat(63);
    for namespace in [case.namespace.as_str(), long.as_str()] {
        let rule = case.rule(json!({"namespaces": {"names": [namespace]}}));
        let account = case.registry_account(json!({"registry": {"rules": [rule]}}));
        let direct = json!({"consumer": {"instanceRole": null}});
        let grant = merged(
            case.grant(direct),
            json!({"metadata": {"namespace": namespace}}),
        );
        let (status, out, err) = plan(&case, &credentials, &list(vec![account, grant])).await?;
        ensure!(status == Some(2), "{namespace}: {status:?}\n{out}\n{err}");
    }
    Ok(())
}
