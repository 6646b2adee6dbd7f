//! `make e2e`: the promise itself, on a whole cluster. A kubelet of account B pulls from account A
//! once a grant is Ready, and not a moment longer; the operator runs in its Pod, from its image, as
//! the chart installs it.
//!
//!     e2e [--kind] [--replicas N]
//!
//! Without `--kind` it has to be started by `python -m node run` (tests/support/node), as the
//! Makefile does: with that ends whatever it started, however it ends.

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

/// How it is to be played.
#[derive(Debug, Default)]
struct Options {
    /// With kind, in Docker, instead of a node of our own.
    by_kind: bool,
    /// Instead of the chart's default.
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
