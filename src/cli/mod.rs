//! The command line: one file a subcommand.

mod controller;
mod crds;
mod iam_policy;

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
    /// Print the least-privilege documents of the role that the operator assumes in an account.
    ///
    /// Who may assume it (trust), what it may do (permissions), and what the roles that it makes can ever do (boundary, a managed
    /// policy); also what the operator's own identity needs (operator). Nothing is read or written in AWS.
    IamPolicy(iam_policy::Arguments),
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Controller(arguments) => controller::run(arguments),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::IamPolicy(arguments) => iam_policy::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry-grants: {error}");
            ExitCode::FAILURE
        }
    }
}
