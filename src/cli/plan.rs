//! `registry-grants plan`: what the operator would do for grants in files.
//!
//! - `output`: a plan as text and as JSON.

mod output;

use super::environment;
use super::manifests::{Files, Sources};
use super::runtime::block_on;
use super::terminal::{note, print};
use crate::api::conditions::Reason;
use crate::clock::WallClock;
use crate::controller::plan::{GrantPlan, Manifests, plan_grants};
use crate::grant::{AccountLookup as _, GrantName};
use crate::policy::Installation;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

// Lines have at most 80 characters, because wrapped commands cannot be copied.
const EXAMPLES: &str = "\
Exit status: 0 nothing to do, 2 there are changes, 1 a grant is refused, a call
would fail, or something cannot be read.

Examples:
  # What these files would change. They also contain the accounts' rules and
  # credentials:
  registry-grants plan -f accounts.yaml -f grant.yaml \\
    --installation 0123456789ab

  # What the operator would change now for the grants of a cluster. The status
  # shows what it did before:
  kubectl get awsaccounts,carg --all-namespaces --output yaml |
    registry-grants plan -f - --complete --installation 0123456789ab

  # In a pipeline:
  registry-grants plan -f manifests/ --output json > plan.json";

/// Arguments of the subcommand, which `Command::Plan` describes.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    sources: Sources,

    /// The installation ID, 12 hex digits, whose marks are on existing resources. The operator logs
    /// it when it starts. Unset: an operator that has created nothing yet, for which the resources
    /// of another installation are a conflict.
    #[arg(long, env = "REGISTRY_GRANTS_INSTALLATION", value_name = "ID")]
    installation: Option<Installation>,

    /// The files contain all grants of the installation. Without it, the plan keeps what other
    /// grants have in the repository policies.
    #[arg(long)]
    complete: bool,

    /// The timeout of a call to AWS.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    aws_call_timeout: Duration,

    /// The output format. `text`: for people. `json`: for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Whether to colour the text. `auto`: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    fn is_on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                std::io::stdout().is_terminal() && !no_color
            }
        }
    }
}

/// Exit status if there are changes.
const CHANGES: u8 = 2;

/// Prints the plan.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let Arguments {
        sources,
        installation,
        complete,
        aws_call_timeout,
        output,
        color,
    } = arguments;
    if sources.names.files.is_empty() {
        return Err(
            "there are no files: name those with grants by -f; `-` is standard input".into(),
        );
    }
    let files = sources.read()?;
    files.print_notes();
    if files.grants.is_empty() {
        return Err("there is no CrossAccountRegistryGrant in the files".into());
    }
    let installation = installation.clone().unwrap_or_else(|| {
        note("no --installation: the plan is for an operator that has created nothing yet");
        Installation::of_cluster("")
    });
    let invalid = files.invalid.clone();
    let mut plans = block_on(async {
        plan_grants(
            manifests(files, *complete),
            &installation,
            *aws_call_timeout,
            environment::aws::load(*aws_call_timeout).await,
            WallClock::system(),
        )
        .await
    })?;
    for GrantPlan {
        grant, problems, ..
    } in &mut plans
    {
        let is_known = problems
            .iter()
            .any(|problem| problem.reason == Reason::Invalid);
        if !is_known {
            problems.extend(invalid.get(grant).cloned());
        }
    }
    print(&match output {
        Output::Text => output::text(&plans, color.is_on()),
        Output::Json => output::json(&plans),
    })?;
    Ok(status(&plans))
}

fn status(plans: &[GrantPlan]) -> ExitCode {
    if plans.iter().any(|plan| !plan.problems.is_empty()) {
        ExitCode::FAILURE
    } else if plans.iter().any(|plan| !plan.changes.is_empty()) {
        ExitCode::from(CHANGES)
    } else {
        ExitCode::SUCCESS
    }
}

fn manifests(files: Files, complete: bool) -> Manifests {
    let mut namespaces = BTreeMap::new();
    for GrantName { namespace, .. } in files.grants.keys() {
        let labels = files.namespace_labels(namespace).unwrap_or_default();
        namespaces.insert(namespace.clone(), labels);
    }
    let Files {
        accounts,
        grants,
        namespaces: _,
        invalid: _,
        notes: _,
    } = files;
    Manifests {
        grants: grants.into_values().collect(),
        accounts: accounts.into_values().map(Arc::unwrap_or_clone).collect(),
        namespaces,
        complete,
    }
}
