//! Reads the policies in AWS that a verdict depends on. A policy that cannot be read becomes part
//! of the verdict, because it may not matter.

use super::answer::AccessInputs;
use super::arguments::{AccessQuestion, Arguments, Identity, Repository};
use crate::api::AWSAccount;
use crate::api::account::{AWSAccountSpec, Partition};
use crate::aws::ecr::PolicyRead;
use crate::aws::managed_policies::with_managed_policies;
use crate::aws::{Account, Aws};
use crate::cli::environment;
use crate::clock::WallClock;
use crate::grant::access::Holder;
use crate::grant::{AccountId, Problem};
use crate::policy::evaluate::Named;
use crate::policy::{Document, Installation};
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::sync::Arc;

type Session = Result<Arc<Account>, Problem>;

struct Reader {
    aws: Aws,
    accounts: BTreeMap<AccountId, Arc<AWSAccount>>,
}

/// Reads the policies of both sides.
pub async fn live(
    question: &AccessQuestion,
    arguments: &Arguments,
) -> Result<AccessInputs, String> {
    let accounts = if arguments.sources.names.files.is_empty() {
        BTreeMap::new()
    } else {
        arguments.sources.read()?.accounts
    };
    // The names of sessions depend on it, and nothing else.
    let installation = Installation::of_cluster("");
    let reader = Reader {
        aws: Aws::new(
            environment::aws::load(arguments.aws_call_timeout).await,
            &installation,
            arguments.aws_call_timeout,
            Metrics::default(),
            WallClock::system(),
        ),
        accounts,
    };
    Ok(AccessInputs {
        principal: reader.holder("--principal", &question.principal).await?,
        role: match &question.assume {
            Some(role) => Some(reader.holder("--assume", role).await?),
            None => None,
        },
        registry: reader.registry(&question.repository).await?,
    })
}

impl Reader {
    async fn session(&self, id: &AccountId, arn: &str) -> Session {
        let spec = self.accounts.get(id).map_or_else(
            // With the ambient credentials.
            || AWSAccountSpec {
                partition: Partition::of_arn(arn),
                ..AWSAccountSpec::default()
            },
            |account| account.spec.clone(),
        );
        self.aws.account(id, &spec, None).await
    }

    async fn holder(&self, flag: &str, identity: &Identity) -> Result<Holder, String> {
        let Identity { arn, account } = identity;
        let Some(id) = account.as_ref().filter(|_| arn.contains(":role/")) else {
            return Err(format!(
                "{flag}: only roles can be read in AWS; give the policies of `{arn}` in files (--identity-policy)"
            ));
        };
        let account = match self.session(id, arn).await {
            Ok(account) => account,
            Err(problem) => return Ok(unread(id, arn, &problem.message)),
        };
        let name = arn.rsplit('/').next().unwrap_or_default();
        let role = match account.role_with_tags_as_given(name).await {
            Ok(Some(role)) if role.arn == *arn => role,
            Ok(Some(role)) => {
                return Err(format!(
                    "{flag}: role {arn} does not exist, but {} does",
                    role.arn
                ));
            }
            Ok(None) => return Err(format!("{flag}: role {arn} does not exist")),
            Err(fault) => return Ok(unread(id, arn, &fault.to_string())),
        };
        let account = &account;
        let holder = with_managed_policies(&role, |policy| async move {
            account.managed_policy(&policy).await
        });
        Ok(holder.await)
    }

    async fn registry(&self, repository: &Repository) -> Result<Vec<Named>, String> {
        let Repository {
            arn,
            region,
            account: id,
            name,
        } = repository;
        let of_repository = format!("the policy of repository {name}");
        let of_registry = format!("the registry's own policy in account {id}, {region}");
        let account = match self.session(id, arn).await {
            Ok(account) => account,
            Err(problem) => {
                return Ok(vec![
                    Named::unreadable(of_repository, problem.message.clone()),
                    Named::unreadable(of_registry, problem.message),
                ]);
            }
        };
        let mut policies = Vec::new();
        match account.repository_policy(region, name).await {
            Ok(PolicyRead::NoRepository) => {
                return Err(format!("--repository: {arn} does not exist"));
            }
            Ok(PolicyRead::NoPolicy) => {}
            Ok(PolicyRead::Policy(text)) => {
                policies.push(Named::parsed(of_repository, Document::parse(&text)))
            }
            Err(fault) => policies.push(Named::unreadable(of_repository, fault.to_string())),
        }
        policies.extend(account.registry_policy(region).await);
        Ok(policies)
    }
}

/// Returns a role whose policies could not be read.
fn unread(account: &AccountId, arn: &str, why: &str) -> Holder {
    Holder {
        arn: arn.to_owned(),
        account: account.to_string(),
        id: None,
        tags: BTreeMap::new(),
        trust: Named::unreadable(format!("the trust policy of role {arn}"), why),
        identity: vec![Named::unreadable(
            format!("the policies of role {arn}"),
            why,
        )],
        boundary: None,
    }
}
