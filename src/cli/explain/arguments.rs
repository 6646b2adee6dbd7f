//! What is asked, and by which policies it is answered.

use super::AccessInputs;
use crate::api::account::Partition;
use crate::api::grant::AccessAction;
use crate::cli::manifests::Sources;
use crate::grant::access::Holder;
use crate::grant::parse::{is_iam_name, is_path};
use crate::grant::partition::is_region;
use crate::grant::{AccountId, RepositoryPattern};
use crate::policy::Document;
use crate::policy::arn::Arn;
use crate::policy::evaluate::Named;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

// No line longer than 80 characters: what is wrapped cannot be copied.
const EXAMPLES: &str = "\
Exit status: 0 allowed, 2 denied, 3 it depends or a policy could not be read,
1 error.

Examples:
  # Live: reads both sides with the credentials of the AWSAccounts in the file.
  registry-grants explain -f accounts.yaml --action pull \\
    --principal arn:aws:iam::222222222222:role/registry-grants/miq-instance \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/miqp-devops

  # By way of a role of the registry's account:
  registry-grants explain -f accounts.yaml --action push \\
    --principal arn:aws:iam::222222222222:role/registry-grants/miq-instance \\
    --assume arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/miqp-devops

  # Offline, by policies in files:
  registry-grants explain --action ecr:BatchGetImage \\
    --principal arn:aws:iam::222222222222:role/node \\
    --repository arn:aws:ecr:us-east-1:111111111111:repository/web \\
    --identity-policy node.json --resource-policy repository.json \\
    --context aws:PrincipalOrgID=o-example";

#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// Who: the ARN of a role. Offline also of a user or an account's root, or a service's name.
    #[arg(long, value_name = "ARN")]
    principal: String,

    /// What: `pull` or `push`, with every call that a client makes for it, or one action such as
    /// `ecr:ListImages`.
    #[arg(long, value_name = "ACTION")]
    action: String,

    /// Where: the repository's ARN.
    #[arg(long, value_name = "ARN")]
    repository: String,

    /// A role that the principal assumes first.
    #[arg(long, value_name = "ARN")]
    assume: Option<String>,

    /// The external ID that it presents when it assumes the role.
    #[arg(long, value_name = "ID", requires = "assume")]
    external_id: Option<String>,

    /// A condition key of the request, with its value; repeat it for several values. A key without
    /// `=` is not in the request. Keys that are not given and do not follow from the request are
    /// not known: a verdict that hangs on one depends on it.
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,

    #[command(flatten)]
    pub(super) sources: Sources,

    /// Offline: a policy of the principal; repeat it for several.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    identity_policy: Vec<PathBuf>,

    /// Offline: the principal's permissions boundary.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    boundary: Option<PathBuf>,

    /// Offline: the repository's policy, or the registry's; repeat it for both.
    #[arg(long, value_name = "FILE", help_heading = "Offline")]
    resource_policy: Vec<PathBuf>,

    /// Offline: the trust policy of the role that is assumed.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    trust_policy: Option<PathBuf>,

    /// Offline: a policy of the role that is assumed; repeat it for several.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    role_policy: Vec<PathBuf>,

    /// Offline: the permissions boundary of the role that is assumed.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assume",
        help_heading = "Offline"
    )]
    role_boundary: Option<PathBuf>,

    /// The bound on a call to AWS.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(super) aws_call_timeout: Duration,

    /// `text`: for people. `json`: for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// What is asked.
pub struct AccessQuestion {
    pub principal: Identity,
    pub action: Action,
    pub repository: Repository,
    pub assume: Option<Identity>,
    pub external_id: Option<String>,
    pub context: BTreeMap<String, Vec<String>>,
}

/// A role, a user or a root by its ARN; a service by its name, which has no account.
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
    pub fn question(&self) -> Result<AccessQuestion, String> {
        let mut context: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in &self.context {
            match text.split_once('=') {
                Some((key, value)) => context
                    .entry(key.to_owned())
                    .or_default()
                    .push(value.to_owned()),
                None => drop(context.entry(text.clone()).or_default()),
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

    /// The files with policies, where any was given.
    pub fn offline(&self) -> Option<Offline<'_>> {
        let any = !self.identity_policy.is_empty()
            || !self.resource_policy.is_empty()
            || !self.role_policy.is_empty()
            || [&self.boundary, &self.trust_policy, &self.role_boundary]
                .iter()
                .any(|file| file.is_some());
        any.then_some(Offline(self))
    }
}

fn identity(flag: &str, text: &str) -> Result<Identity, String> {
    if !text.starts_with("arn:") {
        let service = text.contains(".amazonaws.")
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        return match service {
            true => Ok(Identity {
                arn: text.to_owned(),
                account: None,
            }),
            false => Err(format!(
                "{flag}: `{text}` is neither an ARN nor a service such as lambda.amazonaws.com"
            )),
        };
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
            "{flag}: `{text}` is not the ARN of a role, a user or an account's root (arn:aws:iam::ACCOUNT:role/NAME); of a session, give its role"
        ));
    };
    partition_of(flag, partition)?;
    let path_and_name = ["role/", "user/"]
        .iter()
        .find_map(|kind| resource.strip_prefix(kind));
    let named = path_and_name.is_some_and(|names| {
        let (path, name) = names
            .rsplit_once('/')
            .map_or(("/".to_owned(), names), |(path, name)| {
                (format!("/{path}/"), name)
            });
        is_path(&path) && is_iam_name(name, 64)
    });
    if !named && resource != "root" {
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

fn role(flag: &str, text: &str) -> Result<Identity, String> {
    let identity = identity(flag, text)?;
    match text.contains(":role/") {
        true => Ok(identity),
        false => Err(format!("{flag}: `{text}` is not the ARN of a role")),
    }
}

fn repository(text: &str) -> Result<Repository, String> {
    let in_ecr = Arn::parse(text).filter(|arn| arn.service == "ecr");
    let Some((arn, name)) = in_ecr.and_then(|arn| {
        let name = arn.resource.strip_prefix("repository/")?;
        Some((arn, name))
    }) else {
        return Err(format!(
            "--repository: `{text}` is not a repository's ARN (arn:aws:ecr:REGION:ACCOUNT:repository/NAME)"
        ));
    };
    let Arn {
        partition,
        service: _,
        region,
        account,
        resource,
    } = arn;
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
    // Neither a tag nor a digest: access is to whole repositories.
    match name.parse() {
        Ok(RepositoryPattern::Name(_)) => Ok(Repository {
            arn: text.to_owned(),
            region: region.to_owned(),
            account,
            name: name.to_owned(),
        }),
        Ok(RepositoryPattern::Prefix(_)) | Err(_) => Err(format!(
            "--repository: `{resource}` names no repository: a name is of lowercase letters and digits, with single . _ - / between them, \
             and without tag or digest"
        )),
    }
}

/// The partition that an ARN names.
fn partition_of(flag: &str, text: &str) -> Result<Partition, String> {
    let known = [
        Partition::Aws,
        Partition::AwsCn,
        Partition::AwsUsGov,
        Partition::AwsEusc,
    ];
    let named = known.into_iter().find(|partition| partition.name() == text);
    named.ok_or_else(|| {
        format!("{flag}: `{text}` is no partition that is known: aws, aws-cn, aws-us-gov and aws-eusc are")
    })
}

/// Policies in files.
pub struct Offline<'a>(&'a Arguments);

impl Offline<'_> {
    pub fn read(&self, question: &AccessQuestion) -> Result<AccessInputs, String> {
        let Arguments {
            identity_policy,
            boundary,
            resource_policy,
            trust_policy,
            role_policy,
            role_boundary,
            ..
        } = self.0;
        let none = || Named::unreadable("the trust policy", "none was given (--trust-policy)");
        let role = |identity: &Identity| -> Result<Holder, String> {
            let trust = trust_policy
                .as_ref()
                .map(|file| policy(file))
                .transpose()?
                .unwrap_or_else(none);
            holder(identity, role_policy, role_boundary.as_ref(), trust)
        };
        Ok(AccessInputs {
            principal: holder(
                &question.principal,
                identity_policy,
                boundary.as_ref(),
                none(),
            )?,
            role: question.assume.as_ref().map(role).transpose()?,
            registry: resource_policy
                .iter()
                .map(|file| policy(file))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn holder(
    identity: &Identity,
    policies: &[PathBuf],
    boundary: Option<&PathBuf>,
    trust: Named,
) -> Result<Holder, String> {
    let Identity { arn, account } = identity;
    Ok(Holder {
        arn: arn.clone(),
        account: account
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        id: None,
        tags: BTreeMap::new(),
        trust,
        identity: policies
            .iter()
            .map(|file| policy(file))
            .collect::<Result<_, _>>()?,
        boundary: boundary.map(|file| policy(file)).transpose()?,
    })
}

fn policy(file: &Path) -> Result<Named, String> {
    let document: Document = crate::cli::policy::read(file).map_err(|error| error.to_string())?;
    Ok(Named::new(file.display().to_string(), document))
}
