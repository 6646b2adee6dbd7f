//! `make bench`: measures the cost of grants on the servers: AWS calls by the emulation's log, and
//! writes by the API server's audit log. Prints the results, writes them to `target/bench`, and
//! fails above the limits. Times depend on the machine and are not checked, with one exception:
//! `bench times` checks the comparison of policies that `cargo bench` measured.

#![forbid(unsafe_code)]

mod article;
mod repository;
mod times;

use anyhow::{Context, Result, ensure};
use local_stack::{Installation, Stack};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("times") {
        let binary = operator()?;
        let target = binary
            .parent()
            .and_then(Path::parent)
            .context("this is not in cargo's target folder")?;
        return times::check(&target.join("criterion"));
    }
    let folder = local_stack::repository_root().join("target/bench");
    println!("starting a stack and the operator");
    let installation = Installation::on(Stack::start_in(&folder.join("stack"))?).await?;
    // The second is measured even if the first one exceeds its limits.
    let article = article::run(&installation, &folder).await?;
    let repository = repository::run(&installation, &folder).await?;
    ensure!(article && repository, "over the limit, see above");
    Ok(())
}

/// Returns the operator's binary, which is in the same folder as this one.
fn operator() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("registry-grants"))
}
