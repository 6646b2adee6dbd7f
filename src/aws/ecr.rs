//! The ECR calls: a repository's policy, the registry policy and the repositories' names.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite, ErrorCode};
use super::session::Account;
use super::write_permit::WritePermit;
use crate::policy::Document;
use crate::policy::evaluate::Named;

/// The result of reading a repository's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRead {
    /// The repository does not exist.
    NoRepository,
    /// The repository has no policy.
    NoPolicy,
    /// The policy's text.
    Policy(String),
}

impl Account {
    /// Reads a repository's policy. Only an error code proves that the policy or the repository
    /// does not exist.
    ///
    /// # Errors
    /// When ECR fails or refuses, or its answer is incomplete.
    pub async fn repository_policy(
        &self,
        region: &str,
        repository: &str,
    ) -> Result<PolicyRead, AwsError> {
        let at = self.at(region, repository, "ecr:GetRepositoryPolicy");
        let answer = self
            .ecr_in(region)
            .get_repository_policy()
            .registry_id(self.id.as_str())
            .repository_name(repository)
            .send()
            .await;
        match answer {
            Ok(found) => match found.policy_text {
                Some(text) => Ok(PolicyRead::Policy(text)),
                None => Err(AwsError::incomplete(
                    at,
                    &Incomplete::Missing("policyText".into()),
                )),
            },
            Err(error) => {
                let fault = self.noted_in_region(AwsError::of(at, &error)).await;
                match fault.code() {
                    ErrorCode::RepositoryNotFound if fault.is_gone() => {
                        Ok(PolicyRead::NoRepository)
                    }
                    ErrorCode::RepositoryPolicyNotFound if fault.is_gone() => {
                        Ok(PolicyRead::NoPolicy)
                    }
                    _ => Err(fault),
                }
            }
        }
    }

    /// Replaces a repository's policy. Never sets `force`, which would allow a policy that locks
    /// the operator out.
    ///
    /// # Errors
    /// When ECR fails or refuses.
    pub async fn set_repository_policy(
        &self,
        region: &str,
        repository: &str,
        policy: &Document,
        permit: WritePermit,
    ) -> Result<(), AwsError> {
        let call = self
            .ecr_in(region)
            .set_repository_policy()
            .registry_id(self.id.as_str())
            .repository_name(repository)
            .policy_text(policy.to_string());
        let Err(error) = permit.carry(call.send()).await else {
            return Ok(());
        };
        let at = self.at(region, repository, "ecr:SetRepositoryPolicy");
        Err(self.noted_in_region(AwsError::of(at, &error)).await)
    }

    /// Deletes a repository's policy. Succeeds if the policy or the repository does not exist.
    ///
    /// # Errors
    /// When ECR fails or refuses.
    pub async fn delete_repository_policy(
        &self,
        region: &str,
        repository: &str,
        permit: WritePermit,
    ) -> Result<(), AwsError> {
        let call = self
            .ecr_in(region)
            .delete_repository_policy()
            .registry_id(self.id.as_str())
            .repository_name(repository);
        let Err(error) = permit.carry(call.send()).await else {
            return Ok(());
        };
        let at = self.at(region, repository, "ecr:DeleteRepositoryPolicy");
        let fault = self.noted_in_region(AwsError::of(at, &error)).await;
        if fault.is_gone() { Ok(()) } else { Err(fault) }
    }

    /// Lists the names of all repositories of the account in a region.
    ///
    /// # Errors
    /// When ECR fails or refuses, or a page of the list is incomplete.
    pub async fn repositories(&self, region: &str) -> Result<Vec<String>, AwsError> {
        let mut pages = self
            .ecr_in(region)
            .describe_repositories()
            .registry_id(self.id.as_str())
            .into_paginator()
            .page_size(1000)
            .items()
            .send();
        let mut names = Vec::new();
        while let Some(found) = pages.next().await {
            match found {
                Ok(found) => names.extend(found.repository_name),
                Err(error) => {
                    let at = self.at(region, "*", "ecr:DescribeRepositories");
                    return Err(self.noted_in_region(AwsError::of(at, &error)).await);
                }
            }
        }
        Ok(names)
    }

    /// Reads the registry policy of a region, which applies to every request to ECR there; `None`
    /// if there is none.
    pub async fn registry_policy(&self, region: &str) -> Option<Named> {
        let name = format!("the registry's own policy in account {}, {region}", self.id);
        let at = CallSite {
            account: self.id.clone(),
            region: Some(region.to_owned()),
            action: "ecr:GetRegistryPolicy",
            resource: "the registry".into(),
        };
        let fault = match self.ecr_in(region).get_registry_policy().send().await {
            Ok(found) => match found.policy_text {
                Some(text) => return Some(Named::parsed(name, Document::parse(&text))),
                None => AwsError::incomplete(at, &Incomplete::Missing("policyText".into())),
            },
            Err(error) => self.noted_in_region(AwsError::of(at, &error)).await,
        };
        if fault.is_gone() {
            None
        } else {
            Some(Named::unreadable(name, fault.to_string()))
        }
    }

    fn at(&self, region: &str, repository: &str, action: &'static str) -> CallSite {
        CallSite {
            account: self.id.clone(),
            region: Some(region.to_owned()),
            action,
            resource: format!("repository {repository}"),
        }
    }
}
