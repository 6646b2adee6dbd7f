//! Policies that are only read: what hangs on them is judged, and none of them is ours to write.
//! That one could not be read is said in it: it may not matter.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite};
use super::session::Account;
use crate::policy::Document;
use crate::policy::evaluate::Named;

impl Account {
    /// The managed policy of this ARN, as its default version says.
    pub async fn managed_policy(&self, arn: &str) -> Named {
        let name = format!("policy {arn}");
        match self.default_version(arn).await {
            Ok(Some(text)) => Named::parsed(name, Document::parse(&text)),
            Ok(None) => Named::unreadable(name, "it does not exist"),
            Err(fault) => Named::unreadable(name, fault.to_string()),
        }
    }

    /// The registry's own policy in a region, which applies to every request to ECR there; `None`
    /// where there is none.
    pub async fn registry_policy(&self, region: &str) -> Option<Named> {
        let name = format!("the registry's own policy in account {}, {region}", self.id);
        let at = || CallSite {
            account: self.id.clone(),
            region: Some(region.to_owned()),
            action: "ecr:GetRegistryPolicy",
            resource: "the registry".into(),
        };
        match self.ecr_in(region).get_registry_policy().send().await {
            Ok(found) => Some(match found.policy_text {
                Some(text) => Named::parsed(name, Document::parse(&text)),
                None => {
                    let fault =
                        AwsError::incomplete(at(), &Incomplete::Missing("policyText".into()));
                    Named::unreadable(name, fault.to_string())
                }
            }),
            Err(error) => {
                let fault = self.noted_in_region(AwsError::of(at(), &error)).await;
                (!fault.is_gone()).then(|| Named::unreadable(name, fault.to_string()))
            }
        }
    }

    /// The text of a managed policy's default version; `None` where there is no such policy.
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
