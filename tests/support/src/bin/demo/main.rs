//! `make demo`: the whole story, from two empty AWS accounts to a pushed and pulled image and back,
//! with the real operator, API server, Helm, kubectl and registry client.
//!
//!     demo            run it, and stop everything
//!     demo --keep     stop before the grant is deleted, and leave everything running
//!     demo down       stop what --keep left

#![forbid(unsafe_code)]

mod access;
mod article;
mod kept;
mod scene;
mod story;

use anyhow::{Result, bail};
use local_stack::report;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode> {
    let folder = local_stack::repository_root().join("target/demo");
    std::fs::create_dir_all(&folder)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => story::tell(&folder, scene::End::Delete).await,
        ["--keep"] => story::tell(&folder, scene::End::Keep).await,
        ["down"] => kept::end(&folder),
        _ => bail!("usage: demo [--keep | down]"),
    }
}
