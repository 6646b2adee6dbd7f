//! Watches grants and accounts, and reconciles them: the shell around [`crate::grant`].
//!
//! Start:
//! - `run`: the start, leader election, and the end.
//! - `triggers`: what triggers a reconcile.
//!
//! A grant's reconcile, in its order:
//! - `instrument`: waits for the caches and a work slot; metrics and span around the rest.
//! - `reconcile`: decides what to do with the grant, and calls the following.
//! - `record`: writes the finalizer and the claims before anything in AWS.
//! - `apply`: reads both accounts and carries out the steps.
//! - `repository_policy`: syncs the repository policies, which many grants share.
//! - `report`: status, Events and drift metrics.
//! - `requeue`: when the next reconcile is due.
//!
//! Background work:
//! - `accounts`: the status of each `AWSAccount`.
//! - [`sweep`]: finds orphans, and removes them where that is safe.
//! - `vanished`: revokes grants that disappeared without their finalizer.
//! - `restored`: finds the claims of frozen grants after a restore without status.
//! - `recently_revoked`: reads places again from which access was revoked lately.
//! - `second_writer`: notices another live operator with the same installation ID.
//! - [`plan`]: a dry run for grants in files.
//!
//! Shared parts:
//! - `context`: what all of it shares, in three parts: `Cluster`, `Cloud` and `Runtime`.
//! - `state`: memory, caches, locks and queues in it.
//! - `error`: why a reconcile ends without reporting its outcome.
//! - `leadership`: leader election, and permits for writes.
//! - `patch`: writes finalizers and statuses.
//! - `events`: publishes Events.
//! - `judging`: slots for the evaluation of access.
//! - [`compute_pool`]: where such an evaluation runs.
//! - [`watch`], `stored`: watches, and objects that may not be readable.
//! - `supervise`: restarts background tasks that panic.
//!
//! The shell reads, calls and writes, and decides as little as it can.

mod accounts;
mod apply;
pub mod compute_pool;
mod context;
mod error;
mod events;
mod instrument;
mod judging;
mod leadership;
mod patch;
pub mod plan;
mod recently_revoked;
mod reconcile;
mod record;
mod report;
mod repository_policy;
mod requeue;
mod restored;
mod run;
mod second_writer;
mod state;
mod stored;
mod supervise;
pub mod sweep;
mod triggers;
mod vanished;
pub mod watch;

pub use self::run::run;

use self::compute_pool::ComputePool;
use self::context::Context;
use self::supervise::Stop;
use crate::clock::{Random, WallClock};
use crate::policy::Installation;
use crate::telemetry::Telemetry;
use aws_config::SdkConfig;
use kube::Client;
use std::time::Duration;
use tokio::net::TcpListener;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often every grant is compared with AWS.
    pub resync_interval: Duration,
    /// The installation's ID. `None`: derived from the cluster.
    pub installation: Option<Installation>,
    /// The number of grants that are reconciled at a time in each account.
    pub concurrency: u16,
    /// The time limit for a call to AWS, and for a write in the cluster.
    pub call_timeout: Duration,
    /// How long a Lease is valid. `None`: no election, this is the only replica.
    pub lease_duration: Option<Duration>,
    /// The name of this replica's Pod, if it runs in one.
    pub pod_name: Option<String>,
    /// How the sweep treats orphans. `None`: no sweep.
    pub sweep: Option<sweep::SweepSettings>,
}

/// Everything outside of the operator that it depends on. The CLI passes the real things in, and a
/// simulation its own.
pub struct Edges {
    /// The client for the API server. Its default namespace has the Lease. A read that gets no
    /// answer must end after [`watch::SILENT_AT_MOST`].
    pub client: Client,
    /// The address of the API server, for messages.
    pub api_server: String,
    /// The SDK's configuration with the operator's own credentials. It must not retry calls, and
    /// must limit their time to [`Settings::call_timeout`].
    pub aws: SdkConfig,
    /// Where health checks and metrics are served. `None`: nowhere.
    pub listener: Option<TcpListener>,
    /// Resolves when the operator should finish its writes and end.
    pub stop: Stop,
    /// The identity of this replica in the Lease. No two replicas and no two starts have the same.
    pub identity: String,
    /// Where the operator reports its health and metrics.
    pub telemetry: Telemetry,
    /// The time of day.
    pub clock: WallClock,
    /// The source of jitter.
    pub random: Random,
    /// Where long computations run.
    pub pool: ComputePool,
}
