//! `registry-grants graph`: who can pull and push what, across accounts.
//!
//! - `edges`: one grant as an edge of the graph.
//! - `draw`: draws it for Graphviz and Mermaid.
//! - `table`: prints it as a table, one grant per line.

mod draw;
mod edges;
mod table;
#[cfg(test)]
mod tests;

use super::environment::cluster;
use super::json::pretty;
use super::manifests::{FileNames, Files};
use super::runtime::block_on;
use super::terminal::{note, plain, print};
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::text::with_causes;
use edges::Edge;
use kube::api::ListParams;
use kube::{Api, Client};
use std::error::Error;
use std::process::ExitCode;

// Lines have at most 80 characters, because wrapped commands cannot be copied.
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

  # From files, without a cluster: a grant that no rule admits is not ready.
  registry-grants graph -f accounts.yaml -f grants/";

/// Arguments of the subcommand, which `Command::Graph` describes.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    names: FileNames,

    /// Show only the grants of this namespace. In files, grants without a namespace are in it.
    /// Unset: the grants of all namespaces; in files, grants without a namespace are in `default`.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The context of the kubeconfig, if no files are given. Unset: the current one. It needs only
    /// the permission to list grants.
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    context: Option<String>,

    /// The output format. `table`: for people. `dot`, `mermaid`: pictures. `json`: for programs.
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

/// Prints the graph.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let Arguments {
        names,
        namespace,
        context,
        output,
    } = arguments;
    let are_files = !names.files.is_empty();
    let mut edges = if are_files {
        edges_in_files(names, namespace.as_deref())?
    } else {
        let grants = block_on(list_grants(context.as_deref(), namespace.as_deref()))??;
        grants.iter().map(Edge::of).collect()
    };
    edges.sort();
    let text = match output {
        Output::Table => table::table(&edges),
        Output::Dot => draw::dot(&edges),
        Output::Mermaid => draw::mermaid(&edges),
        Output::Json => pretty(&serde_json::json!({ "grants": edges })),
    };
    print(&text)?;
    // An invalid grant in a cluster is not an error in this command's input.
    let mut status = ExitCode::SUCCESS;
    for edge in &edges {
        if are_files && edge.reason == Reason::Invalid.to_string() {
            note(edge.explanation());
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}

/// Returns the edges of the grants in files, optionally of only one namespace.
fn edges_in_files(names: &FileNames, namespace: Option<&str>) -> Result<Vec<Edge>, String> {
    let files = Files::read(&names.files, namespace.unwrap_or("default"))?;
    files.print_notes();
    Ok(files
        .grants
        .iter()
        .filter(|(name, _)| namespace.is_none_or(|namespace| name.namespace == namespace))
        .map(|(name, grant)| Edge::judged(name, grant, &files))
        .collect())
}

/// Maximum number of grants in one response of the API server.
const PAGE: u32 = 500;

/// Lists the grants of the cluster, optionally of only one namespace.
async fn list_grants(
    context: Option<&str>,
    namespace: Option<&str>,
) -> Result<Vec<CrossAccountRegistryGrant>, String> {
    let config = cluster::config(context).await.map_err(|why| plain(&why))?;
    let place = cluster::place(&config);
    let client = Client::try_from(config).map_err(|error| cannot_list(&place, &error))?;
    let api: Api<CrossAccountRegistryGrant> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut grants = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api
            .list(&params)
            .await
            .map_err(|error| cannot_list(&place, &error))?;
        grants.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(grants),
        }
    }
}

fn cannot_list(place: &str, error: &kube::Error) -> String {
    plain(&format!(
        "{place}: cannot list the grants: {}",
        with_causes(error)
    ))
}
