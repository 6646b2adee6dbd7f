//! Objects that the API server rejects by the schema, with the field named.

use crate::support::case::{Case, merged};
use anyhow::{Context, Result, ensure};
use local_stack::eventually;
use serde_json::{Value, json};

async fn refused(case: &Case<'_>, resource: &Value, field: &str, why: &str) -> Result<()> {
    let message = case.cluster().refused(resource).await?;
    ensure!(
        message.contains(field) && message.contains(why),
        "expected {field:?} and {why:?} in: {message}"
    );
    Ok(())
}

#[tokio::test]
async fn malformed_grant_is_rejected_naming_the_field() -> Result<()> {
    let case = Case::new().await?;
    let table: Vec<(Value, &str, &str)> = vec![
        (
            json!({"registry": {"accountID": "12345"}}),
            "spec.registry.accountID",
            "12 digits",
        ),
        (
            json!({"registry": {"accountID": "12345678901x"}}),
            "spec.registry.accountID",
            "12 digits",
        ),
        (
            json!({"registry": {"accountID": 111111111111_u64}}),
            "spec.registry.accountID",
            "string",
        ),
        (
            json!({"consumer": {"accountID": "2222222222222"}}),
            "spec.consumer.accountID",
            "12",
        ),
        (
            json!({"consumer": {"accountID": case.pair.registry}}),
            "spec.consumer.accountID",
            "must differ",
        ),
        (
            json!({"registry": {"repositories": ["Upper"]}}),
            "spec.registry.repositories",
            "lowercase",
        ),
        (
            json!({"registry": {"repositories": ["a"]}}),
            "spec.registry.repositories",
            "2 to 256",
        ),
        (
            json!({"registry": {"repositories": ["a//b"]}}),
            "spec.registry.repositories",
            "repository name",
        ),
        (
            json!({"registry": {"repositories": ["app-"]}}),
            "spec.registry.repositories",
            "repository name",
        ),
        (
            json!({"registry": {"repositories": ["a*b"]}}),
            "spec.registry.repositories",
            "ends in *",
        ),
        (
            json!({"registry": {"repositories": ["*"]}}),
            "spec.registry.repositories",
            "repository name",
        ),
        (
            json!({"registry": {"repositories": ["app", "app"]}}),
            "spec.registry.repositories",
            "Duplicate",
        ),
        (
            json!({"registry": {"repositories": []}}),
            "spec.registry.repositories",
            "at least 1",
        ),
        (
            json!({"registry": {"regions": ["Frankfurt"]}}),
            "spec.registry.regions",
            "us-east-1",
        ),
        (
            json!({"registry": {"role": {"name": "has space"}}}),
            "spec.registry.role.name",
            "IAM role name",
        ),
        (
            json!({"registry": {"role": {"name": "path/name"}}}),
            "spec.registry.role.name",
            "no path",
        ),
        (
            json!({"registry": {"role": {"name": "x".repeat(65)}}}),
            "spec.registry.role.name",
            "64",
        ),
        (
            json!({"registry": {"role": {"managedPolicies": ["AdministratorAccess"]}}}),
            "spec.registry.role.managedPolicies",
            "Unsupported value",
        ),
        (
            json!({"registry": {"role": {"maxSessionSeconds": 60}}}),
            "spec.registry.role.maxSessionSeconds",
            "3600",
        ),
        (
            json!({"registry": {"role": {"externalID": "a b"}}}),
            "spec.registry.role.externalID",
            "letters, digits",
        ),
        (
            json!({"access": "Pull", "registry": {"role": {"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"]}}}),
            "spec.registry.role.managedPolicies",
            "would allow pushing",
        ),
        (json!({"access": "Everything"}), "spec.access", "Pull"),
        (json!({"paths": []}), "spec.paths", "at least 1"),
        (
            json!({"paths": ["Direct", "Direct"]}),
            "spec.paths",
            "Duplicate",
        ),
        (
            json!({"consumer": {"roles": ["ci/*"]}}),
            "spec.consumer",
            "are mutually exclusive",
        ),
        (
            json!({"consumer": {"wholeAccount": null, "roles": ["*"]}}),
            "spec.consumer.roles",
            "wholeAccount",
        ),
        (
            json!({"consumer": {"wholeAccount": null, "roles": ["/ci/x"]}}),
            "spec.consumer.roles",
            "role/",
        ),
        (
            json!({"consumer": {"wholeAccount": null, "instanceRole": null}}),
            "spec.consumer",
            "who gets access",
        ),
        (
            json!({"consumer": {"instanceRole": {"name": "a:b"}}}),
            "spec.consumer.instanceRole.name",
            "IAM role name",
        ),
        (
            json!({"registry": {"regoins": ["us-east-1"]}}),
            "spec.registry.regoins",
            "unknown field",
        ),
    ];
    for (changes, field, why) in table {
        refused(&case, &case.grant(changes), field, why).await?;
    }
    let nameless = merged(
        case.grant(json!({})),
        json!({"metadata": {"name": "x".repeat(191)}}),
    );
    refused(&case, &nameless, "metadata.name", "190").await
}

#[tokio::test]
async fn malformed_account_is_rejected_naming_the_field() -> Result<()> {
    let case = Case::new().await?;
    let other = "999999999999";
    let table: Vec<(Value, &str, &str)> = vec![
        (
            json!({"credentials": {"assumeRole": {"roleARN": "registry-grants"}}}),
            "spec.credentials.assumeRole.roleARN",
            "ARN",
        ),
        (
            json!({"credentials": {"assumeRole": {"roleARN": format!("arn:aws:iam::{other}:role/registry-grants")}}}),
            "roleARN",
            "this account",
        ),
        (
            json!({"roles": {"permissionsBoundary": format!("arn:aws:iam::{other}:policy/b")}}),
            "permissionsBoundary",
            "this account",
        ),
        (
            json!({"roles": {"path": "no-slashes"}}),
            "spec.roles.path",
            "/",
        ),
        (
            json!({"partition": "aws-mars"}),
            "spec.partition",
            "Unsupported value",
        ),
        (
            json!({"registry": {"rules": [case.rule(json!({"namespaces": {"selector": {}}}))]}}),
            "namespaces",
            "every namespace",
        ),
        (
            json!({"registry": {"rules": [case.rule(json!({"consumers": ["me"]}))]}}),
            "consumers",
            "12 digits",
        ),
        (
            json!({"registry": {"rules": [case.rule(json!({"repositories": ["a*b"]}))]}}),
            "repositories",
            "prefix",
        ),
        (
            json!({"registry": {"rules": [case.rule(json!({"maxAccess": null}))]}}),
            "maxAccess",
            "Required",
        ),
        (
            json!({"registry": {"roles": []}}),
            "spec.registry.roles",
            "unknown field",
        ),
    ];
    for (changes, field, why) in table {
        refused(&case, &case.registry_account(changes), field, why).await?;
    }
    let named = merged(
        case.registry_account(json!({})),
        json!({"metadata": {"name": "registry-prod"}}),
    );
    refused(&case, &named, "metadata.name", "12 digits").await
}

#[tokio::test]
async fn immutable_field_change_is_rejected_with_an_alternative() -> Result<()> {
    let case = Case::new().await?;
    case.apply(&case.grant(json!({}))).await?;
    let table: Vec<(Value, &str)> = vec![
        (
            json!({"registry": {"accountID": "333333333333"}}),
            "spec.registry.accountID",
        ),
        (
            json!({"consumer": {"accountID": "333333333333"}}),
            "spec.consumer.accountID",
        ),
        (
            json!({"registry": {"role": {"name": "other"}}}),
            "spec.registry.role.name",
        ),
        (
            json!({"registry": {"role": {"name": null}}}),
            "spec.registry.role.name",
        ),
        (
            json!({"registry": {"role": null}}),
            "spec.registry.role.name",
        ),
        (
            json!({"consumer": {"instanceRole": {"name": "other"}}}),
            "spec.consumer.instanceRole",
        ),
        (
            json!({"consumer": {"instanceRole": null}}),
            "spec.consumer.instanceRole",
        ),
        (
            json!({"consumer": {"instanceRole": {"instanceProfile": "other"}}}),
            "spec.consumer.instanceRole",
        ),
        (
            json!({"consumer": {"instanceRole": {"management": "Extend"}}}),
            "spec.consumer.instanceRole",
        ),
        (
            json!({"consumer": {"instanceRole": {"management": "Extend", "path": "/x/"}}}),
            "spec.consumer.instanceRole",
        ),
    ];
    for (changes, field) in table {
        refused(
            &case,
            &case.grant(changes),
            field,
            "delete the grant and create it again",
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn immutable_field_cannot_be_added_later() -> Result<()> {
    let case = Case::new().await?;
    let organization = json!({"accountID": null, "wholeAccount": null, "instanceRole": null, "organization": {"id": "o-a1b2c3d4e5"}});
    let adopted = json!({"adopt": true});
    // The object before, the change, and the field that the error names.
    let table: Vec<(Value, Value, &str)> = vec![
        (
            json!({"registry": {"role": {"name": null}}}),
            json!({"registry": {"role": {"name": "x"}}}),
            "spec.registry.role.name",
        ),
        (
            json!({"registry": {"role": null}}),
            json!({"registry": {"role": {"name": "x"}}}),
            "spec.registry.role.name",
        ),
        (
            json!({"registry": {"role": adopted}}),
            json!({"registry": {"role": {"adopt": true, "path": "/"}}}),
            "spec.registry.role.path",
        ),
        (
            json!({"registry": {"role": {"adopt": true, "path": "/"}}}),
            json!({"registry": {"role": adopted}}),
            "spec.registry.role.path",
        ),
        (
            json!({"consumer": {"instanceRole": null}}),
            json!({"consumer": {"instanceRole": {"name": "node"}}}),
            "spec.consumer.instanceRole",
        ),
        (
            json!({"consumer": {"instanceRole": null}}),
            json!({"consumer": organization}),
            "spec.consumer",
        ),
        (
            json!({"consumer": organization}),
            json!({"consumer": {"accountID": case.pair.consumer, "wholeAccount": true, "instanceRole": null}}),
            "spec.consumer",
        ),
    ];
    for (number, (before, after, field)) in table.into_iter().enumerate() {
        let name = format!("later-{number}");
        case.apply(&case.grant_named(&name, before))
            .await
            .with_context(|| format!("{after} is not the change"))?;
        let after = case.grant_named(&name, after);
        refused(&case, &after, field, "delete the grant and create it again").await?;
    }
    Ok(())
}

/// As Flux and Argo CD apply it: a default's items that the manifest does not name must not stay.
#[tokio::test]
async fn server_side_apply_narrows_the_paths() -> Result<()> {
    let case = Case::new().await?;
    for (paths, expected) in [
        (json!(null), json!(["Direct", "AssumeRole"])),
        (json!(["Direct"]), json!(["Direct"])),
    ] {
        let grant = case.grant(json!({"paths": paths})).to_string();
        case.cluster()
            .try_kubectl(&["apply", "--server-side", "-f", "-"], Some(&grant))
            .await?
            .ok()?;
        let found =
            case.cluster().get(&case.namespace, "carg/grant").await?["spec"]["paths"].take();
        ensure!(found == expected, "{found} and not {expected}");
    }
    Ok(())
}

#[tokio::test]
async fn account_partition_and_role_path_are_immutable() -> Result<()> {
    let case = Case::new().await?;
    case.apply(&case.registry_account(json!({}))).await?;
    let in_china = json!({"partition": "aws-cn"});
    refused(
        &case,
        &case.registry_account(in_china.clone()),
        "spec.partition",
        "cannot be changed",
    )
    .await?;
    let path = json!({"roles": {"path": "/other/"}});
    refused(
        &case,
        &case.registry_account(path.clone()),
        "spec.roles.path",
        "cannot be changed",
    )
    .await?;
    // A field that was not set before does not circumvent the rules.
    let other = Case::new().await?;
    let bare = json!({"partition": null, "roles": null});
    other.apply(&other.registry_account(bare)).await?;
    refused(
        &other,
        &other.registry_account(in_china),
        "spec.partition",
        "cannot be changed",
    )
    .await?;
    refused(
        &other,
        &other.registry_account(path),
        "spec.roles.path",
        "cannot be changed",
    )
    .await
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() -> Result<()> {
    let case = Case::new().await?;
    // The API server publishes the descriptions of a new definition a moment after the definition
    // itself.
    let message = eventually("the definition is described", async || {
        // `explain` uses kubectl's cache; this makes it read again.
        case.cluster()
            .kubectl(&["api-resources", "--api-group", "registrygrants.dev"])
            .await?;
        case.cluster()
            .kubectl(&["explain", "carg.spec.consumer.instanceRole"])
            .await
    })
    .await?;
    ensure!(
        message.contains("EC2 instance role in the consumer account"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn examples_are_accepted_unchanged() -> Result<()> {
    let case = Case::new().await?;
    let mut seen = 0;
    for entry in std::fs::read_dir(local_stack::repository_root().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let (_, rest) = text
            .split_once("kind: Namespace\nmetadata:\n  name: ")
            .context("no namespace")?;
        let namespace = rest.lines().next().context("no namespace")?;
        // A dry run does not create the grant's namespace.
        let example = text.replace(namespace, &case.namespace);
        let dry = ["apply", "--dry-run=server", "-f", "-"];
        case.cluster()
            .try_kubectl(&dry, Some(&example))
            .await?
            .ok()
            .with_context(|| path.display().to_string())?;
        seen += 1;
    }
    ensure!(seen >= 3, "{seen} examples");
    Ok(())
}
