//! Watches grants and accounts, and reconciles. This is the shell around [`crate::grant`]: it reads, calls and writes, and decides
//! as little as it can.

mod accounts;
pub mod connection;
mod contest;
mod directory;
mod enforce;
mod events;
mod facts;
pub mod forecast;
mod foresee;
mod leadership;
mod ledger;
mod observed;
mod proxies;
mod publish;
mod reconcile;
mod repositories;
mod requeue;
mod sharing;
pub mod sweep;
mod wanted;
mod watch;
mod writers;

use self::directory::{Cache, Filled};
use self::leadership::{Election, Leadership};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::Aws;
use crate::aws::pace::{self, Urgency};
use crate::grant::GrantName;
use crate::policy::Installation;
use crate::telemetry::Telemetry;
use crate::telemetry::health::{self, Readiness, Stage};
use crate::telemetry::metrics::Metrics;
use futures::channel::mpsc;
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often every grant is compared with AWS.
    pub resync_interval: Duration,
    /// The installation's ID; unset: of the cluster.
    pub installation: Option<Installation>,
    /// Where health checks are served.
    pub health_address: SocketAddr,
    /// How many grants are worked on at a time.
    pub concurrency: u16,
    /// The bound on a call to AWS.
    pub call_timeout: Duration,
    /// How long a Lease holds; `None`: there is no election, this is the only replica.
    pub lease_duration: Option<Duration>,
    /// What is looked for that no grant claims; `None`: nothing.
    pub sweep: Option<sweep::Settings>,
}

/// For each grant that is worked on, so many are begun: most of a crowd wait for one repository's policy.
const WAITING: u16 = 32;

/// Resolves when the operator is told to stop.
type Stop = futures::future::Shared<futures::future::BoxFuture<'static, ()>>;

/// What is known of grants and accounts, and the way into AWS: all that it takes to say what is to be done there, and to do it.
struct World {
    aws: Aws,
    installation: Installation,
    leadership: Arc<Leadership>,
    grants: Store<CrossAccountRegistryGrant>,
    directory: directory::Caches,
    ledger: ledger::Ledger,
    writers: writers::Writers,
    roles: sharing::Roles,
    facts: facts::Facts,
    turns: Semaphore,
    resync_interval: Duration,
    /// Whether there may be grants of this installation that are not among these: then what they have is left as it is.
    others_unknown: bool,
    metrics: Metrics,
    nudges: mpsc::UnboundedSender<ObjectRef<CrossAccountRegistryGrant>>,
}

/// What every reconciliation needs.
struct Context {
    world: World,
    client: Client,
    filled: Arc<Filled>,
    backoff: requeue::Backoff,
    events: events::Events,
    stop: Stop,
}

impl World {
    /// Has a grant looked at soon.
    fn nudge(&self, grant: &GrantName) {
        let grants = observed::due(&self.metrics, vec![ObjectRef::new(&grant.name).within(&grant.namespace)]);
        // Nobody listens any more only when the work has ended.
        grants.into_iter().for_each(|grant| drop(self.nudges.unbounded_send(grant)));
    }

    /// Waits for one of the turns, of which there are as many as grants are worked on at a time. Who waits for somebody else's work holds none.
    async fn turn(&self) -> SemaphorePermit<'_> {
        let _waits = self.metrics.queue.waits();
        self.turns.acquire().await.expect("the turns are never closed")
    }
}

/// Runs until it is told to stop, or has lost its Lease.
///
/// # Errors
/// When the cluster cannot be reached at the start, the health address cannot be bound, or the Lease was lost.
pub async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let (client, place) = connect().await.map_err(|error| format!("no access to a cluster: {error}"))?;
    let installation = match &settings.installation {
        Some(installation) => installation.clone(),
        None => installation_of_cluster(&client).await.map_err(|error| format!("{place}: {error}"))?,
    };
    tracing::info!(%installation, version = env!("CARGO_PKG_VERSION"), "starting");
    let stop = told_to_stop().boxed().shared();
    let telemetry = Telemetry::default();
    let (address, call_timeout) = (settings.health_address, settings.call_timeout);
    tokio::select! {
        ended = lead(settings, client, installation, telemetry.clone(), stop) => ended,
        served = health::serve(address, telemetry, call_timeout) => {
            let why = served.err().map(|error| error.to_string()).unwrap_or_default();
            Err(format!("health checks cannot be served on {address}: {why}").into())
        }
    }
}

/// A client whose calls end: a watch is silent for minutes, but longer silence is a connection that died.
/// With where it connects to, for messages.
async fn connect() -> Result<(Client, String), Box<dyn Error>> {
    let mut config = connection::config(None).await?;
    config.read_timeout = Some(Duration::from_secs(300));
    let place = connection::place(&config);
    Ok((Client::try_from(config)?, place))
}

/// Stands by until this replica leads, then works until it is told to stop.
async fn lead(
    settings: Settings,
    client: Client,
    installation: Installation,
    telemetry: Telemetry,
    stop: Stop,
) -> Result<(), Box<dyn Error>> {
    let Some(lease_duration) = settings.lease_duration else {
        let leadership = Arc::new(Leadership::always(settings.call_timeout));
        telemetry.metrics.leader.set(1);
        work(&settings, client, installation, leadership, telemetry, stop).await;
        return Ok(());
    };
    let leadership = Arc::new(Leadership::none(settings.call_timeout));
    // One that cannot renew it gives up within its duration; one that does not even try is stuck.
    let pulse = telemetry.liveness.pulse("the election", lease_duration * 3);
    let mut election = Election::new(client.clone(), client.default_namespace(), identity(), lease_duration, pulse);
    telemetry.readiness.set(Stage::StandsBy);
    tokio::select! {
        () = election.win(&leadership) => {}
        () = stop.clone() => {
            // One that is told to end in the very moment in which it takes the Lease.
            election.release().await;
            return Ok(());
        }
    }
    telemetry.readiness.set(Stage::Fills("grants"));
    telemetry.metrics.leader.set(1);
    let (worked, end) = tokio::sync::oneshot::channel::<()>();
    let held = leadership.clone();
    // A task of its own: whatever the work is busy with, the Lease is renewed.
    let holding = tokio::spawn(async move {
        tokio::select! {
            lost = election.hold(&held) => Err(lost),
            _ = end => {
                election.release().await;
                Ok(())
            }
        }
    });
    let work = async {
        work(&settings, client, installation, leadership, telemetry, stop).await;
        drop(worked);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = work => Ok(()),
        ended = holding => ended?.map_err(Into::into),
    }
}

/// Who this replica is: its Pod's name, and something that a restarted container has anew.
fn identity() -> String {
    let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "registry-grants".into());
    format!("{pod}-{:08x}", fastrand::u32(..))
}

/// Watches and reconciles, until it is told to stop and what was begun has ended.
async fn work(
    settings: &Settings,
    client: Client,
    installation: Installation,
    leadership: Arc<Leadership>,
    telemetry: Telemetry,
    stop: Stop,
) {
    let events = events::Events::new(client.clone());
    let (grants, grants_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let filled = Arc::new(Filled::default());
    let (nudges, nudged) = mpsc::unbounded();
    let context = Arc::new(Context {
        world: World {
            aws: Aws::from_environment(&installation, settings.call_timeout, telemetry.metrics.clone()).await,
            installation,
            leadership,
            grants: grants.clone(),
            directory: directory::Caches { accounts, namespaces },
            ledger: ledger::Ledger::default(),
            writers: writers::Writers::default(),
            roles: sharing::Roles::default(),
            facts: facts::Facts::default(),
            turns: Semaphore::new(settings.concurrency.into()),
            resync_interval: settings.resync_interval,
            others_unknown: false,
            metrics: telemetry.metrics.clone(),
            nudges,
        },
        client: client.clone(),
        filled: filled.clone(),
        backoff: requeue::Backoff::default(),
        events: events.clone(),
        stop: stop.clone(),
    });

    let metrics = &telemetry.metrics;
    let accounts = context.world.directory.accounts.clone();
    metrics.watch(Arc::new(observed::Watched { grants: grants.clone(), accounts, filled: filled.clone() }));
    let grant_changes = watch::readable::<CrossAccountRegistryGrant>(client.clone(), events.clone());
    let (count, counts) = mpsc::unbounded();
    let counted = move |event: &watcher::Event<_>| {
        accounts::counted_by(event).into_iter().for_each(|account| drop(count.unbounded_send(account)));
    };
    let queue = metrics.clone();
    let in_the_queue = move |grant: &CrossAccountRegistryGrant| {
        drop(observed::due(&queue, vec![ObjectRef::from_obj(grant)]));
    };
    let grant_changes = filled
        .watched(Cache::Grants, grant_changes.default_backoff().reflect(grants_writer))
        .inspect_ok(counted)
        .applied_objects()
        .predicate_filter(reconcile::calls_for_a_look, PredicateConfig::default())
        .inspect_ok(in_the_queue);
    // An account's disappearance matters as much as its change.
    let account_changes = watch::readable::<AWSAccount>(client.clone(), events);
    let account_changes = filled
        .watched(Cache::Accounts, account_changes.default_backoff().reflect(accounts_writer))
        .touched_objects()
        .predicate_filter(generation_and_presence, PredicateConfig::default());
    let namespace_changes = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watch::whole_list());
    let namespace_changes = filled
        .watched(Cache::Namespaces, namespace_changes.default_backoff().reflect(namespaces_writer))
        .touched_objects()
        .predicate_filter(predicates::labels, PredicateConfig::default());
    let (by_account, by_namespace) = (grants.clone(), grants.clone());
    let (of_account, of_namespace) = (metrics.clone(), metrics.clone());
    let grant_controller = Controller::for_stream(grant_changes, grants)
        .watches_stream(account_changes, move |account: AWSAccount| {
            observed::due(&of_account, grants_of_account(&by_account, &account))
        })
        .watches_stream(namespace_changes, move |namespace| {
            observed::due(&of_namespace, grants_in_namespace(&by_namespace, &namespace))
        })
        .reconcile_on(nudged)
        .with_config(controller::Config::default().concurrency(settings.concurrency.saturating_mul(WAITING)))
        .graceful_shutdown_on(stop.clone())
        .run(observed::reconcile, observed::on_error, context.clone())
        .for_each(|_| async {});

    tokio::spawn(announce_readiness(filled, telemetry.readiness));
    let (stopping, liveness) = (stop.clone(), telemetry.liveness);
    let grant_controller = async {
        grant_controller.await;
        if stopping.now_or_never().is_none() {
            liveness.ended("the work on grants");
        }
    };
    tokio::join!(
        grant_controller,
        accounts::run(context.clone(), counts, stop),
        pace::with(Urgency::Resync, repositories::look_after(context.clone())),
        pace::with(Urgency::Resync, sweep::run(context.clone(), settings.sweep)),
    );
}

/// SIGTERM or SIGINT: what is being worked on is finished, and nothing new begun.
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

async fn installation_of_cluster(client: &Client) -> Result<Installation, Box<dyn Error>> {
    let namespace = Api::<Namespace>::all(client.clone()).get("kube-system").await;
    let namespace =
        namespace.map_err(|error| format!("namespace kube-system cannot be read: {}", connection::causes(&error)))?;
    let uid = namespace.uid().ok_or("namespace kube-system has no UID; give --installation")?;
    Ok(Installation::of_cluster(&uid))
}

async fn announce_readiness(filled: Arc<Filled>, readiness: Readiness) {
    for (cache, name) in [(Cache::Grants, "grants"), (Cache::Accounts, "accounts"), (Cache::Namespaces, "namespaces")] {
        readiness.set(Stage::Fills(name));
        filled.wait_for(&[cache]).await;
    }
    readiness.set(Stage::Leads);
    tracing::info!("ready");
}

fn generation_and_presence(account: &AWSAccount) -> Option<u64> {
    let meta = account.meta();
    // The watch's last word on a deleted object repeats its generation; its deletion time, or its resource version, does not.
    let generation = u64::try_from(meta.generation?).ok()?;
    Some(generation << 1 | u64::from(meta.deletion_timestamp.is_some()))
}

fn grants_of_account(
    grants: &Store<CrossAccountRegistryGrant>,
    account: &AWSAccount,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let id = account.name_any();
    let of_account = |grant: &CrossAccountRegistryGrant| {
        grant.spec.registry.account_id == id || grant.spec.consumer.account_id.as_ref() == Some(&id)
    };
    grants.state_filter(of_account).iter().map(|grant| ObjectRef::from_obj(&**grant)).collect()
}

fn grants_in_namespace(
    grants: &Store<CrossAccountRegistryGrant>,
    namespace: &PartialObjectMeta<Namespace>,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let name = namespace.name_any();
    let in_namespace = |grant: &CrossAccountRegistryGrant| grant.namespace().as_deref() == Some(&name);
    grants.state_filter(in_namespace).iter().map(|grant| ObjectRef::from_obj(&**grant)).collect()
}
