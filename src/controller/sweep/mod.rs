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

/// An account whose sweep is due.
struct DueAccount<'a> {
    id: &'a AccountId,
    account: &'a AWSAccount,
    memory: &'a mut Memory,
}

impl DueAccount<'_> {
    /// Schedules the next sweep, and notes the confirmation and the rules that this one was for.
    fn schedule(&mut self, due: Instant) {
        self.memory.due = due;
        self.memory.confirmed = confirmed(self.account).map(String::from);
        self.memory.rules = rules(self.account);
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
        memories.entry(id.clone()).or_insert_with(|| Memory {
            due: Instant::now() + settings.soon(),
            sightings: Sightings::default(),
            regions: BTreeSet::new(),
            confirmed: None,
            rules: rules(account),
        });
    }
    note_regions(context, memories);
    let due = due_accounts(context, settings, &accounts, memories);
    if due.is_empty() {
        return;
    }
    let unknown = match unknown_grants(context).await {
        Ok(unknown) => unknown,
        Err(error) => {
            tracing::warn!(%error, "failed to list the grants, skipping the sweep");
            for mut due in due {
                due.schedule(Instant::now() + settings.soon());
            }
            return;
        }
    };
    // Measured from one start time, so that the accounts stay together and the grants are listed
    // once for all of them.
    let started = Instant::now();
    let round = SweepRound {
        context,
        settings,
        begin,
        unknown: &unknown,
    };
    let sweeps = futures::stream::iter(due).map(|mut due| {
        let round = &round;
        async move {
            let pause = round.sweep_isolated(&mut due).await;
            due.schedule(started + pause);
        }
    });
    sweeps.buffer_unordered(AT_A_TIME).collect::<()>().await;
}

/// Returns the accounts whose sweep is due, and notes the regions that sweeps were requested for.
fn due_accounts<'a>(
    context: &Context,
    settings: &SweepSettings,
    accounts: &'a BTreeMap<AccountId, Arc<AWSAccount>>,
    memories: &'a mut BTreeMap<AccountId, Memory>,
) -> Vec<DueAccount<'a>> {
    let requested = context.cluster.requests.take_sweeps();
    let mut due = Vec::new();
    for (id, memory) in memories {
        let Some(account) = accounts.get(id) else {
            continue;
        };
        let request = requested.get(id.as_str());
        memory.regions.extend(
            request
                .into_iter()
                .flatten()
                .filter(|region| is_region(region))
                .cloned(),
        );
        let has_new_confirmation =
            settings.mode == SweepMode::Remove && memory.confirmed.as_deref() != confirmed(account);
        let has_news = has_new_confirmation || memory.rules != rules(account) || request.is_some();
        if has_news || memory.due <= Instant::now() {
            due.push(DueAccount {
                id,
                account,
                memory,
            });
        }
    }
    due
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

/// Sweeps of the accounts that are due at the same time.
struct SweepRound<'a> {
    context: &'a Context,
    settings: &'a SweepSettings,
    /// The origin of the times in the accounts' sightings.
    begin: Instant,
    unknown: &'a BTreeSet<GrantName>,
}

impl SweepRound<'_> {
    /// Sweeps one account, and returns the pause until its next sweep. A panic because of one
    /// account's content must not keep the others from being swept.
    async fn sweep_isolated(&self, due: &mut DueAccount<'_>) -> Duration {
        let id = due.id;
        let swept = self.sweep(due);
        let swept = supervise::isolated("sweep account", &self.context.cloud.metrics, swept).await;
        swept.unwrap_or_else(|panicked| {
            tracing::error!(account = %id, "failed to sweep the account: {panicked}");
            AGAIN.min(self.settings.interval)
        })
    }

    async fn sweep(&self, due: &mut DueAccount<'_>) -> Duration {
        let Self {
            context,
            settings,
            begin,
            unknown,
        } = *self;
        let DueAccount {
            id,
            account,
            memory,
        } = due;
        if context.runtime.stop.clone().now_or_never().is_some() {
            return settings.soon();
        }
        let session = match context.cloud.aws.account(id, &account.spec, None).await {
            Ok(session) => session,
            Err(problem) => {
                // The account's condition reports it.
                tracing::debug!(account = %id, reason = %problem.reason, "skipped the sweep of the account: {}", problem.message);
                return settings.soon();
            }
        };
        memory.regions.extend(recorded_regions(account));
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
        let removed = remove_ripe(&place, &looked, &judged).await;
        let mut seen = looked.seen;
        seen.findings
            .retain(|finding| !removed.arns.contains(&finding.arn));
        let left = verdict(&seen, &memory.sightings, &circumstances);
        let result = status(id, settings.mode, &seen, &left, &removed.failed);
        report::swept(context, account, result, removed.arns.len()).await;
        let failed = !seen.problems.is_empty() || !removed.failed.is_empty();
        pause_after(&left, failed, settings.interval)
    }
}

/// Returns the regions of the last sweep, by the account's status.
fn recorded_regions(account: &AWSAccount) -> impl Iterator<Item = String> {
    account
        .status
        .iter()
        .flat_map(|status| &status.sweep)
        .flat_map(|sweep| sweep.regions.clone())
        .filter(|region| is_region(region))
}

/// Removes the findings that may be removed now.
async fn remove_ripe(
    place: &scan::ScanTarget<'_>,
    looked: &scan::Looked,
    judged: &SweepDecision,
) -> remove::Removed {
    // The findings may belong to another operator, which is alive.
    let is_another_operators = second_writer::paused(&place.context.cluster, place.id).is_some();
    let mut ripe = match judged {
        SweepDecision::Remove { now, .. } if !is_another_operators => now.clone(),
        SweepDecision::Remove { .. } | SweepDecision::Nothing | SweepDecision::Report(_) => {
            BTreeSet::new()
        }
    };
    // Access that no rule admits is revoked like that of any grant. A grant that this version
    // cannot read may have it by rules that it cannot read either.
    if place.unknown.is_empty() && !is_another_operators {
        ripe.extend(looked.refused.iter().cloned());
    }
    if ripe.is_empty() {
        return remove::Removed::default();
    }
    remove::remove(place, looked, &ripe).await
}

/// Returns the pause until an account's next sweep. `left` is the decision on what this one left.
fn pause_after(left: &SweepDecision, failed: bool, interval: Duration) -> Duration {
    let wait = match left {
        SweepDecision::Remove {
            later: Some(later), ..
        } => *later,
        SweepDecision::Report(Brake::UnknownGrants(_)) => AGAIN,
        _ if failed => AGAIN,
        SweepDecision::Remove { .. } | SweepDecision::Nothing | SweepDecision::Report(_) => {
            interval
        }
    };
    wait.min(interval)
}
