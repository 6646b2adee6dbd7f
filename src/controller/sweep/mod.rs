//! Finds orphans: resources and statements of this installation in AWS that no grant claims.
//!
//! - `claims`: collects the grants' claims in an account.
//! - `scan`: reads the resources and statements of this installation in an account.
//! - `remove`: reads each orphan again, and removes it.
//! - `report`: status, Event, log and metrics of a sweep.
//!
//! Orphans remain where somebody removed a grant's finalizer by hand, or where a cluster was lost.
//! The sweep runs in the leader alone, in every account whose credentials work.
//! [`crate::grant::sweep`] decides what may be removed.

mod claims;
mod remove;
mod report;
mod scan;

use crate::api::sweep::{CONFIRM_SWEEP, SweepMode};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::controller::Context;
use crate::controller::patch::in_time;
use crate::controller::second_writer;
use crate::controller::state::watch_caches::Cache;
use crate::controller::stored;
use crate::controller::supervise;
use crate::grant::partition::is_region;
use crate::grant::sweep::{Brake, Circumstances, Sightings, SweepDecision, status, verdict};
use crate::grant::{AccountId, GrantName};
use crate::telemetry::metrics::OfAccount;
use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pause before an account's first sweep, and before the next attempt where it could not be
/// reached.
const SOON: Duration = Duration::from_secs(300);
/// The pause where something was refused: a person has to help, and each attempt is in CloudTrail.
const AGAIN: Duration = Duration::from_secs(3600);
/// How often the watch caches alone are checked for something to do.
const TICK: Duration = Duration::from_secs(10);
/// The number of accounts that are swept at a time.
const AT_A_TIME: usize = 4;

/// Treatment of orphans.
#[derive(Clone, Copy, Debug)]
pub struct SweepSettings {
    /// Whether they are removed.
    pub mode: SweepMode,
    /// How often they are searched for.
    pub interval: Duration,
    /// How long something must have been there without a claim before it is removed.
    pub unclaimed_for: Duration,
}

impl SweepSettings {
    fn soon(&self) -> Duration {
        SOON.min(self.interval)
    }

    fn tick(&self) -> Duration {
        TICK.min(self.interval).min(self.unclaimed_for)
    }
}

/// State of an account that is kept from sweep to sweep.
struct Memory {
    due: Instant,
    sightings: Sightings,
    /// The regions that grants have named: once a grant was released by hand, nothing names its
    /// regions any more.
    regions: BTreeSet<String>,
    /// The confirmation by the admin at the last sweep.
    confirmed: Option<String>,
    /// The account's rules at the last sweep. When they change, access that they used to admit is
    /// searched for at once.
    rules: u64,
}

/// Sweeps until a stop signal. Without settings there are no sweeps, and the results of earlier
/// ones are removed from the statuses.
pub(super) async fn run(context: Arc<Context>, settings: Option<SweepSettings>) {
    tokio::select! {
        () = context.runtime.filled.wait_for(&[Cache::Grants, Cache::Accounts, Cache::Namespaces]) => {}
        () = context.runtime.stop.clone() => return,
    }
    let Some(settings) = settings else {
        for account in context.cluster.watch_caches.accounts.state() {
            report::nothing(&context, &account).await;
        }
        return;
    };
    let (begin, mut memories) = (Instant::now(), BTreeMap::new());
    loop {
        round(&context, &settings, begin, &mut memories).await;
        tokio::select! {
            () = tokio::time::sleep(settings.tick()) => {}
            () = context.runtime.stop.clone() => return,
        }
    }
}

/// Sweeps the accounts that are due.
async fn round(
    context: &Context,
    settings: &SweepSettings,
    begin: Instant,
    memories: &mut BTreeMap<AccountId, Memory>,
) {
    let accounts = context.cluster.watch_caches.accounts.state();
    let accounts: BTreeMap<AccountId, Arc<AWSAccount>> = accounts
        .into_iter()
        .filter_map(|account| Some((account.name_any().parse().ok()?, account)))
        .collect();
    memories.retain(|id, _| accounts.contains_key(id) || forget(context, id));
    for (id, account) in &accounts {
        let due = Instant::now() + settings.soon();
        let (sightings, regions, confirmed) = Default::default();
        let new = || Memory {
            due,
            sightings,
            regions,
            confirmed,
            rules: rules(account),
        };
        memories.entry(id.clone()).or_insert_with(new);
    }
    note_regions(context, memories);
    let asked = context.cluster.requests.take_sweeps();
    let due: Vec<_> = memories
        .iter_mut()
        .filter_map(|(id, memory)| {
            let account = accounts.get(id)?;
            let news = settings.mode == SweepMode::Remove
                && memory.confirmed.as_deref() != confirmed(account);
            let asked = asked.get(id.as_str());
            memory.regions.extend(
                asked
                    .into_iter()
                    .flatten()
                    .filter(|region| is_region(region))
                    .cloned(),
            );
            let news = news || memory.rules != rules(account) || asked.is_some();
            (news || memory.due <= Instant::now()).then_some((id, account, memory))
        })
        .collect();
    if due.is_empty() {
        return;
    }
    let unknown = match unknown_grants(context).await {
        Ok(unknown) => unknown,
        Err(error) => {
            tracing::warn!(%error, "the grants could not be listed, so nothing is looked for that none claims");
            for (_, account, memory) in due {
                memory.due = Instant::now() + settings.soon();
                memory.confirmed = confirmed(account).map(String::from);
                memory.rules = rules(account);
            }
            return;
        }
    };
    // Measured from one start time, so that the accounts stay together and the grants are listed
    // once for all of them.
    let started = Instant::now();
    let sweeps = futures::stream::iter(due).map(|(id, account, memory)| {
        let unknown = &unknown;
        async move {
            // A panic because of one account's content must not keep the others from being swept.
            let swept = sweep(context, settings, begin, (id, account), memory, unknown);
            let swept = supervise::isolated("sweep account", &context.cloud.metrics, swept).await;
            let pause = swept.unwrap_or_else(|panicked| {
                tracing::error!(account = %id, "the sweep of this account ended early: {panicked}");
                AGAIN.min(settings.interval)
            });
            memory.due = started + pause;
            memory.confirmed = confirmed(account).map(String::from);
            memory.rules = rules(account);
        }
    });
    sweeps.buffer_unordered(AT_A_TIME).collect::<()>().await;
}

fn confirmed(account: &AWSAccount) -> Option<&str> {
    account.annotations().get(CONFIRM_SWEEP).map(String::as_str)
}

/// Returns a hash of the account's rules.
fn rules(account: &AWSAccount) -> u64 {
    let mut hasher = DefaultHasher::new();
    let registry = account.spec.registry.as_ref().map(|side| &side.rules);
    let consumer = account.spec.consumer.as_ref().map(|side| &side.rules);
    format!("{registry:?} {consumer:?}").hash(&mut hasher);
    hasher.finish()
}

/// Removes the metrics of an account that is not known any more.
fn forget(context: &Context, id: &AccountId) -> bool {
    context.cloud.metrics.sweep_found.remove(&OfAccount {
        account: id.to_string(),
    });
    false
}

fn note_regions(context: &Context, memories: &mut BTreeMap<AccountId, Memory>) {
    for grant in context.cluster.grants.state() {
        let registry = &grant.spec.registry;
        let Some(memory) = registry
            .account_id
            .parse()
            .ok()
            .and_then(|id: AccountId| memories.get_mut(&id))
        else {
            continue;
        };
        for region in registry.regions.iter().filter(|region| is_region(region)) {
            if !memory.regions.contains(region) {
                memory.regions.insert(region.clone());
            }
        }
    }
}

/// Returns the grants that the cluster has and the watch cache lacks: this version cannot read
/// them, or they are new. Their claims are unknown, so they must not count as gone.
async fn unknown_grants(context: &Context) -> Result<BTreeSet<GrantName>, kube::Error> {
    let listed = in_time(stored::list_metadata::<CrossAccountRegistryGrant>(
        &context.runtime.client,
    ))
    .await?;
    let known: BTreeSet<Option<String>> = context
        .cluster
        .grants
        .state()
        .iter()
        .map(|grant| grant.uid())
        .collect();
    let unknown = listed
        .into_iter()
        .filter(|grant| !known.contains(&grant.uid));
    let name = |grant: ObjectMeta| GrantName {
        namespace: grant.namespace.unwrap_or_default(),
        name: grant.name.unwrap_or_default(),
    };
    Ok(unknown.map(name).collect())
}

/// Sweeps one account, and returns the pause until its next sweep.
async fn sweep(
    context: &Context,
    settings: &SweepSettings,
    begin: Instant,
    (id, account): (&AccountId, &AWSAccount),
    memory: &mut Memory,
    unknown: &BTreeSet<GrantName>,
) -> Duration {
    if context.runtime.stop.clone().now_or_never().is_some() {
        return settings.soon();
    }
    let session = match context.cloud.aws.account(id, &account.spec, None).await {
        Ok(session) => session,
        Err(problem) => {
            // The account's condition reports it.
            tracing::debug!(account = %id, reason = %problem.reason, "not swept: {}", problem.message);
            return settings.soon();
        }
    };
    let recorded = account
        .status
        .iter()
        .flat_map(|status| &status.sweep)
        .flat_map(|sweep| sweep.regions.clone());
    memory
        .regions
        .extend(recorded.filter(|region| is_region(region)));
    let place = scan::ScanTarget {
        context,
        id,
        account,
        session: &session,
        unknown,
    };
    let looked = tokio::select! {
        looked = scan::look(&place, &memory.regions) => looked,
        () = context.runtime.stop.clone() => return settings.soon(),
    };
    let now = begin.elapsed();
    memory.sightings.note(&looked.seen, now);
    let circumstances = Circumstances {
        mode: settings.mode,
        grants: context.cluster.grants.state().len(),
        unknown_grants: unknown.len(),
        confirmed: confirmed(account),
        unclaimed_for: settings.unclaimed_for,
        now,
    };
    let judged = verdict(&looked.seen, &memory.sightings, &circumstances);
    // The findings may belong to another operator, which is alive.
    let is_another_operators = second_writer::paused(&context.cluster, id).is_some();
    let mut ripe = match &judged {
        SweepDecision::Remove { now, .. } if !is_another_operators => now.clone(),
        SweepDecision::Remove { .. } | SweepDecision::Nothing | SweepDecision::Report(_) => {
            BTreeSet::new()
        }
    };
    // Access that no rule admits is revoked like that of any grant. A grant that this version
    // cannot read may have it by rules that it cannot read either.
    if unknown.is_empty() && !is_another_operators {
        ripe.extend(looked.refused.iter().cloned());
    }
    let removed = match ripe.is_empty() {
        true => remove::Removed::default(),
        false => remove::remove(&place, &looked, &ripe).await,
    };
    let mut seen = looked.seen;
    seen.findings
        .retain(|finding| !removed.arns.contains(&finding.arn));
    let left = verdict(&seen, &memory.sightings, &circumstances);
    let told = status(id, settings.mode, &seen, &left, &removed.failed);
    report::swept(context, account, told, removed.arns.len()).await;
    let failed = !seen.problems.is_empty() || !removed.failed.is_empty();
    let wait = match left {
        SweepDecision::Remove {
            later: Some(later), ..
        } => later,
        SweepDecision::Report(Brake::UnknownGrants(_)) => AGAIN,
        _ if failed => AGAIN,
        SweepDecision::Remove { .. } | SweepDecision::Nothing | SweepDecision::Report(_) => {
            settings.interval
        }
    };
    wait.min(settings.interval)
}
