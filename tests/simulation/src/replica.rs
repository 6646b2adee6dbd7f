//! One operator, which can be stopped, killed and frozen.

use crate::api_server::{ApiServer, Connection};
use crate::aws::World;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use futures::FutureExt;
use registry_grants::clock::{Random, WallClock};
use registry_grants::controller::compute_pool::ComputePool;
use registry_grants::controller::watch::SILENT_AT_MOST;
use registry_grants::controller::{self, Edges, Settings};
use registry_grants::telemetry::Telemetry;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tower_http::timeout::ResponseBodyTimeoutLayer;

/// What a replica needs to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// The name of its Pod.
    pub pod: String,
    /// How it runs.
    pub settings: Settings,
    /// The cluster.
    pub api_server: ApiServer,
    /// AWS.
    pub aws: World,
    /// The credentials of the operator.
    pub credentials: Credentials,
    /// The time of day.
    pub clock: WallClock,
    /// The seed of its jitter and of its identity.
    pub seed: u64,
}

/// One running operator. Dropping it kills it, as a crash of its node does.
pub struct Replica {
    pod: String,
    running: JoinHandle<Result<(), String>>,
    stop: Option<oneshot::Sender<()>>,
    connection: Connection,
    telemetry: Telemetry,
}

/// The namespace of the operator, and of its Lease.
pub const NAMESPACE: &str = "registry-grants";

impl Replica {
    /// Starts an operator. Must be called within a `LocalSet`.
    pub fn start(start: Start) -> Self {
        let Start {
            pod,
            settings,
            api_server,
            aws,
            credentials,
            clock,
            seed,
        } = start;
        let random = Random::seeded(seed);
        let connection = api_server.connect(&pod);
        let sdk = aws.sdk_config(credentials, settings.call_timeout, clock.clone());
        let (stop, stopped) = oneshot::channel();
        let telemetry = Telemetry::default();
        let edges = Edges {
            client: client(&connection),
            api_server: "the simulated API server".into(),
            aws: frozen_with(&sdk, &aws, &connection),
            listener: None,
            stop: async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
            .shared(),
            identity: format!("{pod}-{:08x}", random.number()),
            telemetry: telemetry.clone(),
            clock,
            random,
            pool: ComputePool::InPlace,
        };
        let settings = Settings {
            pod_name: Some(pod.clone()),
            ..settings
        };
        let running = tokio::task::spawn_local(async move {
            let ended = controller::run(settings, edges).await;
            ended.map_err(|error| error.to_string())
        });
        Self {
            pod,
            running,
            stop: Some(stop),
            connection,
            telemetry,
        }
    }

    /// Returns the name of its Pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Returns its health and metrics.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Sends the stop signal.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended already.
            let _ = stop.send(());
        }
    }

    /// Returns whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits for its end, and returns the error with which it ended.
    ///
    /// # Errors
    /// When it ended with an error, or panicked.
    pub async fn ended(&mut self) -> Result<(), String> {
        match (&mut self.running).await {
            Ok(ended) => ended,
            Err(error) => Err(error.to_string()),
        }
    }

    /// Freezes it, like a process that gets no CPU time: it sends nothing and receives nothing.
    /// What it has sent takes effect. Its own timers go on.
    pub fn freeze(&self) {
        self.connection.freeze();
    }

    /// Ends the freeze.
    pub fn thaw(&self) {
        self.connection.thaw();
    }

    /// Ends the freeze after this time.
    pub fn thaw_after(&self, duration: Duration) {
        let connection = self.connection.clone();
        tokio::task::spawn_local(async move {
            sleep(duration).await;
            connection.thaw();
        });
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Returns a client whose requests and watches end after a silence, as those of the real one.
fn client(connection: &Connection) -> kube::Client {
    let service = tower::ServiceBuilder::new()
        .layer(tower::timeout::TimeoutLayer::new(SILENT_AT_MOST))
        .layer(ResponseBodyTimeoutLayer::new(SILENT_AT_MOST))
        .service(connection.clone());
    kube::Client::new(service, NAMESPACE)
}

/// Returns the configuration with an HTTP client that freezes with the connection to the cluster.
fn frozen_with(sdk: &SdkConfig, aws: &World, connection: &Connection) -> SdkConfig {
    let client = Freezing {
        inner: aws.http_client(),
        connection: connection.clone(),
    };
    sdk.to_builder()
        .http_client(SharedHttpClient::new(client))
        .build()
}

/// An HTTP client or connector that sends and receives nothing while its replica is frozen.
#[derive(Clone, Debug)]
struct Freezing<T> {
    inner: T,
    connection: Connection,
}

impl HttpClient for Freezing<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Freezing {
            inner: self.inner.http_connector(settings, components),
            connection: self.connection.clone(),
        })
    }
}

impl HttpConnector for Freezing<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { inner, connection } = self.clone();
        HttpConnectorFuture::new(async move {
            connection.not_frozen().await;
            let answer = inner.call(request).await;
            connection.not_frozen().await;
            answer
        })
    }
}
