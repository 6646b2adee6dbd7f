//! A grant whose managed fields the API server accepts, and no client in Rust can parse.

use crate::support::case::{Case, GRANT};
use anyhow::{Result, ensure};
use serde_json::json;

/// Deletes a grant that our client cannot parse with kubectl, and waits until it is gone.
pub async fn kubectl_delete(case: &Case<'_>, grant: &str) -> Result<()> {
    let arguments = [
        "delete",
        grant,
        "--namespace",
        &case.namespace,
        "--timeout=300s",
    ];
    case.cluster().kubectl(&arguments).await.map(drop)
}

/// Gives the grant of this case managed fields that the API server accepts and the operator's
/// parsers do not.
pub async fn make_fields_unparsable(case: &Case<'_>) -> Result<()> {
    const BEYOND_THE_PARSER: &str = "9999-12-31T23:59:59Z";
    let mut fields =
        case.cluster().get(&case.namespace, GRANT).await?["metadata"]["managedFields"].take();
    fields[0]["time"] = json!(BEYOND_THE_PARSER);
    let patch =
        json!({"metadata": {"annotations": {"example.com/a": "b"}, "managedFields": fields}})
            .to_string();
    let arguments = [
        "patch",
        GRANT,
        "--namespace",
        &case.namespace,
        "--type=merge",
        "-o=json",
        "--show-managed-fields",
        "--patch",
        &patch,
    ];
    let stored = case.cluster().kubectl(&arguments).await?;
    ensure!(
        stored.contains(BEYOND_THE_PARSER),
        "the API server did not keep it: {stored}"
    );
    Ok(())
}
