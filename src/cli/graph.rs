//! `registry-grants graph`: who can pull and push what, across accounts.
//!
//! - `edges`: one grant as an edge.
//! - `draw`: Graphviz and Mermaid.
//! - `table`: a table, one grant a line.

mod draw;
mod edges;
mod table;
#[cfg(test)]
mod tests;

use super::iam_policy::print::pretty;
use super::manifests::{FileNames, Files};
use super::terminal::{plain, print};
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::controller::connection;
use edges::Edge;
use kube::api::ListParams;
use kube::{Api, Client};
use std::error::Error;
use std::process::ExitCode;

// No line longer than 80 characters: what is wrapped cannot be copied.
const EXAMPLES: &str = "\
Exit status: 0 printed, 1 the cluster or a file cannot be read, or a grant in a
file is Invalid.

Examples:
  # All grants of the cluster that kubectl talks to; of one namespace:
  registry-grants graph
  registry-grants graph --namespace team-b

  # As pictures:
  registry-grants graph --output dot | dot -Tsvg > grants.svg
  registry-grants graph --output mermaid > grants.mmd

  # From files, without a cluster: what no rule admits is shown as not ready.
  registry-grants graph -f accounts.yaml -f grants/";

/// `Command::Graph` says what it does.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    names: FileNames,

    /// Only the grants of this namespace. In files, grants that name no namespace are in it. Unset:
    /// those of all namespaces; in files, grants that name none are in `default`.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The kubeconfig's context, where no files are given. Unset: the current one. Grants must be
    /// listable; nothing else is asked for.
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    context: Option<String>,

    /// `table`: for people. `dot`, `mermaid`: pictures. `json`: for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Dot,
    Mermaid,
    Json,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let Arguments {
        names,
        namespace,
        context,
        output,
    } = arguments;
    let mut edges = match names.files.is_empty() {
        true => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let grants = runtime.block_on(listed(context.as_deref(), namespace.as_deref()))?;
            grants.iter().map(Edge::of).collect::<Vec<_>>()
        }
        false => {
            let files = Files::read(&names.files, namespace.as_deref().unwrap_or("default"))?;
            files
                .notes
                .iter()
                .for_each(|note| eprintln!("registry-grants: {note}"));
            let meant = files
                .grants
                .iter()
                .filter(|(name, _)| namespace.as_ref().is_none_or(|it| name.namespace == *it));
            meant
                .map(|(name, grant)| Edge::judged(name, grant, &files))
                .collect()
        }
    };
    edges.sort();
    let text = match output {
        Output::Table => table::table(&edges),
        Output::Dot => draw::dot(&edges),
        Output::Mermaid => draw::mermaid(&edges),
        Output::Json => pretty(&serde_json::json!({ "grants": edges })),
    };
    print(&text)?;
    // What a cluster's grants are is no mistake of this command's input.
    let invalid =
        |edge: &&Edge| !names.files.is_empty() && edge.reason == Reason::Invalid.to_string();
    let invalid: Vec<&Edge> = edges.iter().filter(invalid).collect();
    for Edge {
        grant,
        reason,
        message,
        ..
    } in &invalid
    {
        eprintln!(
            "registry-grants: {}: {}: {}",
            plain(grant),
            plain(reason),
            plain(message)
        );
    }
    Ok(if invalid.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many grants one answer of the API server has.
const PAGE: u32 = 500;

async fn listed(
    context: Option<&str>,
    namespace: Option<&str>,
) -> Result<Vec<CrossAccountRegistryGrant>, Box<dyn Error>> {
    let config = connection::config(context)
        .await
        .map_err(|why| plain(&why))?;
    let place = connection::place(&config);
    let failed = |error: &kube::Error| {
        plain(&format!(
            "{place}: cannot list the grants: {}",
            connection::causes(error)
        ))
    };
    let client = Client::try_from(config).map_err(|error| failed(&error))?;
    let api: Api<CrossAccountRegistryGrant> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let (mut grants, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = api.list(&params).await.map_err(|error| failed(&error))?;
        grants.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(grants),
        }
    }
}
