//! `registry-grants controller`: the operator itself.

use super::environment::{aws, cluster, stop};
use crate::api::sweep::SweepMode;
use crate::clock::{Random, WallClock};
use crate::controller::compute_pool::ComputePool;
use crate::controller::{self, Edges, Settings};
use crate::policy::Installation;
use crate::telemetry::Telemetry;
use crate::telemetry::logs::{self, Format};
use crate::telemetry::traces::Traces;
use futures::FutureExt as _;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

const EXAMPLES: &str = "\
Examples, outside of a cluster (the chart runs it inside):
  registry-grants controller --leader-election=false --log-format text
  KUBECONFIG=cluster.yaml AWS_PROFILE=operator \\
    registry-grants controller --leader-election=false";

/// Arguments of the subcommand, which `Command::Controller` describes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How often every grant is compared with AWS, so that drift is reverted; ±20 %, so that grants
    /// are spread over time. For instance 10m, 90s, 1h.
    #[arg(long, env = "REGISTRY_GRANTS_RESYNC_INTERVAL", default_value = "10m", value_parser = interval)]
    resync_interval: Duration,

    /// The installation ID, 12 hex digits: the mark on everything that the operator creates in AWS.
    /// Unset: a hash of the UID of the cluster's kube-system namespace. To continue in a new
    /// cluster, set it to the old ID.
    #[arg(long, env = "REGISTRY_GRANTS_INSTALLATION")]
    installation: Option<Installation>,

    /// The address that serves /healthz, /readyz and /metrics.
    #[arg(
        long,
        env = "REGISTRY_GRANTS_HEALTH_ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    health_address: SocketAddr,

    /// How many grants are reconciled at a time in each AWS account.
    #[arg(long, env = "REGISTRY_GRANTS_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// The timeout of a call to AWS, and of a write in the cluster; a call that times out is
    /// retried later. After a termination signal, the operator needs at most five seconds more than
    /// this.
    #[arg(long, env = "REGISTRY_GRANTS_AWS_CALL_TIMEOUT", default_value = "10s", value_parser = interval)]
    aws_call_timeout: Duration,

    /// Whether replicas elect a leader, by a Lease in the operator's own namespace, while the
    /// others wait. Without leader election, never run two replicas.
    #[arg(long, env = "REGISTRY_GRANTS_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,

    /// How long a replica leads without renewing its Lease, which is also how long the others wait
    /// after it crashed. At least three times the AWS call timeout: no call starts that might
    /// outlive the Lease.
    #[arg(long, env = "REGISTRY_GRANTS_LEASE_DURATION", default_value = "30s", value_parser = interval)]
    lease_duration: Duration,

    /// What to do with orphans, i.e. AWS resources of this installation that no grant claims, for
    /// instance because a finalizer was removed by hand or a cluster was lost: report them in the
    /// status of the AWSAccount, also remove them when it is safe, or do not search for them.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP", default_value = "report")]
    sweep: Sweep,

    /// How often to search for orphans. The first search starts five minutes after the start, or
    /// after this interval if it is shorter.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP_INTERVAL", default_value = "24h", value_parser = interval)]
    sweep_interval: Duration,

    /// How long a resource must have been there without a claim before it is removed.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP_UNCLAIMED_FOR", default_value = "1h", value_parser = interval)]
    sweep_unclaimed_for: Duration,

    /// The format of log lines.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_FORMAT", default_value = "json")]
    log_format: Format,

    /// The log level: error, warn, info, debug, trace, or a filter such as
    /// `info,registry_grants=debug`.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// Where to send traces: the base address of an OpenTelemetry collector for OTLP over HTTP,
    /// such as http://otel-collector.observability:4318. Unset: no traces. OpenTelemetry's other
    /// variables apply as well (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
    /// OTEL_EXPORTER_OTLP_HEADERS).
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// What to do with orphans.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sweep {
    /// Report orphans.
    Report,
    /// Report orphans, and remove them.
    Remove,
    /// Do not search for orphans.
    Off,
}

impl Sweep {
    fn mode(self) -> Option<SweepMode> {
        match self {
            Self::Report => Some(SweepMode::Report),
            Self::Remove => Some(SweepMode::Remove),
            Self::Off => None,
        }
    }
}

/// Runs the operator until it receives a termination signal.
pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let traces = arguments
        .otlp_endpoint
        .as_ref()
        .filter(|endpoint| !endpoint.is_empty())
        .map(|endpoint| Traces::to(endpoint, service_name(), runtime.handle()))
        .transpose()?;
    logs::start(arguments.log_format, &arguments.log_level, traces.as_ref())?;
    let health_address = arguments.health_address;
    let settings = settings(arguments)?;
    let ended = runtime.block_on(async {
        let edges = edges(&settings, health_address).await?;
        controller::run(settings, edges).await
    });
    if let Some(traces) = traces {
        traces.end();
    }
    // The results of running computations are no longer needed.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

fn settings(arguments: Arguments) -> Result<Settings, Box<dyn Error>> {
    let Arguments {
        resync_interval,
        installation,
        health_address: _,
        concurrency,
        aws_call_timeout,
        leader_election,
        lease_duration,
        sweep,
        sweep_interval: interval,
        sweep_unclaimed_for: unclaimed_for,
        log_format: _,
        log_level: _,
        otlp_endpoint: _,
    } = arguments;
    if leader_election && lease_duration < aws_call_timeout * 3 {
        return Err("--lease-duration must be at least three times --aws-call-timeout".into());
    }
    if lease_duration.subsec_nanos() != 0 {
        return Err(
            "--lease-duration must be whole seconds: a Lease has its duration in seconds".into(),
        );
    }
    Ok(Settings {
        resync_interval,
        installation,
        concurrency,
        call_timeout: aws_call_timeout,
        lease_duration: leader_election.then_some(lease_duration),
        pod_name: std::env::var("POD_NAME").ok(),
        sweep: sweep.mode().map(|mode| controller::sweep::SweepSettings {
            mode,
            interval,
            unclaimed_for,
        }),
    })
}

/// Connects the operator to the real world.
async fn edges(settings: &Settings, health_address: SocketAddr) -> Result<Edges, Box<dyn Error>> {
    let (client, api_server) = cluster::connect()
        .await
        .map_err(|error| format!("no access to a cluster: {error}"))?;
    let listener = TcpListener::bind(health_address)
        .await
        .map_err(|error| format!("health checks cannot be served on {health_address}: {error}"))?;
    let stop = stop::signals()
        .map_err(|error| format!("termination signals cannot be handled: {error}"))?;
    let random = Random::from_entropy();
    // The suffix changes when the container restarts.
    let pod = settings.pod_name.as_deref().unwrap_or("registry-grants");
    let identity = format!("{pod}-{:08x}", random.number());
    Ok(Edges {
        client,
        api_server,
        aws: aws::load(settings.call_timeout).await,
        listener: Some(listener),
        stop: stop.boxed().shared(),
        identity,
        telemetry: Telemetry::default(),
        clock: WallClock::system(),
        random,
        pool: ComputePool::Threads,
    })
}

/// Returns the name under which a collector of traces shows the operator.
fn service_name() -> String {
    std::env::var("OTEL_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "registry-grants".into())
}

/// Parses an interval of at least a second. A shorter one would cause a hot loop.
fn interval(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) {
        return Err("must be at least 1s".into());
    }
    Ok(duration)
}
