//! The command line: one file a subcommand.

mod controller;
mod crds;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Lets workloads of one AWS account push to and pull from another account's private ECR repositories, without keys.
#[derive(Parser)]
#[command(name = "registry-grants", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator: watch grants and accounts, and make them true in AWS.
    Controller(controller::Arguments),
    /// Print the custom resource definitions as YAML.
    Crds(crds::Arguments),
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Controller(arguments) => controller::run(arguments),
        Command::Crds(arguments) => crds::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry-grants: {error}");
            ExitCode::FAILURE
        }
    }
}
