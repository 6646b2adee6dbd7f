//! The setup of an account by its admin before the operator may work there: the roles of
//! `examples/management-roles`, without changes.

use crate::accounts::{OPERATOR_ACCOUNT, Pair};
use crate::aws::{Aws, failed};
use crate::stack::Stack;
use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use std::path::Path;

/// The role in each account that the operator assumes.
pub const MANAGEMENT_ROLE: &str = "registry-grants";
/// The operator's own role, in [`OPERATOR_ACCOUNT`].
pub const OPERATOR_ROLE: &str = "registry-grants-operator";
/// The permissions boundary of every role that the operator creates.
const BOUNDARY: &str = "registry-grants-boundary";
const INLINE_POLICY: &str = "registry-grants";
/// The maximum session duration that AWS allows for a role.
const OPERATOR_SESSION_SECONDS: i32 = 12 * 3600;

/// Creates the operator's own role, and returns a session of it.
///
/// # Errors
/// When a call fails.
pub async fn operator_identity(stack: &Stack) -> Result<Credentials> {
    let root = stack.aws(OPERATOR_ACCOUNT);
    let trust = allows_root(OPERATOR_ACCOUNT);
    let permissions = example("operator.json", &Pair::example())?;
    let create = root
        .iam
        .create_role()
        .role_name(OPERATOR_ROLE)
        .assume_role_policy_document(trust);
    let created = create
        .max_session_duration(OPERATOR_SESSION_SECONDS)
        .send()
        .await;
    let arn = created
        .map_err(failed("CreateRole"))?
        .role
        .context("CreateRole gave no role")?
        .arn;
    put_policy(&root, OPERATOR_ROLE, permissions).await?;
    let assume = root
        .sts
        .assume_role()
        .role_arn(arn)
        .role_session_name("operator");
    let session = assume
        .duration_seconds(OPERATOR_SESSION_SECONDS)
        .send()
        .await
        .map_err(failed("AssumeRole"))?;
    let keys = session
        .credentials
        .context("AssumeRole gave no credentials")?;
    Ok(Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        None,
        "the operator",
    ))
}

/// Creates the management role and the boundary in both accounts. The operator's own role must
/// exist, because the trust policy names it.
///
/// # Errors
/// When a call fails.
pub async fn prepare(stack: &Stack, pair: &Pair) -> Result<()> {
    for (folder, account) in [("registry", &pair.registry), ("consumer", &pair.consumer)] {
        prepare_account(stack, pair, folder, account)
            .await
            .with_context(|| format!("account {account}"))?;
    }
    Ok(())
}

async fn prepare_account(stack: &Stack, pair: &Pair, folder: &str, account: &str) -> Result<()> {
    let root = stack.aws(account);
    let document = |name: &str| example(&format!("{folder}/{name}.json"), pair);
    let boundary = root
        .iam
        .create_policy()
        .policy_name(BOUNDARY)
        .policy_document(document("boundary")?);
    boundary.send().await.map_err(failed("CreatePolicy"))?;
    role_with_policy(
        &root,
        MANAGEMENT_ROLE,
        document("trust")?,
        document("permissions")?,
    )
    .await?;
    Ok(())
}

/// Creates a role with an inline policy; returns its ARN.
///
/// # Errors
/// When a call fails.
pub async fn role_with_policy(
    root: &Aws,
    name: &str,
    trust: String,
    permissions: String,
) -> Result<String> {
    let create = root
        .iam
        .create_role()
        .role_name(name)
        .assume_role_policy_document(trust);
    let created = create
        .send()
        .await
        .map_err(failed(format!("CreateRole {name}")))?;
    put_policy(root, name, permissions).await?;
    Ok(created.role.context("CreateRole gave no role")?.arn)
}

/// Creates a role for instances whose account allows it everything that pulling and pushing need;
/// returns its ARN. In another account, this has no effect until that account allows it, too.
///
/// # Errors
/// When a call fails.
pub async fn instance_role_allowed_everything(root: &Aws, name: &str) -> Result<String> {
    let statements = |statement: serde_json::Value| {
        serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    let trust = serde_json::json!(
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
    let permissions = serde_json::json!({"Effect": "Allow", "Action": ["ecr:*", "sts:AssumeRole"], "Resource": "*"});
    role_with_policy(root, name, statements(trust), statements(permissions)).await
}

async fn put_policy(root: &Aws, role: &str, document: String) -> Result<()> {
    let put = root
        .iam
        .put_role_policy()
        .role_name(role)
        .policy_name(INLINE_POLICY)
        .policy_document(document);
    put.send()
        .await
        .map_err(failed(format!("PutRolePolicy of {role}")))?;
    Ok(())
}

fn example(name: &str, pair: &Pair) -> Result<String> {
    let file = Path::new("examples/management-roles").join(name);
    let text = std::fs::read_to_string(crate::repository_root().join(&file));
    let text = pair.fill_in(&text.with_context(|| format!("{} cannot be read", file.display()))?);
    // Minified, because AWS counts white space in some documents and the files are formatted for
    // people.
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(json.to_string())
}

fn allows_root(account: &str) -> String {
    serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
        "Action": "sts:AssumeRole",
    }]})
    .to_string()
}
