//! `registry-grants crds`: prints the custom resource definitions that the code was built with.
//!
//! - `reference`: every field of the resources as Markdown.

mod reference;

use super::io::write_into;
use super::terminal::print;
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use std::error::Error;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  registry-grants crds | kubectl apply --server-side -f -
  registry-grants crds --output-dir crds";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Write one file for each definition into this folder, instead of printing them. The folder is
    /// created if it is missing.
    #[arg(long, conflicts_with = "reference")]
    output_dir: Option<PathBuf>,

    /// Print every field with its type, meaning and limits as Markdown instead
    /// (docs/reference/api.md).
    #[arg(long)]
    reference: bool,
}

/// Prints or writes the definitions, or prints their reference.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.reference {
        let definitions = [CrossAccountRegistryGrant::crd(), AWSAccount::crd()];
        return Ok(print(&reference::markdown(&definitions)?)?);
    }
    for (name, yaml) in documents()? {
        match &arguments.output_dir {
            Some(folder) => write_into(folder, &name, &yaml)?,
            None => print!("---\n{yaml}"),
        }
    }
    Ok(())
}

/// Returns the file names and YAML of both definitions.
fn documents() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    [AWSAccount::crd(), CrossAccountRegistryGrant::crd()]
        .into_iter()
        .map(|crd: CustomResourceDefinition| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((name, serde_saphyr::to_string(&crd)?))
        })
        .collect()
}
