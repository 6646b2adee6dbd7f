//! The IAM calls: reads roles and instance profiles.
//!
//! - `steps`: executes the steps of a plan.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite};
use super::session::Account;
use crate::grant::observed::{InstanceProfile, Role};
use crate::policy::{Document, ParseError};
use aws_sdk_iam::config::http::HttpResponse;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::Tag;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

mod steps;

pub use steps::Made;

impl Account {
    /// Reads a role with its policies and tags; `None` if it does not exist. If the answer has no
    /// tags, a second call must confirm that, because the tags determine the role's owner.
    ///
    /// # Errors
    /// When IAM fails or refuses, or its answer is incomplete.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        match self.role_with_tags_as_given(name).await? {
            Some(role) if role.tags.is_empty() => {
                let tags = self.list_role_tags(name).await?;
                Ok(tags.map(|tags| Role { tags, ..role }))
            }
            found => Ok(found),
        }
    }

    /// Reads a role without the second call, for callers that do not depend on the tags: IAM may
    /// leave them out of the answer.
    ///
    /// # Errors
    /// When IAM fails or refuses, or its answer is incomplete.
    pub async fn role_with_tags_as_given(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let Some(role) = self.get_role(name).await? else {
            return Ok(None);
        };
        Ok(Some(Role {
            inline: self.inline_policies(name).await?,
            attached: self.attached_policies(name).await?,
            trust: Document::parse(
                role.assume_role_policy_document
                    .as_deref()
                    .unwrap_or_default(),
            ),
            max_session_seconds: role.max_session_duration.unwrap_or(3600),
            boundary: role
                .permissions_boundary
                .and_then(|boundary| boundary.permissions_boundary_arn),
            tags: read_tags(role.tags.unwrap_or_default()),
            arn: role.arn,
            id: role.role_id,
            path: role.path,
        }))
    }

    async fn get_role(&self, name: &str) -> Result<Option<aws_sdk_iam::types::Role>, AwsError> {
        match self
            .iam
            .get_role()
            .role_name(name)
            .send()
            .await
            .map_err(self.fault("iam:GetRole", name))
        {
            Ok(found) => found
                .role
                .map(Some)
                .ok_or_else(|| self.incomplete("iam:GetRole", name, "Role")),
            Err(fault) if fault.is_gone() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Reads a role's tags by the only call that always returns them; `None` if the role does not
    /// exist.
    async fn list_role_tags(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        let mut pages = self
            .iam
            .list_role_tags()
            .role_name(name)
            .into_paginator()
            .items()
            .send();
        let mut tags = Vec::new();
        while let Some(tag) = pages.next().await {
            match tag.map_err(self.fault("iam:ListRoleTags", name)) {
                Ok(tag) => tags.push(tag),
                Err(fault) if fault.is_gone() => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Some(read_tags(tags)))
    }

    /// Reads an instance profile's tags by the only call that always returns them; `None` if the
    /// profile does not exist.
    async fn list_instance_profile_tags(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        let call = self
            .iam
            .list_instance_profile_tags()
            .instance_profile_name(name);
        let mut pages = call.into_paginator().items().send();
        let mut tags = Vec::new();
        while let Some(tag) = pages.next().await {
            match tag.map_err(self.fault("iam:ListInstanceProfileTags", name)) {
                Ok(tag) => tags.push(tag),
                Err(fault) if fault.is_gone() => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Some(read_tags(tags)))
    }

    async fn inline_policies(
        &self,
        role: &str,
    ) -> Result<BTreeMap<String, Result<Document, ParseError>>, AwsError> {
        let mut names = self
            .iam
            .list_role_policies()
            .role_name(role)
            .into_paginator()
            .items()
            .send();
        let mut policies = BTreeMap::new();
        while let Some(listed) = names.next().await {
            let name = listed.map_err(self.fault("iam:ListRolePolicies", role))?;
            let call = self
                .iam
                .get_role_policy()
                .role_name(role)
                .policy_name(&name);
            let found = call
                .send()
                .await
                .map_err(self.fault("iam:GetRolePolicy", role))?;
            policies.insert(name, Document::parse(&found.policy_document));
        }
        Ok(policies)
    }

    async fn attached_policies(&self, role: &str) -> Result<BTreeSet<String>, AwsError> {
        let mut pages = self
            .iam
            .list_attached_role_policies()
            .role_name(role)
            .into_paginator()
            .items()
            .send();
        let mut arns = BTreeSet::new();
        while let Some(policy) = pages.next().await {
            arns.extend(
                policy
                    .map_err(self.fault("iam:ListAttachedRolePolicies", role))?
                    .policy_arn,
            );
        }
        Ok(arns)
    }

    /// Lists the names of the instance profiles that contain a role; empty if the role does not
    /// exist.
    ///
    /// # Errors
    /// When IAM fails or refuses.
    pub async fn profiles_of(&self, role: &str) -> Result<BTreeSet<String>, AwsError> {
        let mut pages = self
            .iam
            .list_instance_profiles_for_role()
            .role_name(role)
            .into_paginator()
            .items()
            .send();
        let mut names = BTreeSet::new();
        while let Some(profile) = pages.next().await {
            match profile.map_err(self.fault("iam:ListInstanceProfilesForRole", role)) {
                Ok(profile) => drop(names.insert(profile.instance_profile_name)),
                Err(fault) if fault.is_gone() => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(names)
    }

    /// Reads an instance profile; `None` if it does not exist. If the answer has no tags, a second
    /// call must confirm that, because the tags determine the profile's owner.
    ///
    /// # Errors
    /// When IAM fails or refuses, or its answer is incomplete.
    pub async fn instance_profile(&self, name: &str) -> Result<Option<InstanceProfile>, AwsError> {
        match self.instance_profile_with_tags_as_given(name).await? {
            Some(profile) if profile.tags.is_empty() => {
                let tags = self.list_instance_profile_tags(name).await?;
                Ok(tags.map(|tags| InstanceProfile { tags, ..profile }))
            }
            found => Ok(found),
        }
    }

    /// Reads an instance profile without the second call, for callers that do not depend on the
    /// tags: IAM may leave them out of the answer.
    ///
    /// # Errors
    /// When IAM fails or refuses, or its answer is incomplete.
    pub async fn instance_profile_with_tags_as_given(
        &self,
        name: &str,
    ) -> Result<Option<InstanceProfile>, AwsError> {
        const ACTION: &str = "iam:GetInstanceProfile";
        let call = self.iam.get_instance_profile().instance_profile_name(name);
        match call.send().await.map_err(self.fault(ACTION, name)) {
            Ok(found) => {
                let profile = found
                    .instance_profile
                    .ok_or_else(|| self.incomplete(ACTION, name, "InstanceProfile"))?;
                Ok(Some(InstanceProfile {
                    arn: profile.arn,
                    tags: read_tags(profile.tags.unwrap_or_default()),
                    roles: profile
                        .roles
                        .into_iter()
                        .map(|role| role.role_name)
                        .collect(),
                }))
            }
            Err(fault) if fault.is_gone() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Lists the names of all roles directly under a path.
    ///
    /// # Errors
    /// When IAM fails or refuses.
    pub async fn roles_under(&self, path: &str) -> Result<Vec<String>, AwsError> {
        let mut pages = self
            .iam
            .list_roles()
            .path_prefix(path)
            .into_paginator()
            .items()
            .send();
        let mut names = Vec::new();
        while let Some(listed) = pages.next().await {
            let role = listed.map_err(self.fault("iam:ListRoles", &format!("{path}*")))?;
            if role.path == path {
                names.push(role.role_name);
            }
        }
        Ok(names)
    }

    /// Lists the names of all instance profiles directly under a path.
    ///
    /// # Errors
    /// When IAM fails or refuses.
    pub async fn instance_profiles_under(&self, path: &str) -> Result<Vec<String>, AwsError> {
        let mut pages = self
            .iam
            .list_instance_profiles()
            .path_prefix(path)
            .into_paginator()
            .items()
            .send();
        let mut names = Vec::new();
        while let Some(listed) = pages.next().await {
            let resource = format!("{path}*");
            let profile = listed.map_err(self.fault("iam:ListInstanceProfiles", &resource))?;
            if profile.path == path {
                names.push(profile.instance_profile_name);
            }
        }
        Ok(names)
    }

    /// Reads a role's tags from the answer of `GetRole`, which may leave them out; `None` if the
    /// role does not exist.
    ///
    /// # Errors
    /// When IAM fails or refuses, or its answer is incomplete.
    pub async fn role_tags(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        Ok(self
            .get_role(name)
            .await?
            .map(|role| read_tags(role.tags.unwrap_or_default())))
    }

    /// Returns the conversion of an SDK error into the [`AwsError`] of this action and resource,
    /// which is counted.
    fn fault<'a, E>(
        &'a self,
        action: &'static str,
        name: &'a str,
    ) -> impl Fn(SdkError<E, HttpResponse>) -> AwsError + 'a
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        move |error| self.noted(AwsError::of(self.iam_at(action, name), &error))
    }

    fn incomplete(&self, action: &'static str, name: &str, field: &str) -> AwsError {
        AwsError::incomplete(
            self.iam_at(action, name),
            &Incomplete::Missing(field.to_owned()),
        )
    }

    fn iam_at(&self, action: &'static str, name: &str) -> CallSite {
        let kind = if action.contains("InstanceProfile") {
            "instance profile"
        } else {
            "role"
        };
        CallSite {
            account: self.id.clone(),
            region: None,
            action,
            resource: format!("{kind} {name}"),
        }
    }
}

fn read_tags(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}
