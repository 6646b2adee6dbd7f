//! Runs the operator: takes part in the leader election, works while this replica leads, and ends
//! at a stop signal.

use super::context::{Cloud, Cluster, Context, Runtime};
use super::events::Events;
use super::leadership::{self, Election, Leadership};
use super::requeue::Pauses;
use super::state::requests::{Requested, Requests};
use super::state::watch_caches::{Cache, CacheSync, WatchCaches};
use super::supervise::{Stop, Supervisor};
use super::triggers::{Watches, reconcile_grants};
use super::{Edges, Settings, accounts, instrument, repository_policy, requeue, sweep, vanished};
use crate::aws::Aws;
use crate::aws::rate_limit::{self, Work};
use crate::policy::Installation;
use crate::telemetry::Telemetry;
use crate::telemetry::health::{Readiness, Stage};
use crate::telemetry::server;
use crate::text;
use futures::FutureExt;
use futures::channel::mpsc;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector;
use kube::{Api, ResourceExt};
use std::error::Error;
use std::sync::Arc;

/// Operator in one process, over all its terms.
struct Operator {
    settings: Settings,
    edges: Edges,
}

/// Context of a new term, with the ends that its watches write to and its requests arrive at.
struct TermStart {
    context: Arc<Context>,
    watches: Watches,
    requested: Requested,
    vanished: mpsc::UnboundedReceiver<vanished::Vanished>,
}

/// Runs the operator until it receives a stop signal. Everything that it starts ends when this
/// future is dropped.
///
/// # Errors
/// When the cluster refuses what every operator needs, or health checks cannot be served.
pub async fn run(settings: Settings, mut edges: Edges) -> Result<(), Box<dyn Error>> {
    let listener = edges.listener.take();
    let operator = Operator { settings, edges };
    let Some(listener) = listener else {
        return operator.lead().await;
    };
    let telemetry = operator.edges.telemetry.clone();
    tokio::select! {
        ended = operator.lead() => ended,
        served = server::serve(listener, telemetry, operator.settings.call_timeout) => {
            let why = served.err().map(|error| error.to_string()).unwrap_or_default();
            Err(format!("health checks are no longer served: {why}").into())
        }
    }
}

impl Operator {
    /// Works while this replica leads, until a stop signal.
    async fn lead(&self) -> Result<(), Box<dyn Error>> {
        let Self { settings, edges } = self;
        let Edges {
            client,
            identity,
            telemetry,
            clock,
            stop,
            ..
        } = edges;
        let installation = match &settings.installation {
            Some(installation) => installation.clone(),
            None => tokio::select! {
                found = self.installation_of_cluster() => found?,
                () = stop.clone() => return Ok(()),
            },
        };
        tracing::info!(%installation, version = env!("CARGO_PKG_VERSION"), "starting");
        let Some(lease_duration) = settings.lease_duration else {
            telemetry.metrics.leader.set(1);
            let leadership = Arc::new(Leadership::always(settings.call_timeout));
            let work = self.work(&installation, leadership.clone());
            leadership::until_over(&leadership, work, stop, std::future::pending::<()>()).await;
            return Ok(());
        };
        // A replica that cannot renew the Lease gives up within the Lease's duration. One that does
        // not even try is stuck.
        let pulse = telemetry.liveness.pulse("the election", lease_duration * 3);
        let leases = Api::<Lease>::namespaced(client.clone(), client.default_namespace());
        let (identity, clock) = (identity.clone(), clock.clone());
        let election = Election::new(leases, identity, lease_duration, pulse, clock);
        Ok(leadership::take_part(
            election,
            settings.call_timeout,
            telemetry,
            stop.clone(),
            |leadership| self.work(&installation, leadership),
        )
        .await?)
    }

    /// Watches and reconciles during one term, until a stop signal arrives and running work has
    /// ended. The future may be dropped while no write is in progress: then everything that it
    /// started ends.
    async fn work(&self, installation: &Installation, leadership: Arc<Leadership>) {
        let Telemetry {
            metrics,
            readiness,
            liveness,
            ..
        } = &self.edges.telemetry;
        let stop = &self.edges.stop;
        let TermStart {
            context,
            watches,
            requested,
            vanished,
        } = self.begin_term(installation, leadership);
        let Requested {
            grants: requested_grants,
            accounts: requested_accounts,
        } = requested;
        let grant_controller = async {
            reconcile_grants(&context, watches, requested_grants, readiness).await;
            if stop.clone().now_or_never().is_none() {
                liveness.ended("the grant controller");
            }
        };
        let supervised = Supervisor {
            metrics,
            liveness,
            stop,
        };
        let vanished = tokio::sync::Mutex::new(vanished::PendingRevocations::of(vanished));
        let vanished = supervised.run("revoke vanished grants", || {
            vanished::run(&context, &vanished)
        });
        let look_after_the_start = supervised.run("look after revoked places", || {
            repository_policy::resync::look_after_the_start(&context)
        });
        let look_after = supervised.run("look after repositories", || {
            repository_policy::resync::look_after(context.clone())
        });
        let sweep = supervised.run("sweep", || sweep::run(context.clone(), self.settings.sweep));
        tokio::join!(
            announce_readiness(&context.runtime.filled, readiness, stop),
            grant_controller,
            accounts::run(context.clone(), requested_accounts, stop.clone()),
            vanished,
            look_after_the_start,
            rate_limit::with(Work::background(), look_after),
            rate_limit::with(Work::background(), sweep),
        );
    }

    /// Creates the context of one term, with empty caches.
    fn begin_term(&self, installation: &Installation, leadership: Arc<Leadership>) -> TermStart {
        let Self { settings, edges } = self;
        let Edges {
            client,
            api_server: _,
            aws,
            listener: _,
            stop,
            identity: _,
            telemetry,
            clock,
            random,
            pool,
        } = edges;
        let metrics = &telemetry.metrics;
        let (grants, grants_writer) = reflector::store();
        let (accounts, accounts_writer) = reflector::store();
        let (namespaces, namespaces_writer) = reflector::store();
        let (requests, requested) = Requests::new(metrics.clone());
        let aws = Aws::new(
            aws.clone(),
            installation,
            settings.call_timeout,
            metrics.clone(),
            clock.clone(),
        );
        let watch_caches = WatchCaches {
            accounts,
            namespaces,
        };
        let context = Arc::new(Context {
            cluster: Cluster::new(
                installation.clone(),
                clock.clone(),
                grants,
                watch_caches,
                requests,
            ),
            cloud: Cloud::new(aws, settings.concurrency, *pool, metrics.clone()),
            runtime: Runtime::new(
                leadership,
                client.clone(),
                self.events(),
                Pauses::new(settings.resync_interval, random.clone()),
                stop.clone(),
            ),
        });
        metrics.watch(Arc::new(instrument::Watched::of(&context)));
        let (gone, vanished) = mpsc::unbounded();
        TermStart {
            context,
            watches: Watches {
                grants: grants_writer,
                accounts: accounts_writer,
                namespaces: namespaces_writer,
                gone,
            },
            requested,
            vanished,
        }
    }

    fn events(&self) -> Events {
        let Edges {
            client,
            clock,
            random,
            ..
        } = &self.edges;
        let pod = self.settings.pod_name.clone();
        Events::new(client.clone(), pod, clock.clone(), random.clone())
    }

    /// Returns the installation ID of the cluster. Waits while the cluster cannot be reached: an
    /// operator that exits and is restarted would not reach it any sooner.
    async fn installation_of_cluster(&self) -> Result<Installation, Box<dyn Error>> {
        let Edges {
            client,
            api_server: place,
            telemetry,
            random,
            ..
        } = &self.edges;
        let readiness = &telemetry.readiness;
        const CONNECTION: &str = "the namespace kube-system";
        for pause in requeue::Reconnect::new(random.clone()) {
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
                Err(error) => text::with_causes(&error),
            };
            tracing::warn!("{place}: namespace kube-system cannot be read, retrying: {error}");
            readiness.fails(CONNECTION, &error);
            tokio::time::sleep(pause).await;
        }
        Err(format!("{place}: namespace kube-system cannot be read").into())
    }
}

async fn announce_readiness(filled: &CacheSync, readiness: &Readiness, stop: &Stop) {
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
