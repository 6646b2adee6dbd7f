//! The metrics that `/metrics` serves, in the OpenMetrics text format.
//!
//! - `family`: a metric family whose obsolete series can be removed.
//! - [`labels`]: the label sets.
//! - `policy_size`: how full repository policies are, per account and region.
//! - `reference`: describes every metric, for docs/reference/metrics.md.
//!
//! A new metric needs an entry in `metrics!`. docs/reference/metrics.md is generated from these
//! entries.

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
use std::collections::{BTreeMap, BTreeSet};
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

/// Buckets from a call that is answered at once to a grant with hundreds of repositories.
const DURATIONS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
/// Finer buckets for short times: the question about a write window is how short it is.
const WINDOWS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 10.0];

/// Declares the metrics, in the order of docs/reference/metrics.md. The comment on a field is also
/// the metric's help text, without the period at the end.
macro_rules! metrics {
    ($(
        $(#[doc = $help:literal])+
        $visibility:vis $field:ident: $metric:ty = $new:expr, $name:literal, $labels:expr;
    )+) => {
        /// The operator's metrics. Clones share their series.
        #[derive(Clone)]
        pub struct Metrics {
            $($(#[doc = $help])+ $visibility $field: $metric,)+
            /// The grants that are due and the pending waits for a work slot.
            pub queue: Queue,
            /// The use of ECR's size limit by repository policies.
            pub policies: PolicySizes,
            /// The caches of the current term; `None` while this replica stands by.
            cluster: Arc<Mutex<Option<Arc<dyn ClusterSource>>>>,
            registry: Arc<Registry>,
            described: Arc<Vec<Described>>,
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut all = Makes::default();
                add_build_info(&mut all);
                let policies = PolicySizes::in_registry(&mut all);
                Self {
                    $($field: all.add($name, &$labels, help(concat!($($help),+)), $new),)+
                    queue: Queue::default(),
                    policies,
                    cluster: Arc::default(),
                    registry: Arc::new(all.registry),
                    described: Arc::new(all.described),
                }
            }
        }
    };
}

metrics! {
    /// 1 on the replica that leads, 0 on the others.
    pub leader: Gauge = Gauge::default(), "leader", [];

    /// Reconciles of grants by result: `ready`, `not_ready`, `suspended`, `gone`, or `error` if the
    /// status could not be written.
    pub reconciles: Table<OfResult, Counter> = Table::default(), "reconciles", ["result"];

    /// Duration of reconciles by result.
    pub reconcile_duration: Table<OfResult, Histogram> =
        Table::of(durations), "reconcile_duration_seconds", ["result"];

    /// Grants that are due to be reconciled, and reconciles and policy syncs that wait for one of
    /// an account's `controller.concurrency` work slots.
    queue_depth: Gauge = Gauge::default(), "queue_depth", [];

    /// How long the oldest of them has waited.
    queue_age: Fraction = Fraction::default(), "queue_age_seconds", [];

    /// How long a due grant had waited when its reconcile began.
    pub queue_wait: Histogram = durations(), "queue_wait_seconds", [];

    /// Grants by their condition `Ready`. A grant without the condition counts as `Unknown`,
    /// `Pending`.
    grants: Table<OfReady, Gauge> = Table::default(), "grants", ["ready", "reason"];

    /// 1 if the operator's credentials for the account were verified, 0 if they fail.
    account_ready: Table<OfAccount, Gauge> = Table::default(), "account_ready", ["account"];

    /// Calls to AWS by result: `ok` or the kind of failure. `not_found` is most often the expected
    /// answer. The rate limit kept `held_back` calls from being sent.
    pub aws_calls: Table<OfCall, Counter> =
        Table::default(), "aws_calls", ["account", "service", "operation", "result"];

    /// Duration of calls to AWS that succeeded.
    pub aws_call_duration: Table<OfOperation, Histogram> =
        Table::of(durations), "aws_call_duration_seconds", ["service", "operation"];

    /// How long the operator's own rate limit delayed calls to AWS. Calls that it did not delay
    /// count as 0.
    pub aws_wait: Table<OfService, Histogram> =
        Table::of(durations), "aws_rate_limit_wait_seconds", ["account", "service"];

    /// The operator's own rate limit for calls to AWS. It halves when AWS throttles a call, and
    /// recovers within minutes.
    pub aws_rate: Table<OfService, Fraction> =
        Table::default(), "aws_rate_limit_calls_per_second", ["account", "service"];

    /// Reverted changes that were made outside the operator, by the grant's registry account.
    pub drift_corrected: Table<OfAccount, Counter> =
        Table::default(), "drift_corrected", ["account"];

    /// Time from reading a repository's policy to the answer to its write. Changes that others make
    /// in between are lost.
    pub write_window: Histogram =
        Histogram::new(WINDOWS), "repository_policy_write_window_seconds", [];

    /// Revocations that could only be written by leaving out accounts or roles that keep their
    /// access. Those were added back at once.
    pub policy_set_aside: Table<OfAccount, Counter> =
        Table::default(), "repository_policy_set_aside", ["account"];

    /// Unique IDs of deleted principals that were removed from foreign statements because they
    /// blocked a revocation.
    pub policy_ids_removed: Table<OfAccount, Counter> =
        Table::default(), "repository_policy_ids_removed", ["account"];

    /// Orphans that the last sweep found: AWS resources and statements that no grant claims.
    pub sweep_found: Table<OfAccount, Gauge> = Table::default(), "sweep_found", ["account"];

    /// Orphans that sweeps have removed since the start.
    pub sweep_removed: Table<OfAccount, Counter> = Table::default(), "sweep_removed", ["account"];

    /// 1 if another operator with the same installation ID writes in the account, so that nothing
    /// new is granted there; otherwise 0.
    pub second_writer: Table<OfAccount, Gauge> = Table::default(), "second_writer", ["account"];

    /// Unexpected failures (bugs) in reconciles and background tasks. The task was started again,
    /// and the log has the reason.
    pub task_failures: Table<OfTask, Counter> = Table::default(), "task_failures", ["task"];
}

fn help(comment: &'static str) -> &'static str {
    comment.trim_start().trim_end_matches('.')
}

fn add_build_info(all: &mut Makes) {
    let build: Table<OfBuild, Gauge> = all.add(
        "build_info",
        &["version"],
        "Always 1; the label is the version of the operator",
        Table::default(),
    );
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create(&OfBuild { version }).set(1);
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Returns the table of all metrics, in Markdown.
    pub fn reference(&self) -> String {
        reference::table(&self.described)
    }

    /// Returns the names of all possible series, as PromQL knows them.
    pub fn names(&self) -> BTreeSet<String> {
        reference::names(&self.described)
    }

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
        self.retain_accounts(&accounts);
        for (account, ready) in &accounts {
            let of = account.as_str().into();
            self.account_ready.get_or_create(&of).set(i64::from(*ready));
            // The counter exists before its first event, so that the first reverted change is an
            // increase.
            self.drift_corrected.get_or_create(&of);
        }
    }

    fn retain_accounts(&self, known: &BTreeMap<String, bool>) {
        self.account_ready
            .retain(|of| known.contains_key(&of.account));
        self.aws_calls.retain(|of| known.contains_key(&of.account));
        self.aws_wait.retain(|of| known.contains_key(&of.account));
        self.aws_rate.retain(|of| known.contains_key(&of.account));
        self.drift_corrected
            .retain(|of| known.contains_key(&of.account));
        self.policy_set_aside
            .retain(|of| known.contains_key(&of.account));
        self.policy_ids_removed
            .retain(|of| known.contains_key(&of.account));
        self.sweep_found
            .retain(|of| known.contains_key(&of.account));
        self.sweep_removed
            .retain(|of| known.contains_key(&of.account));
        self.second_writer
            .retain(|of| known.contains_key(&of.account));
        self.policies.retain(|account| known.contains_key(account));
    }
}
