//! `registry-grants handoff`: what an account's admin adds by hand, where the operator does not
//! write.
//!
//! - `select`: selects the account, and the grants that concern it.
//! - `validated`: validates a grant as if the account were managed.
//! - `gather`: collects the documents for one account from the grants.
//! - `model`: the documents, before they are printed.
//! - `shell`: AWS CLI commands.
//! - `cloudformation`: a CloudFormation template.
//! - `terraform`: Terraform's HCL.
//! - `value`: one JSON object.

mod cloudformation;
mod gather;
mod model;
mod select;
mod shell;
mod terraform;
#[cfg(test)]
mod tests;
mod validated;
mod value;

use super::json::pretty;
use super::manifests::Sources;
use super::terminal::print;
use crate::grant::AccountId;
use crate::policy::Installation;
use std::error::Error;

// Lines have at most 80 characters, because wrapped commands cannot be copied.
const EXAMPLES: &str = "\
Exit status: 0 printed, 1 an error, or no rule admits a grant.

Examples:
  # What the admin of a consumer account without an AWSAccount adds:
  registry-grants handoff -f accounts.yaml -f grants/ > handoff.json
  registry-grants handoff -f accounts.yaml -f grants/ --format terraform \\
    > registry-grants.tf

  # The grants of a cluster, for one account, as a script:
  kubectl get awsaccounts,carg,namespaces -A -o yaml |
    registry-grants handoff -f - --account 222222222222 --format cli \\
    > handoff.sh

  # The registry's side as well, including its repository policies:
  registry-grants handoff -f accounts.yaml -f grants/ --account 111111111111 \\
    --format cli > registry.sh";

/// Arguments of the subcommand, which `Command::Handoff` describes.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    sources: Sources,

    /// The account whose admin gets the handoff, as consumer or as registry. Unset: the consumer
    /// account without an AWSAccount, if there is only one.
    #[arg(long, value_name = "NUMBER")]
    account: Option<AccountId>,

    /// The operator's installation ID, 12 hex digits: the value of the tag
    /// registrygrants.dev/installation on its roles. Needed only if the operator chooses the name
    /// of a grant's registry role, which contains the ID.
    #[arg(long, value_name = "ID")]
    installation: Option<Installation>,

    /// `json`: one object with all documents. `cli`: a shell script of AWS CLI commands, which
    /// keeps statements of others (needs jq). `cloudformation`, `terraform`: a template.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

/// The output format.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Cli,
    Cloudformation,
    Terraform,
}

/// Prints the handoff.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments {
        sources,
        account,
        installation,
        format,
    } = arguments;
    let files = sources.read()?;
    files.print_notes();
    let handoff = gather::gather(&files, account.as_ref(), installation.as_ref())?;
    let text = match format {
        Format::Json => pretty(&value::of(&handoff)),
        Format::Cli => shell::script(&handoff),
        Format::Cloudformation => cloudformation::template(&handoff)?,
        Format::Terraform => terraform::hcl(&handoff),
    };
    Ok(print(&text)?)
}
