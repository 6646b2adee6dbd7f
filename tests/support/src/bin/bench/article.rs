//! Measures the cost of the article's grant: its first reconciliation, and a resync. Writes the
//! results to `article.json`.

use anyhow::{Context, Result, ensure};
use local_stack::{
    AuditLog, Call, CallLog, Installation, Pair, Repository, Write, by_operation, eventually,
    prepare,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The limit on calls in the grant's first reconciliation. Calls to STS do not count, nor do reads
/// that are made once for all grants of an account before the first one. One call reads the
/// repository's policy before it is claimed (docs/decisions/0020-claims-per-place.md).
const MOST_AWS_CALLS: usize = 13;
/// The limit on writes to the API server in the grant's first reconciliation. Events, Leases and
/// the accounts' statuses do not count. The latter contain the number of grants: one write for each
/// account, however many grants are applied at once.
const MOST_API_WRITES: usize = 4;

/// Much longer than a reconciliation, but short enough to wait for. The operator varies it by 20 %.
const RESYNC: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "team-b";

/// The results in the file.
#[derive(Serialize)]
struct Measured {
    /// Calls of the first reconciliation, by operation.
    aws_calls: BTreeMap<String, usize>,
    aws_calls_total: usize,
    /// Calls before the grant existed.
    aws_calls_for_accounts: BTreeMap<String, usize>,
    /// Calls to STS since the operator's start.
    sts_calls: usize,
    api_writes: usize,
    api_writes_by_resource: BTreeMap<String, usize>,
    /// Writes of the accounts' statuses.
    api_writes_for_accounts: usize,
    /// The first resync, without changes since the reconciliation.
    resync: Resync,
    limits: Limits,
}

#[derive(Serialize)]
struct Resync {
    aws_calls: BTreeMap<String, usize>,
    aws_calls_total: usize,
    sts_calls: usize,
    api_writes: usize,
}

#[derive(Serialize)]
struct Limits {
    aws_calls_total: usize,
    api_writes: usize,
    resync_api_writes: usize,
}

/// Measures, prints and stores the results. Returns whether they are within the limits.
pub async fn run(installation: &Installation, folder: &Path) -> Result<bool> {
    let measured = measure(installation).await?;
    let file = folder.join("article.json");
    std::fs::write(&file, serde_json::to_string_pretty(&measured)? + "\n")?;
    let within = print(&measured);
    println!("\nwritten to {}", file.display());
    Ok(within)
}

async fn measure(installation: &Installation) -> Result<Measured> {
    let stack = &installation.stack;
    let pair = Pair::example();
    prepare(stack, &pair).await?;
    Repository::new(&pair.registry, "miqp-devops")
        .create(stack)
        .await?;

    let (calls, audit) = (CallLog::of(stack), AuditLog::of(stack));
    let (calls_mark, audit_mark) = (calls.mark()?, audit.mark()?);
    let interval = format!("{}s", RESYNC.as_secs());
    let _operator = installation
        .start_operator(crate::operator()?, &["--resync-interval", &interval])
        .await?;

    let applied = apply_article(installation, &pair).await?;
    // Calls between Ready and the first resync also belong to the first reconciliation.
    let settled = SystemTime::now() + RESYNC / 2;

    println!("waiting for a complete resync");
    let resync = eventually("a complete resync", async || {
        whole_resync(calls.of_operator(calls_mark)?, settled, &pair)
    })
    .await?;
    let all = calls.of_operator(calls_mark)?;
    let (before, since): (Vec<&Call>, Vec<&Call>) =
        all.iter().partition(|call| call.time < applied);
    let first = since.into_iter().filter(|call| call.time < settled);
    let writes = audit.of_operator(audit_mark).await?;
    let (first_writes, later): (Vec<&Write>, Vec<&Write>) =
        writes.iter().partition(|write| write.time < settled);
    let (for_accounts, for_grant): (Vec<_>, Vec<_>) = first_writes
        .into_iter()
        .partition(|write| write.resource.starts_with("awsaccounts"));

    let (sts_before, calls_for_accounts) = apart(before.into_iter());
    let (sts_calls, aws_calls) = apart(first);
    let sts_calls = sts_calls + sts_before;
    let (resync_sts_calls, resync_calls) = apart(resync.iter());
    Ok(Measured {
        aws_calls_total: aws_calls.values().sum(),
        aws_calls,
        aws_calls_for_accounts: calls_for_accounts,
        sts_calls,
        api_writes: for_grant.len(),
        api_writes_by_resource: by_resource(&for_grant),
        api_writes_for_accounts: for_accounts.len(),
        resync: Resync {
            aws_calls_total: resync_calls.values().sum(),
            aws_calls: resync_calls,
            sts_calls: resync_sts_calls,
            api_writes: later.len(),
        },
        limits: Limits {
            aws_calls_total: MOST_AWS_CALLS,
            api_writes: MOST_API_WRITES,
            resync_api_writes: 0,
        },
    })
}

/// Applies the example's accounts, then its grant, and waits until all are ready. Returns the time
/// at which the grant was applied.
async fn apply_article(installation: &Installation, pair: &Pair) -> Result<SystemTime> {
    let cluster = &installation.cluster;
    let article = pair.article(NAMESPACE);
    let documents: Vec<&str> = article.split("\n---\n").collect();
    let (grant, accounts) = documents
        .split_last()
        .context("examples/article.yaml is empty")?;
    ensure!(
        grant.contains("kind: CrossAccountRegistryGrant"),
        "the grant is not the last document of examples/article.yaml"
    );
    println!("applying the accounts of examples/article.yaml");
    cluster.apply(&accounts.join("\n---\n")).await?;
    for account in [&pair.registry, &pair.consumer] {
        cluster
            .wait_for_condition(NAMESPACE, &format!("awsaccount/{account}"), "Ready")
            .await?;
    }
    println!("applying its grant");
    let applied = SystemTime::now();
    cluster.apply(grant).await?;
    cluster
        .wait_for_condition(NAMESPACE, "carg/miq-devops", "Ready")
        .await?;
    Ok(applied)
}

fn by_resource(writes: &[&Write]) -> BTreeMap<String, usize> {
    let mut by_resource = BTreeMap::new();
    for write in writes {
        let key = format!("{} {}", write.verb, write.resource);
        *by_resource.entry(key).or_default() += 1;
    }
    by_resource
}

/// Returns the calls from one read of the repository's policy to the next. These are the calls of
/// one resync, even if a resync begins with another call.
fn whole_resync(mut calls: Vec<Call>, after: SystemTime, pair: &Pair) -> Result<Vec<Call>> {
    calls.retain(|call| call.time >= after);
    let is_look =
        |call: &Call| call.action == "GetRepositoryPolicy" && call.account == pair.registry;
    let looks: Vec<usize> = (0..calls.len())
        .filter(|&number| is_look(&calls[number]))
        .collect();
    ensure!(looks.len() >= 2, "{} resyncs have begun", looks.len());
    Ok(calls[looks[0]..looks[1]].to_vec())
}

/// Returns the number of calls to STS, and of the others by operation.
fn apart<'a>(calls: impl Iterator<Item = &'a Call>) -> (usize, BTreeMap<String, usize>) {
    let (sts, others): (Vec<&Call>, Vec<&Call>) = calls.partition(|call| call.service == "sts");
    (sts.len(), by_operation(others))
}

/// Prints the results. Returns whether they are within the limits.
fn print(measured: &Measured) -> bool {
    let Measured {
        aws_calls,
        aws_calls_total,
        sts_calls,
        api_writes,
        api_writes_by_resource,
        ..
    } = measured;
    println!("\nFirst reconciliation of examples/article.yaml");
    list(aws_calls);
    let calls_fit = limited("AWS calls", *aws_calls_total, MOST_AWS_CALLS);
    println!(
        "  {:>4}  STS calls since the start (not counted)",
        sts_calls
    );
    let for_accounts: usize = measured.aws_calls_for_accounts.values().sum();
    println!("  {for_accounts:>4}  calls before the grant, for the accounts (not counted)");
    list(api_writes_by_resource);
    let writes_fit = limited("writes to the API server", *api_writes, MOST_API_WRITES);
    println!(
        "  {:>4}  writes of the accounts' statuses (not counted)",
        measured.api_writes_for_accounts
    );

    let Resync {
        aws_calls,
        aws_calls_total,
        sts_calls,
        api_writes,
    } = &measured.resync;
    println!("\nA resync of it, unchanged");
    list(aws_calls);
    println!("  {aws_calls_total:>4}  AWS calls");
    println!("  {sts_calls:>4}  STS calls (not counted)");
    let resync_fits = limited("writes to the API server", *api_writes, 0);
    calls_fit && writes_fit && resync_fits
}

fn list(counts: &BTreeMap<String, usize>) {
    for (name, count) in counts {
        println!("  {count:>4}    {name}");
    }
}

fn limited(what: &str, count: usize, most: usize) -> bool {
    let verdict = if count <= most {
        "ok"
    } else {
        "OVER THE LIMIT"
    };
    println!("  {count:>4}  {what}, of at most {most}: {verdict}");
    count <= most
}
