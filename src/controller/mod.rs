//! Watches grants and accounts, and reconciles. This is the shell around [`crate::grant`]: it reads, calls and writes, and decides
//! as little as it can.

mod accounts;
mod directory;
mod enforce;
mod events;
mod ledger;
mod publish;
mod reconcile;
mod repositories;
mod requeue;
mod watch;

use self::directory::{Cache, Filled};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::Aws;
use crate::policy::Installation;
use crate::telemetry::health::{self, Readiness};
use futures::{FutureExt, StreamExt};
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
}

/// What every reconciliation needs.
struct Context {
    client: Client,
    aws: Aws,
    installation: Installation,
    grants: Store<CrossAccountRegistryGrant>,
    directory: directory::Caches,
    filled: Arc<Filled>,
    ledger: ledger::Ledger,
    writers: repositories::Writers,
    backoff: requeue::Backoff,
    events: events::Events,
    resync_interval: Duration,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When the cluster cannot be reached at the start, or the health address cannot be bound.
pub async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let Settings { resync_interval, installation, health_address, concurrency } = settings;
    let client = Client::try_default().await.map_err(|error| format!("no access to a cluster: {error}"))?;
    let installation = match installation {
        Some(installation) => installation,
        None => installation_of_cluster(&client).await?,
    };
    tracing::info!(%installation, version = env!("CARGO_PKG_VERSION"), "starting");

    let events = events::Events::new(client.clone());
    let (grants, grants_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let filled = Arc::new(Filled::default());
    let context = Arc::new(Context {
        aws: Aws::from_environment(&installation).await,
        client: client.clone(),
        installation,
        grants: grants.clone(),
        directory: directory::Caches { accounts, namespaces },
        filled: filled.clone(),
        ledger: ledger::Ledger::default(),
        writers: repositories::Writers::default(),
        backoff: requeue::Backoff::default(),
        events: events.clone(),
        resync_interval,
    });

    // Only a new generation is a reason to look: the operator's own status writes are none. A deletion is a new generation, too.
    let grant_changes = watch::readable::<CrossAccountRegistryGrant>(client.clone(), events.clone());
    let grant_changes = filled
        .watched(Cache::Grants, grant_changes.default_backoff().reflect(grants_writer))
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    // An account's disappearance matters as much as its change.
    let account_changes = watch::readable::<AWSAccount>(client.clone(), events);
    let account_changes = filled
        .watched(Cache::Accounts, account_changes.default_backoff().reflect(accounts_writer))
        .touched_objects()
        .predicate_filter(generation_and_presence, PredicateConfig::default());
    let namespace_changes =
        watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default());
    let namespace_changes = filled
        .watched(Cache::Namespaces, namespace_changes.default_backoff().reflect(namespaces_writer))
        .touched_objects()
        .predicate_filter(predicates::labels, PredicateConfig::default());
    let stop = told_to_stop().shared();
    let by_account = grants.clone();
    let by_namespace = grants.clone();
    let grant_controller = Controller::for_stream(grant_changes, grants)
        .watches_stream(account_changes, move |account: AWSAccount| grants_of_account(&by_account, &account))
        .watches_stream(namespace_changes, move |namespace| grants_in_namespace(&by_namespace, &namespace))
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.clone())
        .run(reconcile::reconcile, reconcile::on_error, context.clone())
        .for_each(|_| async {});

    let readiness = Readiness::default();
    let ready = announce_readiness(filled, readiness.clone());
    tokio::spawn(ready);
    let work = async { tokio::join!(grant_controller, accounts::run(context.clone(), stop)) };
    tokio::select! {
        _ = work => Ok(()),
        served = health::serve(health_address, readiness) => {
            Err(format!("health checks cannot be served on {health_address}: {}", served.err().map(|e| e.to_string()).unwrap_or_default()).into())
        }
    }
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
    let namespace = namespace.map_err(|error| format!("namespace kube-system cannot be read: {error}"))?;
    let uid = namespace.uid().ok_or("namespace kube-system has no UID; give --installation")?;
    Ok(Installation::of_cluster(&uid))
}

async fn announce_readiness(filled: Arc<Filled>, readiness: Readiness) {
    filled.wait_for(&[Cache::Grants, Cache::Accounts, Cache::Namespaces]).await;
    readiness.set();
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
        grant.spec.registry.account_id == id || grant.spec.consumer.account_id == id
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
