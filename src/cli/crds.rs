//! `registry-grants crds`: the definitions that the code was built with.
//!
//! - `reference`: every field of the resources as Markdown.

mod reference;

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
    /// Write one file for each into this folder, which is made where it is missing, instead of
    /// printing them.
    #[arg(long, conflicts_with = "reference")]
    output_dir: Option<PathBuf>,

    /// Print every field with its type, meaning and limits as Markdown instead:
    /// docs/reference/api.md.
    #[arg(long)]
    reference: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.reference {
        return Ok(super::terminal::print(&reference::markdown(&[
            CrossAccountRegistryGrant::crd(),
            AWSAccount::crd(),
        ])?)?);
    }
    for (name, yaml) in documents()? {
        match &arguments.output_dir {
            Some(folder) => {
                let file = folder.join(name);
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(&file, yaml))
                    .map_err(|error| format!("--output-dir: {}: {error}", file.display()))?;
            }
            None => print!("---\n{yaml}"),
        }
    }
    Ok(())
}

/// File names and YAML of both definitions.
fn documents() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    [AWSAccount::crd(), CrossAccountRegistryGrant::crd()]
        .into_iter()
        .map(|crd: CustomResourceDefinition| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((name, serde_saphyr::to_string(&crd)?))
        })
        .collect()
}
