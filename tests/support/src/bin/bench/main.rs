//! `make bench`: what grants cost, as those say who are asked: AWS calls by the emulation's log, writes by the API server's audit
//! log. Prints it, writes it to `target/bench`, fails over the limits of DESIGN. Times are not looked at: they are the machine's.

#![forbid(unsafe_code)]

mod article;
mod repository;

use anyhow::{Result, ensure};
use local_stack::{Installation, Stack};
use std::path::PathBuf;
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
    let folder = local_stack::repository_root().join("target/bench");
    println!("starting a stack and the operator");
    let installation = Installation::on(Stack::start_in(&folder.join("stack"))?).await?;
    // The second is measured also where the first costs too much.
    let article = article::run(&installation, &folder).await?;
    let repository = repository::run(&installation, &folder).await?;
    ensure!(article && repository, "over the limit, see above");
    Ok(())
}

/// The operator's binary, which is built beside this one.
fn operator() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("registry-grants"))
}
