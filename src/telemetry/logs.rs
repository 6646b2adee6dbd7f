//! Structured logs to standard output.

use std::error::Error;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(format: Format, filter: &str) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log-level: {error}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stdout().is_terminal());
    match format {
        Format::Json => log.json().flatten_event(true).with_span_list(false).init(),
        Format::Text => log.init(),
    }
    Ok(())
}
