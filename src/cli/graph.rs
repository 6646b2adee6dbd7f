//! `registry-grants graph`: who can pull and push what, across accounts.

mod draw;
mod edges;
mod table;
#[cfg(test)]
mod tests;

use super::iam_policy::print::pretty;
use super::manifests::Sources;
use super::text::print;
use crate::api::CrossAccountRegistryGrant;
use edges::Edge;
use kube::api::ListParams;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use std::error::Error;

const EXAMPLES: &str = "\
Exit status: 0 printed, 1 the cluster or a file cannot be read.

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
    sources: Sources,

    /// The kubeconfig's context, where no files are given. Unset: the current one. Grants must be listable; nothing else is asked for.
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

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { sources, context, output } = arguments;
    let mut edges = match sources.files.is_empty() {
        true => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let grants = runtime.block_on(listed(context.clone(), sources.namespace.as_deref()))?;
            grants.iter().map(Edge::of).collect::<Vec<_>>()
        }
        false => {
            let files = sources.read()?;
            files.notes.iter().for_each(|note| eprintln!("registry-grants: {note}"));
            files.grants.iter().map(|(name, grant)| Edge::judged(name, grant, &files)).collect()
        }
    };
    edges.sort();
    let text = match output {
        Output::Table => table::table(&edges),
        Output::Dot => draw::dot(&edges),
        Output::Mermaid => draw::mermaid(&edges),
        Output::Json => pretty(&serde_json::json!({ "grants": edges })),
    };
    Ok(print(&text)?)
}

/// How many grants one answer of the API server has.
const PAGE: u32 = 500;

async fn listed(
    context: Option<String>,
    namespace: Option<&str>,
) -> Result<Vec<CrossAccountRegistryGrant>, Box<dyn Error>> {
    let config = match context {
        Some(_) => Config::from_kubeconfig(&KubeConfigOptions { context, ..KubeConfigOptions::default() }).await?,
        None => Config::infer().await?,
    };
    let client = Client::try_from(config)?;
    let api: Api<CrossAccountRegistryGrant> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let (mut grants, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page =
            api.list(&params).await.map_err(|error| super::text::plain(&format!("cannot list the grants: {error}")))?;
        grants.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(grants),
        }
    }
}
