//! The flags, and the operator's role that they describe.

use super::values::{
    external_id, managed_policy, partition, path, policy_name, region, role_arn, role_name,
    session_tag_key,
};
use crate::api::account::Partition;
use crate::api::grant::ManagedPolicy;
use crate::grant::operator_role::OperatorRole;
use crate::grant::{AccountId, RepositoryPattern};
use crate::policy::{Document, Installation};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

// Lines have at most 80 characters, because wrapped commands cannot be copied.
const EXAMPLES: &str = "\
Examples:
  registry-grants iam-policy --account registry --account-id 111111111111 \\
  --operator-role-arn arn:aws:iam::333333333333:role/registry-grants-operator \\
    --external-id EXAMPLE --output-dir registry
  aws iam create-policy --policy-name registry-grants-boundary \\
    --policy-document file://registry/boundary.json
  aws iam create-role --role-name registry-grants \\
    --assume-role-policy-document file://registry/trust.json
  aws iam put-role-policy --role-name registry-grants \\
    --policy-name registry-grants \\
    --policy-document file://registry/permissions.json

  # A stack set for all consumer accounts:
  registry-grants iam-policy --account consumer --external-id EXAMPLE \\
  --operator-role-arn arn:aws:iam::333333333333:role/registry-grants-operator \\
    --format cloudformation > consumer.template

  # One team's repositories, for one installation, with Terraform:
  registry-grants iam-policy --account registry --external-id EXAMPLE \\
    --repository 'team-b/*' --region eu-central-1 --installation 0123456789ab \\
    --format terraform > registry-grants.tf

  # The permissions of the operator's own identity:
  registry-grants iam-policy --document operator";

/// Arguments of the subcommand, which `Command::IamPolicy` describes.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The account's side: `registry` owns repositories, `consumer` pulls and pushes. Give both if
    /// it is both.
    #[arg(long, value_name = "SIDE")]
    account: Vec<Side>,

    /// The account's number, 12 digits. Templates use the account that they are deployed to.
    #[arg(long, value_name = "NUMBER")]
    account_id: Option<AccountId>,

    /// The account's partition: aws, aws-cn, aws-us-gov or aws-eusc.
    #[arg(long, default_value = "aws", value_parser = partition)]
    partition: Partition,

    /// The ARN of the operator's own role, which may assume this one. Without it, a template has a
    /// parameter for it.
    #[arg(long, value_name = "ARN", value_parser = role_arn)]
    operator_role_arn: Option<String>,

    /// The external ID that the operator must present, as in the AWSAccount: 2 to 1,224 characters.
    /// Recommended: it prevents others from making the operator act in this account on their
    /// behalf. It is not a secret.
    #[arg(long, value_name = "ID", value_parser = external_id)]
    external_id: Option<String>,

    /// The key of another transitive session tag of the operator's own identity, such as a tag of
    /// single sign-on; can be repeated. The tags of EKS Pod Identity, and the operator's own, are
    /// always allowed.
    #[arg(long, value_name = "KEY", value_parser = session_tag_key)]
    session_tag_key: Vec<String>,

    /// The path of the roles and instance profiles that the operator creates, as in the AWSAccount.
    /// Nothing else may be under it.
    #[arg(long, default_value = "/registry-grants/", value_parser = path)]
    path: String,

    /// The name of the role.
    #[arg(long, value_name = "NAME", default_value = "registry-grants", value_parser = role_name)]
    role_name: String,

    /// The name of the permissions boundary.
    #[arg(long, value_name = "NAME", default_value = "registry-grants-boundary", value_parser = policy_name)]
    boundary_name: String,

    /// A repository, or a prefix that ends in *, whose policy the operator may write; can be
    /// repeated. Unset: all repositories of the registry.
    #[arg(long, value_name = "PATTERN")]
    repository: Vec<RepositoryPattern>,

    /// A region of these repositories; can be repeated. Unset: all regions.
    #[arg(long, value_parser = region)]
    region: Vec<String>,

    /// Allow only this installation of the operator (12 hex digits) to change what it created.
    /// Unset: resources with the tag of any installation can be changed.
    #[arg(long, value_name = "ID")]
    installation: Option<Installation>,

    /// An AWS managed policy that registry roles may have, as the AWSAccount's rules list them; can
    /// be repeated. Unset: all three that a grant can request.
    #[arg(long, value_name = "NAME", value_parser = managed_policy)]
    managed_policy: Vec<ManagedPolicy>,

    /// Registry roles never have an AWS managed policy.
    #[arg(long, conflicts_with = "managed_policy")]
    no_managed_policies: bool,

    /// Allow the operator to add its policy to instance roles of others (management Extend) that
    /// have the tag registrygrants.dev/allow-extend, under any path, and to remove the trust
    /// statement that earlier versions added. Unset: it writes to no role of others.
    #[arg(long)]
    allow_extend: bool,

    /// Allow the operator to adopt registry roles of others (adopt) that have the tag
    /// registrygrants.dev/allow-adopt, under any path. Unset: it adopts none.
    #[arg(long)]
    allow_adopt: bool,

    /// The output format. `json`: plain documents. `cloudformation`: a template for the account
    /// that it is deployed to, also as a stack set. `terraform`: HCL.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    /// Print only this document, as `aws iam` takes it. Unset: one JSON object with all documents.
    #[arg(long, value_enum)]
    document: Option<DocumentKind>,

    /// Write trust.json, permissions.json and boundary.json into this folder, instead of printing
    /// them.
    #[arg(long, value_name = "FOLDER", conflicts_with = "document")]
    output_dir: Option<PathBuf>,
}

/// The side of grants that an account is on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Registry,
    Consumer,
}

/// The output format.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Cloudformation,
    Terraform,
}

/// One of the documents.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DocumentKind {
    /// Who may assume the role.
    Trust,
    /// What the role may do.
    Permissions,
    /// The permissions boundary of the roles that the operator creates.
    Boundary,
    /// The permissions of the operator's own identity.
    Operator,
}

impl DocumentKind {
    /// Returns the document's key, which is also its file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Permissions => "permissions",
            Self::Boundary => "boundary",
            Self::Operator => "operator",
        }
    }
}

/// The default values of a template's parameters.
#[derive(Clone, Copy)]
pub struct Defaults<'a> {
    pub operator_role_arn: Option<&'a str>,
    pub external_id: Option<&'a str>,
}

impl Arguments {
    pub fn format(&self) -> Format {
        self.format
    }

    pub fn output_dir(&self) -> Option<&Path> {
        self.output_dir.as_deref()
    }

    /// Returns the requested documents.
    pub fn kinds(&self) -> Vec<DocumentKind> {
        match (self.document, &self.output_dir) {
            (Some(one), _) => vec![one],
            (None, Some(_)) => vec![
                DocumentKind::Trust,
                DocumentKind::Permissions,
                DocumentKind::Boundary,
            ],
            (None, None) => vec![
                DocumentKind::Trust,
                DocumentKind::Permissions,
                DocumentKind::Boundary,
                DocumentKind::Operator,
            ],
        }
    }

    /// Returns true if a trust policy without an external ID is printed.
    pub fn lacks_external_id(&self) -> bool {
        self.external_id.is_none() && self.kinds().contains(&DocumentKind::Trust)
    }

    pub fn defaults(&self) -> Defaults<'_> {
        Defaults {
            operator_role_arn: self.operator_role_arn.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }

    /// Returns the permissions of the operator's own identity.
    pub fn operator(&self) -> Document {
        OperatorRole::operator(self.partition, &self.role_name)
    }

    /// Returns the role in the account that is named, as far as this document needs it.
    pub fn management(&self, kind: DocumentKind) -> Result<OperatorRole, String> {
        self.sides()?;
        let account = self
            .account_id
            .as_ref()
            .ok_or("--account-id is required: the account's number")?;
        if kind == DocumentKind::Trust && self.operator_role_arn.is_none() {
            return Err("--operator-role-arn is required: the operator's own role".into());
        }
        // Only the trust policy contains the operator's role.
        let operator_role = self.operator_role_arn.as_deref().unwrap_or_default();
        self.filled_in(account.as_str(), operator_role, self.external_id.as_deref())
    }

    /// Returns the role in the account that a template is deployed to, with these placeholders.
    pub fn template(
        &self,
        account: &str,
        operator_role: &str,
        external_id: &str,
    ) -> Result<OperatorRole, String> {
        for (flag, given) in [
            ("--account-id", self.account_id.is_some()),
            ("--document", self.document.is_some()),
            ("--output-dir", self.output_dir.is_some()),
        ] {
            if given {
                return Err(format!(
                    "{flag} needs --format json; a template contains all documents, for the account that it is deployed to"
                ));
            }
        }
        self.filled_in(
            account,
            operator_role,
            self.external_id.is_some().then_some(external_id),
        )
    }

    fn filled_in(
        &self,
        account: &str,
        operator_role: &str,
        external_id: Option<&str>,
    ) -> Result<OperatorRole, String> {
        self.sides()?;
        let wrong = self.contradictions();
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        Ok(OperatorRole {
            registry: self.account.contains(&Side::Registry),
            consumer: self.account.contains(&Side::Consumer),
            account: account.into(),
            partition: self.partition,
            operator_role: operator_role.into(),
            external_id: external_id.map(String::from),
            path: self.path.clone(),
            role: self.role_name.clone(),
            boundary: self.boundary_name.clone(),
            repositories: self.repositories(),
            regions: distinct(&self.region),
            installation: self.installation.clone(),
            managed_policies: self.managed_policies(),
            extend: self.allow_extend,
            adopt: self.allow_adopt,
            session_tag_keys: distinct(&self.session_tag_key),
        })
    }

    /// Returns every flag that contradicts another one.
    fn contradictions(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (flag, given) in [
            ("--repository", !self.repository.is_empty()),
            ("--region", !self.region.is_empty()),
            ("--managed-policy", !self.managed_policy.is_empty()),
            ("--no-managed-policies", self.no_managed_policies),
            ("--allow-adopt", self.allow_adopt),
        ] {
            if given && !self.account.contains(&Side::Registry) {
                wrong.push(format!(
                    "{flag} needs --account registry: repositories and their roles are in the registry account"
                ));
            }
        }
        if self.allow_extend && !self.account.contains(&Side::Consumer) {
            wrong.push("--allow-extend needs --account consumer: instance roles are in the consumer account".into());
        }
        let partition = self.partition.name();
        for region in &self.region {
            if !self.partition.has_region(region) {
                wrong.push(format!(
                    "--region {region} is not in --partition {partition}"
                ));
            }
        }
        if let Some(arn) = &self.operator_role_arn
            && !arn.starts_with(&format!("arn:{partition}:"))
        {
            wrong.push(format!(
                "--operator-role-arn {arn} is not in --partition {partition}: a role of another partition cannot assume this one"
            ));
        }
        wrong
    }

    /// Checks that a side is given.
    fn sides(&self) -> Result<(), String> {
        if self.account.is_empty() {
            return Err("--account is required: registry, consumer, or both".into());
        }
        Ok(())
    }

    /// Returns the repositories, without those that a prefix covers.
    fn repositories(&self) -> Vec<RepositoryPattern> {
        let mut named = distinct(&self.repository);
        if named.is_empty() {
            named.push(RepositoryPattern::Prefix(String::new()));
        }
        named
            .iter()
            .filter(|one| !named.iter().any(|other| other != *one && other.covers(one)))
            .cloned()
            .collect()
    }

    fn managed_policies(&self) -> Vec<ManagedPolicy> {
        if self.no_managed_policies {
            Vec::new()
        } else if self.managed_policy.is_empty() {
            vec![
                ManagedPolicy::AmazonEC2ContainerRegistryPowerUser,
                ManagedPolicy::AmazonEC2ContainerRegistryPullOnly,
                ManagedPolicy::AmazonEC2ContainerRegistryReadOnly,
            ]
        } else {
            distinct(&self.managed_policy)
        }
    }
}

fn distinct<T: Clone + Ord>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort();
    values.dedup();
    values
}
