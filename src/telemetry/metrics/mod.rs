//! The metrics that `/metrics` serves, in the OpenMetrics text format.
//!
//! - `family`: a metric family whose obsolete series can be removed.
//! - [`labels`]: the label sets.
//! - `policy_size`: how full repository policies are, per account and region.
//! - `reference`: describes every metric, for docs/reference/metrics.md.
//!
//! A new metric needs a field and the line that creates it. docs/reference/metrics.md is generated
//! from these lines.

mod family;
pub mod labels;
mod policy_size;
mod reference;
#[cfg(test)]
mod tests;

pub use family::Table;
pub use labels::OfAccount;
pub use policy_size::PolicySizes;

use super::workqueue_metrics::{Key, Queue};
use labels::{OfBuild, OfCall, OfOperation, OfReady, OfResult, OfService, OfTask};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reference::{Described, Makes};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

/// The content type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge of fractions.
pub type Fraction = Gauge<f64, AtomicU64>;

/// The leader's watch caches, which are read when the metrics are served.
pub trait ClusterSource: Send + Sync {
    /// Returns all grants and accounts; `None` before the caches are filled.
    fn snapshot(&self) -> Option<Snapshot>;
    /// Returns whether the grant exists.
    fn has_grant(&self, key: &Key) -> bool;
}

/// The grants and accounts at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The number of grants in each state of the condition `Ready`.
    pub grants: BTreeMap<OfReady, i64>,
    /// The accounts, and whether the operator's credentials for each of them work.
    pub accounts: BTreeMap<String, bool>,
}

/// The operator's metrics. Clones share their series.
#[derive(Clone)]
pub struct Metrics {
    /// Whether this replica leads: 1, or 0.
    pub leader: Gauge,
    /// Reconciles, by result.
    pub reconciles: Table<OfResult, Counter>,
    /// The duration of reconciles, by result.
    pub reconcile_duration: Table<OfResult, Histogram>,
    /// The grants that are due and the pending waits for a work slot.
    pub queue: Queue,
    /// How long a due grant had waited when its reconcile began.
    pub queue_wait: Histogram,
    /// Calls to AWS.
    pub aws_calls: Table<OfCall, Counter>,
    /// The duration of the calls that succeeded.
    pub aws_call_duration: Table<OfOperation, Histogram>,
    /// How long the rate limit delayed calls.
    pub aws_wait: Table<OfService, Histogram>,
    /// The present rate limit, in calls per second.
    pub aws_rate: Table<OfService, Fraction>,
    /// Reverted changes that were made outside the operator.
    pub drift_corrected: Table<OfAccount, Counter>,
    /// The use of ECR's size limit by repository policies.
    pub policies: PolicySizes,
    /// The time from reading a repository's policy until the answer to its write.
    pub write_window: Histogram,
    /// Revocations that were written only by leaving out members of the repository's policy for a
    /// moment.
    pub policy_set_aside: Table<OfAccount, Counter>,
    /// Unique IDs of deleted principals that were removed from foreign statements.
    pub policy_ids_removed: Table<OfAccount, Counter>,
    /// The number of orphans that the last sweep found in the account.
    pub sweep_found: Table<OfAccount, Gauge>,
    /// The number of orphans that sweeps have removed since the start.
    pub sweep_removed: Table<OfAccount, Counter>,
    /// Whether another operator with the same installation ID writes in the account.
    pub second_writer: Table<OfAccount, Gauge>,
    /// Unexpected failures of the operator's own tasks.
    pub task_failures: Table<OfTask, Counter>,
    grants: Table<OfReady, Gauge>,
    account_ready: Table<OfAccount, Gauge>,
    queue_depth: Gauge,
    queue_age: Fraction,
    /// The caches of the current term; `None` while this replica stands by.
    cluster: Arc<Mutex<Option<Arc<dyn ClusterSource>>>>,
    registry: Arc<Registry>,
    described: Arc<Vec<Described>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Makes::default();
        let build: Table<OfBuild, Gauge> = all.make(
            "build_info",
            &["version"],
            "1, for the version of the operator that runs",
        );
        build
            .get_or_create(&OfBuild {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        let policies = PolicySizes::default();
        all.add(
            "repository_policies",
            &["account", "region"],
            "Repositories whose policy was looked at within four hours",
            policy_size::Of::LookedAt(policies.clone()),
        );
        all.add(
            "repository_policies_nearly_full",
            &["account", "region"],
            "Those whose policy takes more than 80 % of ECR's 10,240 characters",
            policy_size::Of::NearlyFull(policies.clone()),
        );
        all.add(
            "repository_policy_full_ratio_max",
            &["account", "region"],
            "The part of ECR's 10,240 characters that the fullest of them takes",
            policy_size::Of::Fullest(policies.clone()),
        );
        Self {
            leader: all.make("leader", &[], "1 on the replica that leads, 0 on those that stand by"),
            reconciles: all.make(
                "reconciles",
                &["result"],
                "Looks at grants: `ready`, `not_ready`, `suspended`, `gone`, or `error` where the outcome could not be told",
            ),
            reconcile_duration: all.add(
                "reconcile_duration_seconds",
                &["result"],
                "How long they took",
                Table::of(|| Histogram::new(DURATIONS)),
            ),
            queue: Queue::default(),
            queue_depth: all.make("queue_depth", &[], "Grants that are due to be looked at, and looks at grants and repositories that wait for one of an account's `controller.concurrency` work slots"),
            queue_age: all.make("queue_age_seconds", &[], "For how long the first of them has waited"),
            queue_wait: all.add(
                "queue_wait_seconds",
                &[],
                "How long a grant that was due had waited when it was looked at",
                Histogram::new(DURATIONS),
            ),
            grants: all.make(
                "grants",
                &["ready", "reason"],
                "Grants by what their condition `Ready` says; those without one yet are `Unknown`, `Pending`",
            ),
            account_ready: all.make(
                "account_ready",
                &["account"],
                "1 where the operator's credentials for the account were verified, 0 where they fail",
            ),
            aws_calls: all.make(
                "aws_calls",
                &["account", "service", "operation", "result"],
                "Calls to AWS: `ok`, or how they failed. `not_found` is most often the answer that was asked for; `held_back` was never sent",
            ),
            aws_call_duration: all.add(
                "aws_call_duration_seconds",
                &["service", "operation"],
                "How long those took that AWS answered with success",
                Table::of(|| Histogram::new(DURATIONS)),
            ),
            aws_wait: all.add(
                "aws_rate_limit_wait_seconds",
                &["account", "service"],
                "How long calls were held back by the operator's own limit; those that went at once count as 0",
                Table::of(|| Histogram::new(DURATIONS)),
            ),
            aws_rate: all.make(
                "aws_rate_limit_calls_per_second",
                &["account", "service"],
                "That limit: halved when AWS throttles, and back to where it was within minutes",
            ),
            drift_corrected: all.make(
                "drift_corrected",
                &["account"],
                "Changes that somebody else made to what a grant keeps, and that were put back; by the grant's registry account",
            ),
            policies,
            write_window: all.add(
                "repository_policy_write_window_seconds",
                &[],
                "From the reading of a repository's policy until its writing was answered: what others write in between is lost",
                Histogram::new(WINDOWS),
            ),
            policy_set_aside: all.make(
                "repository_policy_set_aside",
                &["account"],
                "Revocations that could only be written without accounts or roles that keep their access; those were added back at once",
            ),
            policy_ids_removed: all.make(
                "repository_policy_ids_removed",
                &["account"],
                "Unique IDs of deleted principals that were removed from statements of others, because they kept a revocation from being written",
            ),
            sweep_found: all.make("sweep_found", &["account"], "Things in AWS that no grant claims, at the last sweep"),
            sweep_removed: all.make(
                "sweep_removed",
                &["account"],
                "Things in AWS that sweeps have removed since the start",
            ),
            second_writer: all.make(
                "second_writer",
                &["account"],
                "Whether another operator with this installation's ID writes in the account (1), so that nothing new is granted there",
            ),
            task_failures: all.make(
                "task_failures",
                &["task"],
                "Unexpected failures (bugs) in reconciliations and background tasks; the task was started again, and the log has the reason",
            ),
            cluster: Arc::default(),
            registry: Arc::new(all.registry),
            described: Arc::new(all.described),
        }
    }
}

/// Buckets from a call that is answered at once to a grant with hundreds of repositories.
const DURATIONS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
/// Finer buckets for short times: the question about a write window is how short it is.
const WINDOWS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 10.0];

impl Metrics {
    /// Returns the current values of all metrics as text.
    pub fn text(&self) -> String {
        self.take_what_the_cluster_holds();
        self.forget_grants_that_are_gone();
        let backlog = self.queue.backlog();
        self.queue_depth
            .set(i64::try_from(backlog.depth).unwrap_or(i64::MAX));
        self.queue_age.set(backlog.oldest.as_secs_f64());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Sets the caches from which grants and accounts are read from now on, in a new term.
    pub fn watch(&self, cluster: Arc<dyn ClusterSource>) {
        *self.cluster() = Some(cluster);
    }

    /// Ends the term: empties the queue, and removes the series that came from the caches. The
    /// counters stay.
    pub fn stand_by(&self) {
        let mut cluster = self.cluster();
        *cluster = None;
        self.queue.retain(|_| false);
        self.grants.retain(|_| false);
        self.account_ready.retain(|_| false);
    }

    fn cluster(&self) -> MutexGuard<'_, Option<Arc<dyn ClusterSource>>> {
        self.cluster.lock().expect("no panic while held")
    }

    /// Removes deleted grants from the queue: they will not be reconciled, so they are not due.
    pub(super) fn forget_grants_that_are_gone(&self) {
        if let Some(cluster) = &*self.cluster() {
            self.queue.retain(|key| cluster.has_grant(key));
        }
    }

    fn take_what_the_cluster_holds(&self) {
        // The lock is held until all series are set, so that a term that ends in between leaves
        // none of them.
        let cluster = self.cluster();
        if let Some(snapshot) = cluster.as_ref().and_then(|cluster| cluster.snapshot()) {
            self.take(snapshot);
        }
    }

    /// Sets the series of the snapshot's grants and accounts, and removes the series of accounts
    /// that do not exist any more.
    fn take(&self, Snapshot { grants, accounts }: Snapshot) {
        self.grants.retain(|of| grants.contains_key(of));
        for (of, count) in grants {
            self.grants.get_or_create(&of).set(count);
        }
        let known = |account: &str| accounts.contains_key(account);
        self.account_ready.retain(|of| known(&of.account));
        self.aws_calls.retain(|of| known(&of.account));
        self.aws_wait.retain(|of| known(&of.account));
        self.aws_rate.retain(|of| known(&of.account));
        self.drift_corrected.retain(|of| known(&of.account));
        self.policy_set_aside.retain(|of| known(&of.account));
        self.policy_ids_removed.retain(|of| known(&of.account));
        self.sweep_found.retain(|of| known(&of.account));
        self.sweep_removed.retain(|of| known(&of.account));
        self.second_writer.retain(|of| known(&of.account));
        self.policies.retain(known);
        for (account, ready) in &accounts {
            let account = account.as_str().into();
            self.account_ready
                .get_or_create(&account)
                .set(i64::from(*ready));
            // The counter exists before its first event, so that the first reverted change is an
            // increase.
            self.drift_corrected.get_or_create(&account);
        }
    }
}
