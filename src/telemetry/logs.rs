//! Structured logs to standard output.

use super::traces::Traces;
use std::error::Error;
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The format of log lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging for the entire process, and tracing if `traces` is given.
///
/// # Errors
/// When the filter cannot be parsed.
pub fn start(format: Format, filter: &str, traces: Option<&Traces>) -> Result<(), Box<dyn Error>> {
    let levels = EnvFilter::try_new(filter).map_err(|error| format!("--log-level: {error}"))?;
    let log = tracing_subscriber::fmt::layer().with_ansi(std::io::stdout().is_terminal());
    let layer = match format {
        Format::Json => log
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(levels)
            .boxed(),
        Format::Text => log.with_filter(levels).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(traces.map(Traces::layer))
        .init();
    Ok(())
}
