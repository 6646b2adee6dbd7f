//! Watches grants and accounts, and reconciles them: the shell around [`crate::grant`].
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
//! - `recent`: reads places again from which access was revoked lately.
//! - `second_writer`: notices another live operator with the same installation ID.
//! - [`plan`]: a dry run for grants in files.
//!
//! Shared parts:
//! - `world`: the context that all of it shares.
//! - `state`: caches, locks and queues in it.
//! - `leadership`: leader election, and permits for writes.
//! - `patch`: writes finalizers and statuses.
//! - `events`: publishes Events.
//! - `judging`: slots for the evaluation of access.
//! - `watch`, `stored`: watches, and objects that may not be readable.
//! - [`connection`], `proxies`: the connection to the API server.
//! - `supervise`: restarts background tasks that panic.
//!
//! The shell reads, calls and writes, and decides as little as it can.

mod accounts;
mod apply;
pub mod connection;
mod events;
mod instrument;
mod judging;
mod leadership;
mod patch;
pub mod plan;
mod proxies;
mod recent;
mod reconcile;
mod record;
mod report;
mod repository_policy;
mod requeue;
mod restored;
mod second_writer;
mod state;
mod stored;
mod supervise;
pub mod sweep;
mod vanished;
mod watch;
mod world;

use self::leadership::{Election, Leadership};
use self::state::watch_caches::{Cache, CacheSync};
use self::supervise::Supervisor;
use self::world::{Context, RECORDING, World};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::rate_limit::{self, Work};
use crate::aws::{Aws, environment};
use crate::clock::WallClock;
use crate::policy::Installation;
use crate::telemetry::Telemetry;
use crate::telemetry::health::{self, Readiness, Stage};
use futures::channel::mpsc;
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often every grant is compared with AWS.
    pub resync_interval: Duration,
    /// The installation's ID. `None`: derived from the cluster.
    pub installation: Option<Installation>,
    /// Where health checks are served.
    pub health_address: SocketAddr,
    /// The number of grants that are reconciled at a time in each account.
    pub concurrency: u16,
    /// The time limit for a call to AWS, and for a write in the cluster.
    pub call_timeout: Duration,
    /// How long a Lease is valid. `None`: no election, this is the only replica.
    pub lease_duration: Option<Duration>,
    /// How the sweep treats orphans. `None`: no sweep.
    pub sweep: Option<sweep::SweepSettings>,
}

/// Future that resolves when the operator receives a stop signal.
type Stop = futures::future::Shared<futures::future::BoxFuture<'static, ()>>;

/// Runs the operator until it receives a stop signal.
///
/// # Errors
/// When there is no access to a cluster, or the health address cannot be bound.
pub async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let (client, place) = connect()
        .await
        .map_err(|error| format!("no access to a cluster: {error}"))?;
    let stop = told_to_stop().boxed().shared();
    let telemetry = Telemetry::default();
    let (address, call_timeout) = (settings.health_address, settings.call_timeout);
    tokio::select! {
        ended = lead(settings, (client, place), telemetry.clone(), stop.clone()) => ended,
        served = health::serve(address, telemetry, call_timeout) => {
            let why = served.err().map(|error| error.to_string()).unwrap_or_default();
            Err(format!("health checks cannot be served on {address}: {why}").into())
        }
    }
}

/// Connects a client whose calls end. A watch may be silent for a while, but a longer silence means
/// that the connection died. Also returns the address of the API server, for messages.
async fn connect() -> Result<(Client, String), Box<dyn Error>> {
    let mut config = connection::config(None).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(watch::SILENT_AT_MOST);
    let place = connection::place(&config);
    Ok((Client::try_from(config)?, place))
}

/// Works while this replica leads, until a stop signal.
async fn lead(
    settings: Settings,
    (client, place): (Client, String),
    telemetry: Telemetry,
    stop: Stop,
) -> Result<(), Box<dyn Error>> {
    let installation = match &settings.installation {
        Some(installation) => installation.clone(),
        None => tokio::select! {
            found = installation_of_cluster(&client, &place, &telemetry.readiness) => found?,
            () = stop.clone() => return Ok(()),
        },
    };
    tracing::info!(%installation, version = env!("CARGO_PKG_VERSION"), "starting");
    let work = |leadership| {
        work(
            &settings,
            &client,
            &installation,
            leadership,
            &telemetry,
            &stop,
        )
    };
    let Some(lease_duration) = settings.lease_duration else {
        telemetry.metrics.leader.set(1);
        let leadership = Arc::new(Leadership::always(settings.call_timeout));
        leadership::until_over(
            &leadership,
            work(leadership.clone()),
            &stop,
            std::future::pending::<()>(),
        )
        .await;
        return Ok(());
    };
    // A replica that cannot renew the Lease gives up within the Lease's duration. One that does not
    // even try is stuck.
    let pulse = telemetry.liveness.pulse("the election", lease_duration * 3);
    let leases = Api::<Lease>::namespaced(client.clone(), client.default_namespace());
    let election = Election::new(leases, identity(), lease_duration, pulse);
    Ok(leadership::take_part(
        election,
        settings.call_timeout,
        &telemetry,
        stop.clone(),
        work,
    )
    .await?)
}

/// Returns this replica's identity: its Pod's name, and a suffix that changes when the container
/// restarts.
fn identity() -> String {
    let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "registry-grants".into());
    format!("{pod}-{:08x}", fastrand::u32(..))
}

/// Watches and reconciles during one term, until a stop signal arrives and running work has ended.
/// The future may be dropped while no write is in progress: then everything that it started ends.
async fn work(
    settings: &Settings,
    client: &Client,
    installation: &Installation,
    leadership: Arc<Leadership>,
    telemetry: &Telemetry,
    stop: &Stop,
) {
    let readiness = &telemetry.readiness;
    let events = events::Events::new(client.clone());
    let (grants, grants_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let filled = Arc::new(CacheSync::default());
    let (nudges, nudged) = mpsc::unbounded();
    let (count, counts) = mpsc::unbounded();
    let pending = state::pending::Pending::default();
    let context = Arc::new(Context {
        world: World {
            aws: Aws::new(
                environment::load(settings.call_timeout).await,
                installation,
                settings.call_timeout,
                telemetry.metrics.clone(),
                WallClock::system(),
            ),
            installation: installation.clone(),
            leadership,
            grants: grants.clone(),
            watch_caches: state::watch_caches::WatchCaches {
                accounts,
                namespaces,
            },
            claims_cache: state::claims_cache::ClaimsCache::default(),
            coalescer: state::coalesce::Coalescer::default(),
            role_locks: state::role_locks::RoleLocks::default(),
            policy_cache: state::policy_cache::PolicyCache::default(),
            read_backs: repository_policy::read_back::ReadBacks::default(),
            recent: recent::Recent::default(),
            restored: restored::Restored::writing_to(client.clone(), events.clone()),
            slots: state::slots::Slots::new(settings.concurrency),
            pending: pending.clone(),
            judging: judging::Judging::default(),
            recording: Semaphore::new(RECORDING),
            resync_interval: settings.resync_interval,
            unknown: state::unknown::UnknownGrants::default(),
            lost: state::lost::LostGrants::default(),
            second_writers: second_writer::SecondWriters::default(),
            contested: repository_policy::contested::ContestedPolicies::default(),
            metrics: telemetry.metrics.clone(),
            nudges,
            account_nudges: count.clone(),
            to_sweep: Mutex::default(),
        },
        client: client.clone(),
        filled: filled.clone(),
        backoff: requeue::Backoff::default(),
        asked: requeue::ReconcileLimiter::default(),
        events: events.clone(),
        stop: stop.clone(),
    });

    let metrics = &telemetry.metrics;
    let accounts = context.world.watch_caches.accounts.clone();
    metrics.watch(Arc::new(instrument::Watched {
        grants: grants.clone(),
        accounts,
        filled: filled.clone(),
    }));
    let notes = context.clone();
    let noted = move |event: &_| notes.world.unknown.note(event);
    let grant_changes =
        watch::readable_noting::<CrossAccountRegistryGrant>(client.clone(), events.clone(), noted);
    let grant_changes = watch::noted(readiness, "the watch of grants", grant_changes);
    let (gone, vanished) = mpsc::unbounded();
    let grant_changes = grant_changes.backoff(requeue::Reconnect::default());
    let grant_changes = vanished::noticed(context.clone(), gone, grant_changes);
    let counted = move |event: &watcher::Event<_>| {
        accounts::counted_by(event)
            .into_iter()
            .for_each(|account| drop(count.unbounded_send(account)));
    };
    let (queue, changed) = (metrics.clone(), pending.clone());
    let in_the_queue = move |grant: &CrossAccountRegistryGrant| {
        drop(instrument::due(
            &queue,
            &changed,
            vec![ObjectRef::from_obj(grant)],
        ));
    };
    let grant_changes = filled
        .watched(Cache::Grants, grant_changes.reflect(grants_writer))
        .inspect_ok(counted)
        .applied_objects()
        .predicate_filter(reconcile::calls_for_a_look, PredicateConfig::default())
        .inspect_ok(in_the_queue);
    // An account's disappearance matters as much as its change.
    let account_changes = watch::readable::<AWSAccount>(client.clone(), events);
    let account_changes = watch::noted(readiness, "the watch of accounts", account_changes);
    let account_changes = filled
        .watched(
            Cache::Accounts,
            account_changes
                .backoff(requeue::Reconnect::default())
                .reflect(accounts_writer),
        )
        .touched_objects()
        .predicate_filter(generation_and_presence, PredicateConfig::default());
    let namespace_changes = watch::namespaces(client.clone());
    let namespace_changes = watch::noted(readiness, "the watch of namespaces", namespace_changes);
    let namespace_changes = filled
        .watched(
            Cache::Namespaces,
            namespace_changes
                .backoff(requeue::Reconnect::default())
                .reflect(namespaces_writer),
        )
        .touched_objects()
        .predicate_filter(predicates::labels, PredicateConfig::default());
    let (by_account, by_namespace) = (grants.clone(), grants.clone());
    let (of_account, of_namespace) = (metrics.clone(), metrics.clone());
    let (in_account, in_namespace) = (pending.clone(), pending);
    let grant_controller = Controller::for_stream(grant_changes, grants)
        .watches_stream(account_changes, move |account: AWSAccount| {
            instrument::due(
                &of_account,
                &in_account,
                grants_of_account(&by_account, &account),
            )
        })
        .watches_stream(namespace_changes, move |namespace| {
            instrument::due(
                &of_namespace,
                &in_namespace,
                grants_in_namespace(&by_namespace, &namespace),
            )
        })
        .reconcile_on(nudged)
        // Unlimited: each reconcile waits for a work slot in the account that it calls. A limit
        // here would let one account's grants block those of the others.
        .with_config(controller::Config::default().concurrency(0))
        .trigger_backoff(requeue::NoPause)
        .graceful_shutdown_on(stop.clone())
        .run(instrument::reconcile, instrument::on_error, context.clone())
        .for_each(|_| async {});

    let grant_controller = async {
        grant_controller.await;
        if stop.clone().now_or_never().is_none() {
            telemetry.liveness.ended("the work on grants");
        }
    };
    let supervised = Supervisor {
        metrics,
        liveness: &telemetry.liveness,
        stop,
    };
    let vanished = tokio::sync::Mutex::new(vanished::PendingRevocations::of(vanished));
    let vanished = supervised.run("revoke vanished grants", || {
        vanished::run(&context, &vanished)
    });
    let look_after_the_start = supervised.run("look after revoked places", || {
        recent::look_after_the_start(&context)
    });
    let look_after = supervised.run("look after repositories", || {
        repository_policy::sync::look_after(context.clone())
    });
    let sweep = supervised.run("sweep", || sweep::run(context.clone(), settings.sweep));
    tokio::join!(
        announce_readiness(filled, readiness, stop),
        grant_controller,
        accounts::run(context.clone(), counts, stop.clone()),
        vanished,
        look_after_the_start,
        rate_limit::with(Work::background(), look_after),
        rate_limit::with(Work::background(), sweep),
    );
}

/// Waits for SIGTERM or SIGINT. After that, running work is finished and nothing new begins.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
}

/// Returns the installation ID of the cluster. Waits while the cluster cannot be reached: an
/// operator that exits and is restarted would not reach it any sooner. `place` is the address that
/// the client connects to.
async fn installation_of_cluster(
    client: &Client,
    place: &str,
    readiness: &Readiness,
) -> Result<Installation, Box<dyn Error>> {
    const CONNECTION: &str = "the namespace kube-system";
    for pause in requeue::Reconnect::default() {
        let error = match Api::<Namespace>::all(client.clone())
            .get("kube-system")
            .await
        {
            Ok(namespace) => {
                readiness.works(CONNECTION);
                let uid = namespace
                    .uid()
                    .ok_or("namespace kube-system has no UID; give --installation")?;
                return Ok(Installation::of_cluster(&uid));
            }
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                return Err(
                    format!("{place}: namespace kube-system cannot be read: {status}").into(),
                );
            }
            Err(error) => connection::causes(&error),
        };
        tracing::warn!("{place}: namespace kube-system cannot be read, trying again: {error}");
        readiness.fails(CONNECTION, &error);
        tokio::time::sleep(pause).await;
    }
    Err(format!("{place}: namespace kube-system cannot be read").into())
}

async fn announce_readiness(filled: Arc<CacheSync>, readiness: &Readiness, stop: &Stop) {
    for (cache, name) in [
        (Cache::Grants, "grants"),
        (Cache::Accounts, "accounts"),
        (Cache::Namespaces, "namespaces"),
    ] {
        readiness.set(Stage::Fills(name));
        let wanted = [cache];
        tokio::select! {
            () = filled.wait_for(&wanted) => {}
            // After a stop signal, the caches are not filled any more.
            () = stop.clone() => return,
        }
    }
    readiness.set(Stage::Leads);
    tracing::info!("ready");
}

fn generation_and_presence(account: &AWSAccount) -> Option<u64> {
    let meta = account.meta();
    // The last watch event of a deleted object repeats its generation. Its deletion time, or its
    // resource version, differs.
    let generation = u64::try_from(meta.generation?).ok()?;
    let flags = [
        meta.deletion_timestamp.is_some(),
        second_writer::is_sole_writer(account),
    ];
    Some(
        flags
            .into_iter()
            .fold(generation, |bits, flag| bits << 1 | u64::from(flag)),
    )
}

fn grants_of_account(
    grants: &Store<CrossAccountRegistryGrant>,
    account: &AWSAccount,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let id = account.name_any();
    let of_account = |grant: &CrossAccountRegistryGrant| {
        grant.spec.registry.account_id == id || grant.spec.consumer.account_id.as_ref() == Some(&id)
    };
    grants
        .state_filter(of_account)
        .iter()
        .map(|grant| ObjectRef::from_obj(&**grant))
        .collect()
}

fn grants_in_namespace(
    grants: &Store<CrossAccountRegistryGrant>,
    namespace: &PartialObjectMeta<Namespace>,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let name = namespace.name_any();
    let in_namespace =
        |grant: &CrossAccountRegistryGrant| grant.namespace().as_deref() == Some(&name);
    grants
        .state_filter(in_namespace)
        .iter()
        .map(|grant| ObjectRef::from_obj(&**grant))
        .collect()
}
