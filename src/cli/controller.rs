//! `registry-grants controller`: the operator itself.

use crate::controller;
use crate::policy::Installation;
use crate::telemetry::logs::{self, Format};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

/// Every flag can be given by the environment as well; the flag wins. Credentials for AWS come from the ambient chain
/// (environment, IRSA, Pod Identity, profile, instance profile), and for the cluster from KUBECONFIG or the Pod's ServiceAccount.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often every grant is compared with AWS, so that changes made by hand are put back; ±20 % so that grants do not march
    /// in step. For instance 10m, 90s, 1h.
    #[arg(long, env = "REGISTRY_GRANTS_RESYNC_INTERVAL", default_value = "10m", value_parser = interval)]
    resync_interval: Duration,

    /// The installation's ID, 12 hex digits: the mark on everything that the operator makes in AWS. Unset: a hash of the UID of
    /// the cluster's kube-system namespace. Set it to the old one to go on in a new cluster.
    #[arg(long, env = "REGISTRY_GRANTS_INSTALLATION")]
    installation: Option<Installation>,

    /// Where /healthz and /readyz are served.
    #[arg(long, env = "REGISTRY_GRANTS_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,

    /// How many grants are worked on at a time.
    #[arg(long, env = "REGISTRY_GRANTS_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// How log lines look.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_FORMAT", default_value = "json")]
    log_format: Format,

    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,registry_grants=debug`.
    #[arg(long, env = "REGISTRY_GRANTS_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { resync_interval, installation, health_address, concurrency, log_format, log_level } = arguments;
    logs::start(log_format, &log_level)?;
    let settings = controller::Settings { resync_interval, installation, health_address, concurrency };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(controller::run(settings))
}

/// An interval of at least a second: less would be a hot loop.
fn interval(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    (duration >= Duration::from_secs(1)).then_some(duration).ok_or_else(|| "must be at least 1s".into())
}
