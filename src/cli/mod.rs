//! The command line: one file a subcommand.

mod controller;
mod crds;
mod iam_policy;
mod manifests;
mod policy;
mod text;

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
    /// Look at IAM policy documents, without AWS or a cluster.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Print the least-privilege documents of the role that the operator assumes in an account.
    ///
    /// Who may assume it (trust), what it may do (permissions), and what the roles that it makes can ever do (boundary, a managed
    /// policy); also what the operator's own identity needs (operator). Nothing is read or written in AWS.
    IamPolicy(iam_policy::Arguments),
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_mistake) => {
            // Not clap's own 2 for a mistake: that is `policy diff`'s answer. What cannot be printed cannot be reported either.
            let _ = help_or_mistake.print();
            return if help_or_mistake.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Controller(arguments) => controller::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Crds(arguments) => crds::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::IamPolicy(arguments) => iam_policy::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Policy(command) => policy::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("registry-grants: {error}");
        ExitCode::FAILURE
    })
}
