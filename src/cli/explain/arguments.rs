//! The arguments, and the question that they ask.

use crate::api::account::Partition;
use crate::api::grant::AccessAction;
use crate::cli::manifests::Sources;
use crate::grant::parse::{is_iam_name, is_path};
use crate::grant::partition::is_region;
use crate::grant::{AccountId, RepositoryPattern};
use crate::policy::arn::Arn;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

// Lines have at most 80 characters, because wrapped commands cannot be copied.
const EXAMPLES: &str = "\
Exit status: 0 allowed, 2 denied, 3 it depends or a policy could not be read,
1 error.

Examples:
  # Live: reads both sides with the credentials of the AWSAccounts in the file.
  registry-grants explain -f accounts.yaml --action pull \\
    --principal arn:aws:iam::222222222222:role/registry-grants/miq-instance \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/miqp-devops

  # Through a role in the registry account:
  registry-grants explain -f accounts.yaml --action push \\
    --principal arn:aws:iam::222222222222:role/registry-grants/miq-instance \\
    --assume arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/miqp-devops

  # Offline, with policies in files:
  registry-grants explain --action ecr:BatchGetImage \\
    --principal arn:aws:iam::222222222222:role/node \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/web \\
    --identity-policy node.json --resource-policy repository.json \\
    --context aws:PrincipalOrgID=o-example";

#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The principal: the ARN of a role. Offline, also of a user or an account's root, or the name
    /// of a service.
    #[arg(long, value_name = "ARN")]
    principal: String,

    /// The action: `pull` or `push`, with every call that a client makes for it, or one action such
    /// as `ecr:ListImages`.
    #[arg(long, value_name = "ACTION")]
    action: String,

    /// The repository's ARN.
    #[arg(long, value_name = "ARN")]
    repository: String,

    /// A role that the principal assumes first.
    #[arg(long, value_name = "ARN")]
    assume: Option<String>,

    /// The external ID that the principal presents when it assumes the role.
    #[arg(long, value_name = "ID", requires = "assume")]
    external_id: Option<String>,

    /// A condition key of the request, with its value; repeat it for several values. A key without
    /// `=` is absent from the request. Other keys that do not follow from the request are unknown:
    /// a verdict that needs one depends on it.
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,

    #[command(flatten)]
    pub(super) sources: Sources,

    /// Offline: a policy of the principal; repeat it for several.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    pub(super) identity_policy: Vec<PathBuf>,

    /// Offline: the principal's permissions boundary.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    pub(super) boundary: Option<PathBuf>,

    /// Offline: the repository policy, or the registry policy; repeat it for both.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    pub(super) resource_policy: Vec<PathBuf>,

    /// Offline: the trust policy of the role to assume.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    pub(super) trust_policy: Option<PathBuf>,

    /// Offline: a policy of the role to assume; repeat it for several.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    pub(super) role_policy: Vec<PathBuf>,

    /// Offline: the permissions boundary of the role to assume.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    pub(super) role_boundary: Option<PathBuf>,

    /// The timeout of a call to AWS.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) aws_call_timeout: Duration,

    /// The output format. `text`: for people. `json`: for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// The question whether a principal has access.
pub struct AccessQuestion {
    pub principal: Identity,
    pub action: Action,
    pub repository: Repository,
    pub assume: Option<Identity>,
    pub external_id: Option<String>,
    pub context: BTreeMap<String, Vec<String>>,
}

/// A role, a user or a root, by its ARN; or a service by its name, which has no account.
#[derive(Clone)]
pub struct Identity {
    pub arn: String,
    pub account: Option<AccountId>,
}

pub enum Action {
    Images(AccessAction),
    Single(String),
}

pub struct Repository {
    pub arn: String,
    pub region: String,
    pub account: AccountId,
    pub name: String,
}

impl Arguments {
    /// Parses the question.
    ///
    /// # Errors
    /// The first argument that is invalid.
    pub fn question(&self) -> Result<AccessQuestion, String> {
        let mut context: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in &self.context {
            match text.split_once('=') {
                Some((key, value)) => {
                    let values = context.entry(key.to_owned()).or_default();
                    values.push(value.to_owned());
                }
                None => {
                    context.entry(text.clone()).or_default();
                }
            }
        }
        let action = match self.action.to_ascii_lowercase().as_str() {
            "pull" => Action::Images(AccessAction::Pull),
            "push" => Action::Images(AccessAction::Push),
            action if action.starts_with("ecr:") && action.len() > 4 => {
                Action::Single(self.action.clone())
            }
            _ => {
                return Err(format!(
                    "--action: `{}` is neither pull nor push nor an action of ECR (ecr:…)",
                    self.action
                ));
            }
        };
        Ok(AccessQuestion {
            principal: identity("--principal", &self.principal)?,
            action,
            repository: repository(&self.repository)?,
            assume: self
                .assume
                .as_ref()
                .map(|arn| role("--assume", arn))
                .transpose()?,
            external_id: self.external_id.clone(),
            context,
        })
    }

    /// Returns true if any policy is given in a file.
    pub fn is_offline(&self) -> bool {
        !self.identity_policy.is_empty()
            || !self.resource_policy.is_empty()
            || !self.role_policy.is_empty()
            || self.boundary.is_some()
            || self.trust_policy.is_some()
            || self.role_boundary.is_some()
    }
}

fn service(flag: &str, text: &str) -> Result<Identity, String> {
    let is_service = text.contains(".amazonaws.")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    if !is_service {
        return Err(format!(
            "{flag}: `{text}` is neither an ARN nor a service such as lambda.amazonaws.com"
        ));
    }
    Ok(Identity {
        arn: text.to_owned(),
        account: None,
    })
}

fn identity(flag: &str, text: &str) -> Result<Identity, String> {
    if !text.starts_with("arn:") {
        return service(flag, text);
    }
    let Some(Arn {
        partition,
        service: "iam",
        region: "",
        account,
        resource,
    }) = Arn::parse(text)
    else {
        return Err(format!(
            "{flag}: `{text}` is not the ARN of a role, a user or an account's root (arn:aws:iam::ACCOUNT:role/NAME); for a session, give its role"
        ));
    };
    partition_of(flag, partition)?;
    let is_named = ["role/", "user/"]
        .iter()
        .find_map(|kind| resource.strip_prefix(kind))
        .is_some_and(is_path_and_name);
    if !is_named && resource != "root" {
        return Err(format!(
            "{flag}: `{text}` is not the ARN of a role, a user or an account's root: names have 1 to 64 letters, digits and + = , . @ - _"
        ));
    }
    let account = account.parse().map_err(|why| format!("{flag}: {why}"))?;
    Ok(Identity {
        arn: text.to_owned(),
        account: Some(account),
    })
}

/// Returns true for the rest of an ARN after `role/` or `user/`.
fn is_path_and_name(text: &str) -> bool {
    text.rsplit_once('/')
        .map_or(is_iam_name(text, 64), |(path, name)| {
            is_path(&format!("/{path}/")) && is_iam_name(name, 64)
        })
}

fn role(flag: &str, text: &str) -> Result<Identity, String> {
    let identity = identity(flag, text)?;
    if !text.contains(":role/") {
        return Err(format!("{flag}: `{text}` is not the ARN of a role"));
    }
    Ok(identity)
}

fn repository(text: &str) -> Result<Repository, String> {
    let Some(Arn {
        partition,
        service: "ecr",
        region,
        account,
        resource,
    }) = Arn::parse(text)
    else {
        return Err(no_repository(text));
    };
    let name = resource
        .strip_prefix("repository/")
        .ok_or_else(|| no_repository(text))?;
    let partition = partition_of("--repository", partition)?;
    if !is_region(region) || !partition.has_region(region) {
        return Err(format!(
            "--repository: `{region}` is not a region of partition {}",
            partition.name()
        ));
    }
    let account = account
        .parse()
        .map_err(|why| format!("--repository: {why}"))?;
    // Without a tag or digest, because access is granted to entire repositories.
    match name.parse() {
        Ok(RepositoryPattern::Name(_)) => Ok(Repository {
            arn: text.to_owned(),
            region: region.to_owned(),
            account,
            name: name.to_owned(),
        }),
        Ok(RepositoryPattern::Prefix(_)) | Err(_) => Err(format!(
            "--repository: `{resource}` is not a repository: a name has lowercase letters and digits, with single . _ - / between them, \
             and no tag or digest"
        )),
    }
}

fn no_repository(text: &str) -> String {
    format!(
        "--repository: `{text}` is not a repository's ARN (arn:aws:ecr:REGION:ACCOUNT:repository/NAME)"
    )
}

/// Returns the partition that an ARN names.
fn partition_of(flag: &str, text: &str) -> Result<Partition, String> {
    let known = [
        Partition::Aws,
        Partition::AwsCn,
        Partition::AwsUsGov,
        Partition::AwsEusc,
    ];
    known
        .into_iter()
        .find(|partition| partition.name() == text)
        .ok_or_else(|| {
            format!(
                "{flag}: unknown partition `{text}`: known are aws, aws-cn, aws-us-gov and aws-eusc"
            )
        })
}
