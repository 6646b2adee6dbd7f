//! Measures the cost of many grants on one repository, and the size of its policy. Writes the
//! results to `repository.json` for whole accounts, and to `repository-narrowed.json` for accounts
//! narrowed to a role.

use anyhow::{Context, Result};
use local_stack::{CallLog, Installation, MANAGEMENT_ROLE, Pair, Repository};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// The numbers of grants that are applied at once, each time on a repository without a policy.
const GRANTS: [usize; 3] = [1, 50, 250];
/// The number of grants for accounts that are narrowed to a role.
const NARROWED: [usize; 1] = [100];
/// The limit on calls of `SetRepositoryPolicy`, however many grants there are.
const MOST_WRITES: usize = 25;
/// The limit of ECR.
const MOST_CHARACTERS: usize = 10_240;

/// The time until all grants were Ready.
#[derive(Serialize)]
struct Measured {
    grants: usize,
    /// Calls of `GetRepositoryPolicy`.
    reads: usize,
    /// Calls of `SetRepositoryPolicy`.
    writes: usize,
    /// The length of the policy in characters, without white space. All are ASCII.
    bytes: usize,
}

/// Measures, prints and stores the results. Returns whether they are within the limits.
pub async fn run(installation: &Installation, folder: &Path) -> Result<bool> {
    // No resync: only the calls that the grants themselves cause are counted.
    let _operator = installation
        .start_operator(crate::operator()?, &["--resync-interval", "1h"])
        .await?;
    let whole = measure_each(
        installation,
        &GRANTS,
        "many",
        &json!({"wholeAccount": true}),
        "",
    )
    .await?;
    let narrow = json!({"roles": ["ci/deployer"]});
    let narrowed = measure_each(
        installation,
        &NARROWED,
        "narrowed",
        &narrow,
        ", narrowed to roles",
    )
    .await?;
    println!();
    for (name, rows) in [
        ("repository.json", &whole),
        ("repository-narrowed.json", &narrowed),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, serde_json::to_string_pretty(rows)? + "\n")?;
        println!("written to {}", file.display());
    }
    Ok(whole.iter().chain(&narrowed).all(Measured::is_within))
}

async fn measure_each(
    installation: &Installation,
    counts: &[usize],
    prefix: &str,
    consumer: &Value,
    which: &str,
) -> Result<Vec<Measured>> {
    let mut rows = vec![];
    println!("\nMany grants on one repository, applied at once{which}");
    println!("  grants   reads  writes  characters");
    for grants in counts {
        let row = measure(
            installation,
            &format!("{prefix}-{grants}"),
            *grants,
            consumer,
        )
        .await?;
        let verdict = if row.is_within() {
            "ok"
        } else {
            "OVER THE LIMIT"
        };
        println!(
            "  {:>6}  {:>6}  {:>6}  {:>10}  {verdict}",
            row.grants, row.reads, row.writes, row.bytes
        );
        rows.push(row);
    }
    println!("  at most         {MOST_WRITES:>6}  {MOST_CHARACTERS:>10}");
    Ok(rows)
}

impl Measured {
    fn is_within(&self) -> bool {
        self.writes <= MOST_WRITES && self.bytes <= MOST_CHARACTERS
    }
}

async fn measure(
    installation: &Installation,
    namespace: &str,
    grants: usize,
    who: &Value,
) -> Result<Measured> {
    let Installation { stack, cluster, .. } = installation;
    cluster.create_namespace(namespace).await?;
    let Pair { registry, consumer } = installation.fresh_pair().await?;
    let app = Repository::new(&registry, "app");
    app.create(stack).await?;
    let consumers: Vec<String> = (0..grants)
        .map(|number| format!("9{}{number:03}", &consumer[4..]))
        .collect();
    cluster
        .apply(&account(&registry, namespace, &consumers).to_string())
        .await?;
    cluster
        .wait_for_condition(namespace, &format!("awsaccount/{registry}"), "Ready")
        .await?;

    let log = CallLog::of(stack);
    let mark = log.mark()?;
    let items: Vec<Value> = consumers
        .iter()
        .map(|consumer| grant(&registry, namespace, consumer, who))
        .collect();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
        .await?;
    cluster.wait_for_all(namespace, "carg", "Ready").await?;
    let calls = log.of_operator(mark)?;
    let count = |action| {
        calls
            .iter()
            .filter(|call| call.account == registry && call.action == action)
            .count()
    };
    let policy = app
        .policy(stack)
        .await?
        .context("all grants are Ready, and the repository has no policy")?;
    Ok(Measured {
        grants,
        reads: count("GetRepositoryPolicy"),
        writes: count("SetRepositoryPolicy"),
        bytes: policy.to_string().len(),
    })
}

fn account(registry: &str, namespace: &str, consumers: &[String]) -> Value {
    let role = format!("arn:aws:iam::{registry}:role/{MANAGEMENT_ROLE}");
    json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "AWSAccount",
        "metadata": {"name": registry},
        "spec": {
            "credentials": {"assumeRole": {"roleARN": role, "externalID": "registry-grants-example"}},
            "registry": {"rules": [{
                "namespaces": {"names": [namespace]},
                "repositories": ["app"],
                "maxAccess": "PullPush",
                "consumers": consumers,
            }]},
        },
    })
}

/// `who`: the fields of the consumer besides the account's number.
fn grant(registry: &str, namespace: &str, consumer: &str, who: &Value) -> Value {
    let mut grant = json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "CrossAccountRegistryGrant",
        "metadata": {"name": format!("of-{consumer}"), "namespace": namespace},
        "spec": {
            "access": "PullPush",
            "paths": ["Direct"],
            "registry": {"accountID": registry, "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": who,
        },
    });
    grant["spec"]["consumer"]["accountID"] = json!(consumer);
    grant
}
