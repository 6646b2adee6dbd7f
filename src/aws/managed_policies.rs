//! Reads managed policies. A policy that cannot be read is returned with the reason, because it may
//! not matter to the caller's question.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite};
use super::session::Account;
use crate::policy::Document;
use crate::policy::evaluate::Named;

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
        let version = match self.iam.get_policy().policy_arn(arn).send().await {
            Ok(found) => {
                let version = found.policy.and_then(|policy| policy.default_version_id);
                let missing = || Incomplete::Missing("Policy.DefaultVersionId".into());
                version.ok_or_else(|| {
                    AwsError::incomplete(self.policy_at("iam:GetPolicy", arn), &missing())
                })?
            }
            Err(error) => {
                let fault = self.noted(AwsError::of(self.policy_at("iam:GetPolicy", arn), &error));
                return if fault.is_gone() {
                    Ok(None)
                } else {
                    Err(fault)
                };
            }
        };
        match self
            .iam
            .get_policy_version()
            .policy_arn(arn)
            .version_id(version)
            .send()
            .await
        {
            Ok(found) => {
                let document = found.policy_version.and_then(|version| version.document);
                let missing = || Incomplete::Missing("PolicyVersion.Document".into());
                let at = || self.policy_at("iam:GetPolicyVersion", arn);
                document
                    .map(Some)
                    .ok_or_else(|| AwsError::incomplete(at(), &missing()))
            }
            Err(error) => {
                let fault = self.noted(AwsError::of(
                    self.policy_at("iam:GetPolicyVersion", arn),
                    &error,
                ));
                if fault.is_gone() {
                    Ok(None)
                } else {
                    Err(fault)
                }
            }
        }
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
