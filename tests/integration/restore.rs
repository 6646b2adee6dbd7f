//! A cluster that is restored from a backup, with or without status: no access is lost or revoked.

use crate::support::case::{Case, OPERATOR};
use crate::support::flags::{self, FAST_RESYNC};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use local_stack::{AccountState, CallLog, Installation, Operator, eventually};
use serde_json::{Value, json};

/// Grants on one repository: a whole account, one narrowed to roles, and one whose registry role
/// the policy names.
const GRANTS: [&str; 3] = ["whole", "narrowed", "named"];

fn grants(case: &Case<'_>) -> [Value; 3] {
    let direct = json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": {"instanceRole": null}});
    let narrowed = json!({
        "paths": ["Direct"], "registry": {"role": null},
        "consumer": {"instanceRole": null, "wholeAccount": null, "roles": ["ci/*"]},
    });
    let named = json!({"registry": {"role": {"nameInRepositoryPolicy": true}}});
    [direct, narrowed, named]
        .into_iter()
        .zip(GRANTS)
        .map(|(spec, name)| case.grant_named(name, spec))
        .collect::<Vec<_>>()
        .try_into()
        .expect("three")
}

/// Returns the backup of these resources, in the order of the arguments.
struct Backup {
    grants: Vec<Value>,
    accounts: Vec<Value>,
}

impl Backup {
    async fn of(case: &Case<'_>) -> Result<Self> {
        let get = async |namespace: &str, name: String| case.cluster().get(namespace, &name).await;
        let mut grants = Vec::new();
        for name in GRANTS {
            grants.push(saved(get(&case.namespace, format!("carg/{name}")).await?));
        }
        let mut accounts = Vec::new();
        for account in [&case.pair.registry, &case.pair.consumer] {
            accounts.push(saved(get("", format!("awsaccount/{account}")).await?));
        }
        Ok(Self { grants, accounts })
    }

    /// Removes the resources without a revocation, as when the cluster is lost.
    async fn lose(&self, case: &Case<'_>) -> Result<()> {
        for name in GRANTS {
            let grant = format!("carg/{name}");
            case.cluster()
                .merge(
                    &case.namespace,
                    &grant,
                    json!({"metadata": {"finalizers": null}}),
                )
                .await?;
            case.delete_named(&grant).await?;
        }
        for account in [&case.pair.registry, &case.pair.consumer] {
            case.cluster()
                .delete("", &format!("awsaccount/{}", account))
                .await?;
        }
        Ok(())
    }

    async fn restore(case: &Case<'_>, saved: &[Value], with_status: bool) -> Result<()> {
        for object in saved {
            let mut spec = object.clone();
            spec.as_object_mut().context("no object")?.remove("status");
            case.apply(&spec).await?;
            let name = format!(
                "{}/{}",
                object["kind"].as_str().unwrap_or_default(),
                object["metadata"]["name"].as_str().unwrap_or_default()
            );
            let namespace = object["metadata"]["namespace"]
                .as_str()
                .unwrap_or("default");
            if with_status && object["status"].is_object() {
                let status = json!({"status": object["status"]});
                case.cluster()
                    .merge_status(namespace, &name, status)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Removes the fields that the API server assigns to each object.
fn saved(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| ["name", "namespace", "finalizers"].contains(&key.as_str()));
    }
    object
}

async fn all_ready(case: &Case<'_>) -> Result<()> {
    let ready = GRANTS.map(|name| {
        let namespace = case.namespace.clone();
        async move {
            case.cluster()
                .wait_for_condition(&namespace, &format!("carg/{name}"), "Ready")
                .await
        }
    });
    try_join_all(ready).await.map(drop)
}

async fn start(installation: &Installation) -> Result<Operator> {
    // The restored cluster is another one, and continues as the old installation.
    let more = ["--installation=0123456789ab", "--sweep-interval=1s"];
    let flags = flags::with(&FAST_RESYNC, &more);
    installation.start_operator(OPERATOR, &flags).await
}

/// Variant of a restore.
#[derive(Clone, Copy)]
struct How {
    with_status: bool,
    accounts_first: bool,
    /// Whether the operator runs before everything is restored.
    operator_first: bool,
}

/// The tag that distinguishes a grant from an earlier one of the same name.
const GRANT_UID: &str = "registrygrants.dev/grant-uid";

fn names_the_new_resources(
    before: &(AccountState, AccountState),
    after: &(AccountState, AccountState),
) -> Result<()> {
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        for (name, role) in &before.roles {
            let (was, is) = (
                role.tags.get(GRANT_UID),
                after
                    .roles
                    .get(name)
                    .and_then(|role| role.tags.get(GRANT_UID)),
            );
            ensure!(
                was.is_none() || was != is,
                "role {name} still names the old resource"
            );
        }
    }
    Ok(())
}

async fn nothing_is_lost(how: How) -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let untouched = case.accounts().await?;
    let operator = start(&installation).await?;
    for grant in grants(&case) {
        case.apply(&grant).await?;
    }
    all_ready(&case).await?;
    let before = case.accounts().await?;
    let node = case.instance().await?;
    ensure!(operator.terminate()?.success(), "it did not end well");
    let backup = Backup::of(&case).await?;
    backup.lose(&case).await?;
    let calls = CallLog::of(&installation.stack);
    let mark = calls.mark()?;

    let early = if how.operator_first {
        Some(start(&installation).await?)
    } else {
        None
    };
    let mut parts = [&backup.accounts, &backup.grants];
    if !how.accounts_first {
        parts.reverse();
    }
    for part in parts {
        Backup::restore(&case, part, how.with_status).await?;
    }
    let _operator = match early {
        Some(operator) => operator,
        None => start(&installation).await?,
    };
    all_ready(&case).await?;
    node.push(&case.repository("app"), "v1").await?.allowed()?;
    // A restored status says Ready before the operator has reconciled.
    eventually("the roles name the new resources", async || {
        names_the_new_resources(&before, &case.accounts().await?)
    })
    .await?;

    // New UIDs and an older record are no second operator with the same ID.
    let registry = format!("awsaccount/{}", case.pair.registry);
    let registry = case.cluster().get("", &registry).await?;
    let second = &registry["status"]["secondWriter"];
    ensure!(second.is_null(), "{second}");

    // No access was removed, not even temporarily.
    let made = calls.of_operator(mark)?;
    let writes: Vec<&str> = made
        .iter()
        .filter(|call| call.is_write())
        .map(|call| call.action.as_str())
        .collect();
    ensure!(
        writes
            .iter()
            .all(|action| ["TagRole", "TagInstanceProfile"].contains(action)),
        "more than the tags was written: {writes:?}"
    );
    let mut after = case.accounts().await?;
    for (before, after) in [(&before.0, &mut after.0), (&before.1, &mut after.1)] {
        for (name, role) in &mut after.roles {
            let was = before
                .roles
                .get(name)
                .and_then(|role| role.tags.get(GRANT_UID))
                .cloned();
            was.map(|was| role.tags.insert(GRANT_UID.into(), was));
        }
        for (name, profile) in &mut after.instance_profiles {
            let was = before
                .instance_profiles
                .get(name)
                .and_then(|profile| profile.tags.get(GRANT_UID))
                .cloned();
            was.map(|was| profile.tags.insert(GRANT_UID.into(), was));
        }
    }
    crate::support::case::assert_unchanged(&before, &after)?;

    // And all of it can be revoked.
    case.delete_all().await?;
    let left = case.accounts().await?;
    crate::support::case::assert_unchanged(&untouched, &left)
}

#[tokio::test]
async fn cluster_restored_with_status_loses_and_revokes_nothing() -> Result<()> {
    nothing_is_lost(How {
        with_status: true,
        accounts_first: true,
        operator_first: false,
    })
    .await
}

#[tokio::test]
async fn cluster_restored_without_status_loses_and_revokes_nothing() -> Result<()> {
    nothing_is_lost(How {
        with_status: false,
        accounts_first: true,
        operator_first: false,
    })
    .await
}

#[tokio::test]
async fn grants_restored_before_their_accounts_wait_for_them() -> Result<()> {
    nothing_is_lost(How {
        with_status: false,
        accounts_first: false,
        operator_first: true,
    })
    .await
}
