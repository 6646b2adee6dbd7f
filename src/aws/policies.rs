//! Policies that are only read: what hangs on them is judged, and none of them is ours to write.

use super::fault::{At, Fault};
use super::session::Account;
use crate::policy::{Document, Unreadable};

impl Account {
    /// Reads the managed policy of this ARN, as its default version says; `None` where it does not exist.
    ///
    /// # Errors
    /// When IAM fails or refuses.
    pub async fn managed_policy(&self, arn: &str) -> Result<Option<Result<Document, Unreadable>>, Fault> {
        let version = match self.iam.get_policy().policy_arn(arn).send().await {
            Ok(found) => found.policy.and_then(|policy| policy.default_version_id),
            Err(error) => {
                let fault = self.noted(Fault::of(self.policy_at("iam:GetPolicy", arn), &error));
                return if fault.is_gone() { Ok(None) } else { Err(fault) };
            }
        };
        let Some(version) = version else { return Ok(None) };
        let call = self.iam.get_policy_version().policy_arn(arn).version_id(version);
        match call.send().await {
            Ok(found) => {
                let text = found.policy_version.and_then(|version| version.document);
                Ok(Some(Document::parse(text.as_deref().unwrap_or_default())))
            }
            Err(error) => {
                let fault = self.noted(Fault::of(self.policy_at("iam:GetPolicyVersion", arn), &error));
                if fault.is_gone() { Ok(None) } else { Err(fault) }
            }
        }
    }

    /// Reads the registry's own policy in a region, which applies to every request to ECR there; `None` where there is none.
    ///
    /// # Errors
    /// When ECR fails or refuses.
    pub async fn registry_policy(&self, region: &str) -> Result<Option<String>, Fault> {
        match self.ecr_in(region).get_registry_policy().send().await {
            Ok(found) => Ok(found.policy_text),
            Err(error) => {
                let at = At {
                    account: self.id.clone(),
                    region: Some(region.to_owned()),
                    action: "ecr:GetRegistryPolicy",
                    resource: "the registry".into(),
                };
                let fault = self.noted(Fault::of(at, &error));
                if fault.is_gone() { Ok(None) } else { Err(fault) }
            }
        }
    }

    fn policy_at(&self, action: &'static str, arn: &str) -> At {
        At { account: self.id.clone(), region: None, action, resource: format!("policy {arn}") }
    }
}
