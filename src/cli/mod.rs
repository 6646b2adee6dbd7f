//! The command line: one file or folder for each subcommand.
//!
//! - `controller`: runs the operator.
//! - `plan`: shows what the operator would do for grants in files.
//! - `explain`: says whether a role can pull or push, and which permission is missing.
//! - `graph`: shows who can pull and push what.
//! - `handoff`: prints what the admin of an unmanaged account adds by hand.
//! - `iam_policy`: prints the documents of the operator's own role.
//! - `policy`: shows where two policy documents differ in meaning.
//! - `crds`: prints the custom resource definitions, and their reference.
//! - `completions`: prints a shell completion script.
//! - `environment`: connections, credentials and stop signals of the process.
//! - `manifests`: reads grants, accounts and namespaces from files.
//! - `policy_diff`: prints the differences between policy documents.
//! - `json`: prints JSON for people.
//! - `io`: reads files and standard input.
//! - `runtime`: runs asynchronous work.
//! - `terminal`: prints text that is safe for a terminal.

mod completions;
mod controller;
mod crds;
mod environment;
mod explain;
mod graph;
mod handoff;
mod iam_policy;
mod io;
mod json;
mod manifests;
mod plan;
mod policy;
mod policy_diff;
mod runtime;
mod terminal;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use terminal::note;

/// Lets workloads of one AWS account push to and pull from another account's private ECR
/// repositories, without access keys.
#[derive(Parser)]
#[command(name = "registry-grants", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a shell completion script for this program.
    Completions(completions::Arguments),
    /// Run the operator: watch grants and accounts, and apply them in AWS.
    ///
    /// Every flag can also be set by an environment variable; the flag takes precedence.
    /// Credentials for AWS come from the ambient chain (environment, IRSA, Pod Identity, profile,
    /// instance profile), and for the cluster from KUBECONFIG or the Pod's ServiceAccount.
    Controller(controller::Arguments),
    /// Print the custom resource definitions as YAML.
    Crds(crds::Arguments),
    /// Explain whether a role can pull from or push to a repository, and if not, which permission
    /// is missing.
    ///
    /// With AWS, it reads the policies of both sides, with the credentials of the AWSAccounts in
    /// the -f files, or else with the ambient credentials. Without AWS, it reads policies from
    /// files. Organization policies (SCPs, RCPs), VPC endpoint policies and session policies are
    /// not considered.
    Explain(explain::Arguments),
    /// Show who can pull and push what, across accounts: from a cluster, or from files.
    Graph(graph::Arguments),
    /// Print what an account's admin adds by hand where the operator does not write. It reads
    /// neither AWS nor a cluster.
    ///
    /// The documents are the operator's own, under names and Sids that no operator treats as its
    /// own: no operator removes them, and a grant can replace them later
    /// (spec.registry.replaceSids).
    Handoff(handoff::Arguments),
    /// Show what the operator would do for grants in files: what it would create, change and remove
    /// in each account. Nothing is written.
    ///
    /// It reads no cluster. It reads the current state in AWS, with the credentials of the
    /// AWSAccounts in the files, which start from the ambient credentials.
    Plan(plan::Arguments),
    /// Compare IAM policy documents, without AWS or a cluster.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Print the least-privilege documents of the role that the operator assumes in an account.
    ///
    /// These are: who may assume the role (trust), what it may do (permissions), and the
    /// permissions boundary of the roles that it creates (boundary, a managed policy); and the
    /// permissions of the operator's own identity (operator). Nothing is read or written in AWS.
    IamPolicy(iam_policy::Arguments),
}

/// The program that kubectl runs for `kubectl registry-grants`: in a plugin's file name, `_` stands
/// for the `-` of a command.
const PLUGIN: &str = "kubectl-registry_grants";

/// Returns the command line, whose usage texts begin with the name that the program was called by.
fn program() -> clap::Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let is_plugin = Path::new(&called)
        .file_stem()
        .is_some_and(|name| name == PLUGIN);
    if is_plugin {
        Arguments::command().bin_name("kubectl registry-grants")
    } else {
        Arguments::command()
    }
}

/// Runs the subcommand that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match program()
        .try_get_matches()
        .and_then(|found| Arguments::from_arg_matches(&found))
    {
        Ok(arguments) => arguments,
        Err(help_or_mistake) => {
            // Not clap's status 2, which means that `policy diff` found a difference. If printing
            // fails, nothing can be reported either.
            let _ = help_or_mistake.print();
            return if help_or_mistake.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let asks_aws = matches!(
        arguments.command,
        Command::Controller(_) | Command::Explain(_) | Command::Plan(_)
    );
    if asks_aws && let Err(why) = environment::aws::check_ca_bundle() {
        note(why);
        return ExitCode::FAILURE;
    }
    let result = run(arguments.command);
    result.unwrap_or_else(|error| {
        note(error);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Completions(arguments) => {
            completions::run(&arguments, program()).map(|()| ExitCode::SUCCESS)
        }
        Command::Controller(arguments) => controller::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Crds(arguments) => crds::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Graph(arguments) => graph::run(&arguments),
        Command::Handoff(arguments) => handoff::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::IamPolicy(arguments) => iam_policy::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Policy(command) => policy::run(&command),
    }
}
