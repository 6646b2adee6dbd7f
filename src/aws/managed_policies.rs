//! Reads managed policies. A policy that cannot be read is returned with the reason, because it may
//! not matter to the caller's question.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite};
use super::session::Account;
use crate::grant::access::Holder;
use crate::grant::observed::Role;
use crate::policy::Document;
use crate::policy::evaluate::Named;
use std::collections::BTreeMap;

/// Combines a role with its managed policies and its boundary, which `read` reads by their ARNs.
pub async fn with_managed_policies<F: Future<Output = Named>>(
    role: &Role,
    read: impl Fn(String) -> F,
) -> Holder {
    let mut managed = BTreeMap::new();
    for arn in Holder::managed_policies(role) {
        managed.insert(arn.clone(), read(arn.clone()).await);
    }
    Holder::of(role, &managed)
}

impl Account {
    /// Reads the default version of the managed policy with this ARN.
    pub async fn managed_policy(&self, arn: &str) -> Named {
        let name = format!("policy {arn}");
        match self.default_version(arn).await {
            Ok(Some(text)) => Named::parsed(name, Document::parse(&text)),
            Ok(None) => Named::unreadable(name, "it does not exist"),
            Err(fault) => Named::unreadable(name, fault.to_string()),
        }
    }

    /// Reads the text of a managed policy's default version; `None` if the policy does not exist.
    async fn default_version(&self, arn: &str) -> Result<Option<String>, AwsError> {
        let Some(version) = self.default_version_id(arn).await? else {
            return Ok(None);
        };
        let at = self.policy_at("iam:GetPolicyVersion", arn);
        let answer = self
            .iam
            .get_policy_version()
            .policy_arn(arn)
            .version_id(version)
            .send()
            .await;
        match answer {
            Ok(found) => match found.policy_version.and_then(|version| version.document) {
                Some(document) => Ok(Some(document)),
                None => Err(missing(at, "PolicyVersion.Document")),
            },
            Err(error) => self
                .unless_gone(AwsError::of(at, &error))
                .map_or(Ok(None), Err),
        }
    }

    async fn default_version_id(&self, arn: &str) -> Result<Option<String>, AwsError> {
        let at = self.policy_at("iam:GetPolicy", arn);
        match self.iam.get_policy().policy_arn(arn).send().await {
            Ok(found) => match found.policy.and_then(|policy| policy.default_version_id) {
                Some(id) => Ok(Some(id)),
                None => Err(missing(at, "Policy.DefaultVersionId")),
            },
            Err(error) => self
                .unless_gone(AwsError::of(at, &error))
                .map_or(Ok(None), Err),
        }
    }

    /// Counts a failure, and returns it unless it says that the policy does not exist.
    fn unless_gone(&self, fault: AwsError) -> Option<AwsError> {
        Some(self.noted(fault)).filter(|fault| !fault.is_gone())
    }

    fn policy_at(&self, action: &'static str, arn: &str) -> CallSite {
        CallSite {
            account: self.id.clone(),
            region: None,
            action,
            resource: format!("policy {arn}"),
        }
    }
}

fn missing(at: CallSite, field: &str) -> AwsError {
    AwsError::incomplete(at, &Incomplete::Missing(field.to_owned()))
}
