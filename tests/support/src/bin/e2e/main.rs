//! `make e2e`: the end-to-end test on an entire cluster. A kubelet of account B can pull from
//! account A while a grant is Ready, and only then. The operator runs in its Pod, from its image,
//! as the chart installs it.
//!
//!     e2e [--kind] [--replicas N]
//! Without `--kind`, start it with `python -m node run` (tests/support/node), as the Makefile does.
//! Everything that it starts then ends with it, however it ends.

#![forbid(unsafe_code)]

mod chart;
mod kept;
mod pods;
mod scene;
mod story;
mod upheaval;

use anyhow::{Context, Result, bail};
use local_stack::report;
use std::process::ExitCode;

/// The settings of a run.
#[derive(Debug, Default)]
struct Options {
    /// Whether the cluster is made by kind, in Docker, instead of our own node.
    by_kind: bool,
    /// The number of replicas, instead of the chart's default.
    replicas: Option<u8>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kind" => options.by_kind = true,
            "--replicas" => {
                let number = arguments.next().context("--replicas needs a number")?;
                options.replicas = Some(
                    number
                        .parse()
                        .with_context(|| format!("--replicas {number}"))?,
                );
            }
            _ => bail!("usage: e2e [--kind] [--replicas N]"),
        }
    }
    let folder = local_stack::repository_root().join("target/e2e");
    story::tell(&folder, &options).await
}
