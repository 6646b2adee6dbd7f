//! The documents of the operator's permissions, complete and without one action.

use crate::support::case::OPERATOR;
use anyhow::{Result, ensure};
use local_stack::Pair;
use serde_json::Value;

/// Returns the permissions as the command prints them.
pub fn generated(account: &str, flags: &[&str], installation: Option<&str>) -> Result<String> {
    let mut command = std::process::Command::new(OPERATOR);
    command
        .args([
            "iam-policy",
            "--document",
            "permissions",
            "--account-id",
            account,
        ])
        .args(flags);
    let output = command
        .args(installation.map(|id| format!("--installation={id}")))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Minified, as AWS counts it.
    Ok(serde_json::from_slice::<Value>(&output.stdout)?.to_string())
}

pub fn permissions(in_registry: bool) -> Result<Value> {
    example(
        &Pair::example(),
        if in_registry { "registry" } else { "consumer" },
        "permissions",
    )
}

/// Returns a generated document for these accounts.
pub fn example(pair: &Pair, side: &str, name: &str) -> Result<Value> {
    let file = local_stack::repository_root()
        .join(format!("examples/management-roles/{side}/{name}.json"));
    Ok(serde_json::from_str(
        &pair.fill_in(&std::fs::read_to_string(file)?),
    )?)
}

/// Returns the document without this action, and without the statement if it has no other action.
pub fn without(mut document: Value, sid: &str, action: &str) -> Value {
    if let Some(statements) = document["Statement"].as_array_mut() {
        for statement in statements
            .iter_mut()
            .filter(|statement| statement["Sid"] == sid)
        {
            statement["Action"] = texts(&statement["Action"])
                .into_iter()
                .filter(|other| other != action)
                .collect();
        }
        statements.retain(|statement| !texts(&statement["Action"]).is_empty());
    }
    document
}

/// Returns the texts of one string or a list.
pub fn texts(value: &Value) -> Vec<String> {
    let list = value
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![value.clone()]);
    list.iter()
        .filter_map(|text| text.as_str().map(String::from))
        .collect()
}
