//! `registry-grants controller`: the operator itself.

use crate::api::sweep::SweepMode;
use crate::controller;
use crate::policy::Installation;
use crate::telemetry::logs::{self, Format};
use crate::telemetry::traces::Traces;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples, outside of a cluster (the chart runs it inside):
  registry-grants controller --leader-election=false --log-format text
  KUBECONFIG=cluster.yaml AWS_PROFILE=operator \\
    registry-grants controller --leader-election=false";

/// Every flag can be given by the environment as well; the flag wins. Credentials for AWS come from
/// the ambient chain (environment, IRSA, Pod Identity, profile, instance profile), and for the
/// cluster from KUBECONFIG or the Pod's ServiceAccount.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How often every grant is compared with AWS, so that changes made by hand are put back; ±20 %
    /// so that grants do not march in step. For instance 10m, 90s, 1h.
    #[arg(long, env = "REGISTRY_GRANTS_RESYNC_INTERVAL", default_value = "10m", value_parser = interval)]
    resync_interval: Duration,

    /// The installation's ID, 12 hex digits: the mark on everything that the operator makes in AWS.
    /// Unset: a hash of the UID of the cluster's kube-system namespace. Set it to the old one to go
    /// on in a new cluster.
    #[arg(long, env = "REGISTRY_GRANTS_INSTALLATION")]
    installation: Option<Installation>,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(
        long,
        env = "REGISTRY_GRANTS_HEALTH_ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    health_address: SocketAddr,

    /// How many grants are worked on at a time in each AWS account.
    #[arg(long, env = "REGISTRY_GRANTS_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// The bound on a call to AWS, and on a write in the cluster; what was not answered by then is
    /// tried again later. An operator that is told to end needs at most five seconds more than
    /// this.
    #[arg(long, env = "REGISTRY_GRANTS_AWS_CALL_TIMEOUT", default_value = "10s", value_parser = interval)]
    aws_call_timeout: Duration,

    /// Whether replicas choose one of them to work, by a Lease in the operator's own namespace,
    /// while the others stand by. Without it there must never be two.
    #[arg(long, env = "REGISTRY_GRANTS_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,

    /// How long a replica leads without renewing its Lease, and so how long the others wait when it
    /// crashed. At least three times the AWS call timeout: no call is begun that might outlive the
    /// Lease.
    #[arg(long, env = "REGISTRY_GRANTS_LEASE_DURATION", default_value = "30s", value_parser = interval)]
    lease_duration: Duration,

    /// What becomes of what this installation has in AWS though no grant claims it (a grant was let
    /// go by hand, a cluster was lost): it is reported in the status of the AWSAccount, also
    /// removed where nothing speaks against it, or not looked for.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP", default_value = "report")]
    sweep: Sweep,

    /// How often it is looked for. The first time is five minutes after the start, or after this if
    /// it is shorter.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP_INTERVAL", default_value = "24h", value_parser = interval)]
    sweep_interval: Duration,

    /// For how long something must have been there without a claim before it is removed.
    #[arg(long, env = "REGISTRY_GRANTS_SWEEP_UNCLAIMED_FOR", default_value = "1h", value_parser = interval)]
    sweep_unclaimed_for: Duration,

    /// How log lines look.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_FORMAT", default_value = "json")]
    log_format: Format,

    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,registry_grants=debug`.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// Where traces are sent: the base address of an OpenTelemetry collector that takes OTLP over
    /// HTTP, such as http://otel-collector.observability:4318. Unset: none are made.
    /// OpenTelemetry's other variables hold as well (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    /// OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS).
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// What becomes of what no grant claims.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sweep {
    /// It is reported.
    Report,
    /// It is reported, and removed.
    Remove,
    /// It is not looked for.
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

/// Runs the operator until it is told to stop.
pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments {
        resync_interval,
        installation,
        health_address,
        concurrency,
        aws_call_timeout,
        leader_election,
        lease_duration,
        sweep,
        sweep_interval: interval,
        sweep_unclaimed_for: unclaimed_for,
        log_format,
        log_level,
        otlp_endpoint,
    } = arguments;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let traces = otlp_endpoint
        .filter(|endpoint| !endpoint.is_empty())
        .map(|endpoint| Traces::to(&endpoint, runtime.handle()))
        .transpose()?;
    logs::start(log_format, &log_level, traces.as_ref())?;
    if leader_election && lease_duration < aws_call_timeout * 3 {
        return Err("--lease-duration must be at least three times --aws-call-timeout".into());
    }
    if lease_duration.subsec_nanos() != 0 {
        return Err(
            "--lease-duration must be whole seconds: a Lease tells its duration in seconds".into(),
        );
    }
    let settings = controller::Settings {
        resync_interval,
        installation,
        health_address,
        concurrency,
        call_timeout: aws_call_timeout,
        lease_duration: leader_election.then_some(lease_duration),
        sweep: sweep.mode().map(|mode| controller::sweep::SweepSettings {
            mode,
            interval,
            unclaimed_for,
        }),
    };
    let ended = runtime.block_on(controller::run(settings));
    if let Some(traces) = traces {
        traces.end();
    }
    // The results of running computations are no longer needed.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// Parses an interval of at least a second. A shorter one would cause a hot loop.
fn interval(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) {
        return Err("must be at least 1s".into());
    }
    Ok(duration)
}
