//! `registry-grants crds`: the definitions that the code was built with.

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
    /// Write one file for each into this folder, instead of printing them.
    #[arg(long)]
    output_dir: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    for (name, yaml) in documents()? {
        match &arguments.output_dir {
            Some(folder) => std::fs::write(folder.join(name), yaml)?,
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
