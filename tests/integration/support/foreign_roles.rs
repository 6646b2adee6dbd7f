//! Foreign roles: created by hand, with or without consent, and as left by earlier versions.

use crate::support::case::{Case, document};
use crate::support::operator_documents::generated;
use anyhow::{Context, Result};
use local_stack::{IamCalls as _, MANAGEMENT_ROLE};
use registry_grants::policy::Installation;
use serde_json::{Value, json};

/// Creates a role of the consumer for its nodes, with its own profile, and permits the operator to
/// extend consenting roles.
pub async fn create_worker_role(case: &Case<'_>, service: &str) -> Result<()> {
    let iam = case.stack().aws(&case.pair.consumer).iam;
    let trust =
        json!({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"});
    let create = iam
        .create_role()
        .role_name("worker")
        .path("/nodes/")
        .assume_role_policy_document(document(trust));
    create.send().await?;
    let logs = document(json!({"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "*"}));
    iam.put_inline_policy("worker", "logs", logs).await?;
    iam.create_instance_profile()
        .instance_profile_name("workers")
        .send()
        .await?;
    iam.add_role_to_profile("workers", "worker").await?;
    // Gives the operator the permissions that the command prints.
    let allowed = generated(
        &case.pair.consumer,
        &["--account=consumer", "--allow-extend"],
        None,
    )?;
    iam.put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, allowed)
        .await?;
    let rule = json!({"namespaces": {"names": [case.namespace]}, "roles": ["nodes/*"], "management": ["Extend"]});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await
}

/// Returns the value of the tag by which a role's owner consents to its adoption by the case's
/// grant.
pub async fn adoption_consent(case: &Case<'_>) -> Result<String> {
    let system = case
        .cluster()
        .get("default", "namespace/kube-system")
        .await?;
    let uid = system["metadata"]["uid"]
        .as_str()
        .context("kube-system has no UID")?;
    Ok(format!(
        "{}/{}/grant",
        Installation::of_cluster(uid),
        case.namespace
    ))
}

/// Returns the trust statement that earlier versions of this installation added to foreign roles.
pub async fn earlier_trust_statement(case: &Case<'_>) -> Result<Value> {
    let system = case.cluster().get("", "namespace/kube-system").await?;
    let uid = system["metadata"]["uid"]
        .as_str()
        .context("kube-system has no UID")?;
    let sid = Installation::of_cluster(uid).sid("instance trust");
    let ec2 = json!({"Service": "ec2.amazonaws.com"});
    Ok(json!({"Sid": sid, "Effect": "Allow", "Principal": ec2, "Action": "sts:AssumeRole"}))
}
