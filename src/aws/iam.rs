//! The IAM calls: reads roles and instance profiles, and executes a [`Step`].

use super::answer::Incomplete;
use super::error::{AwsError, CallSite, ErrorKind};
use super::session::Account;
use crate::grant::diff::Step;
use crate::grant::observed::{InstanceProfile, Role};
use crate::policy::{Document, ParseError};
use aws_sdk_iam::types::Tag;
use std::collections::{BTreeMap, BTreeSet};

/// Classifies an SDK error as an [`AwsError`] of this account, action and resource.
macro_rules! fault {
    ($account:expr, $action:expr, $resource:expr) => {
        |error| $account.noted(AwsError::of($account.iam_at($action, $resource), &error))
    };
}

/// The identifiers that AWS assigned to a new resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A role.
    Role {
        /// Its ARN.
        arn: String,
        /// Its unique ID.
        id: String,
    },
    /// An instance profile.
    Profile {
        /// Its ARN.
        arn: String,
    },
}

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
            .map_err(fault!(self, "iam:GetRole", name))
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
            match tag.map_err(fault!(self, "iam:ListRoleTags", name)) {
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
            match tag.map_err(fault!(self, "iam:ListInstanceProfileTags", name)) {
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
        while let Some(name) = names.next().await {
            let name = name.map_err(fault!(self, "iam:ListRolePolicies", role))?;
            let call = self
                .iam
                .get_role_policy()
                .role_name(role)
                .policy_name(&name);
            let found = call
                .send()
                .await
                .map_err(fault!(self, "iam:GetRolePolicy", role))?;
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
                    .map_err(fault!(self, "iam:ListAttachedRolePolicies", role))?
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
            match profile.map_err(fault!(self, "iam:ListInstanceProfilesForRole", role)) {
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
        match call.send().await.map_err(fault!(self, ACTION, name)) {
            Ok(found) => {
                let profile = found.instance_profile;
                let profile =
                    profile.ok_or_else(|| self.incomplete(ACTION, name, "InstanceProfile"))?;
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
        while let Some(role) = pages.next().await {
            let role = role.map_err(fault!(self, "iam:ListRoles", &format!("{path}*")))?;
            names.extend((role.path == path).then_some(role.role_name));
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
        while let Some(profile) = pages.next().await {
            let profile = profile.map_err(fault!(
                self,
                "iam:ListInstanceProfiles",
                &format!("{path}*")
            ))?;
            names.extend((profile.path == path).then_some(profile.instance_profile_name));
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

    /// Executes one step, and returns the identifiers of a new resource. Deleting a resource that
    /// does not exist succeeds.
    ///
    /// # Errors
    /// When IAM fails or refuses. If a resource is missing that existed a moment ago, the error is
    /// [`ErrorKind::Settling`].
    pub async fn apply(&self, step: Step) -> Result<Option<Made>, AwsError> {
        let removes = matches!(
            step,
            Step::DeleteInlinePolicy { .. }
                | Step::DetachPolicy { .. }
                | Step::UntagRole { .. }
                | Step::UntagProfile { .. }
                | Step::DeleteRole { .. }
                | Step::RemoveRoleFromProfile { .. }
                | Step::DeleteProfile { .. }
        );
        match self.call(step).await {
            Err(fault) if fault.is_gone() && removes => Ok(None),
            Err(fault) if fault.is_gone() => Err(AwsError {
                class: ErrorKind::Settling,
                ..fault
            }),
            other => other,
        }
    }

    async fn call(&self, step: Step) -> Result<Option<Made>, AwsError> {
        let iam = &self.iam;
        match step {
            Step::CreateRole {
                name,
                path,
                description,
                trust,
                max_session_seconds,
                boundary,
                tags,
            } => {
                let call = iam
                    .create_role()
                    .role_name(&name)
                    .path(path)
                    .description(description);
                let call = call
                    .assume_role_policy_document(trust.to_string())
                    .set_tags(Some(write_tags(tags)));
                let call = call
                    .set_max_session_duration(max_session_seconds)
                    .set_permissions_boundary(boundary);
                let sent = call
                    .send()
                    .await
                    .map_err(fault!(self, "iam:CreateRole", &name))?;
                let role = sent
                    .role
                    .ok_or_else(|| self.incomplete("iam:CreateRole", &name, "Role"))?;
                Ok(Some(Made::Role {
                    arn: role.arn,
                    id: role.role_id,
                }))
            }
            Step::UpdateTrust { role, trust } => {
                let call = iam
                    .update_assume_role_policy()
                    .role_name(&role)
                    .policy_document(trust.to_string());
                call.send().await.map(|_| None).map_err(fault!(
                    self,
                    "iam:UpdateAssumeRolePolicy",
                    &role
                ))
            }
            Step::UpdateMaxSession { role, seconds } => {
                let call = iam
                    .update_role()
                    .role_name(&role)
                    .max_session_duration(seconds);
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:UpdateRole", &role))
            }
            Step::PutBoundary { role, boundary } => {
                let call = iam
                    .put_role_permissions_boundary()
                    .role_name(&role)
                    .permissions_boundary(boundary);
                call.send().await.map(|_| None).map_err(fault!(
                    self,
                    "iam:PutRolePermissionsBoundary",
                    &role
                ))
            }
            Step::TagRole { role, tags } => {
                let call = iam
                    .tag_role()
                    .role_name(&role)
                    .set_tags(Some(write_tags(tags)));
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:TagRole", &role))
            }
            Step::UntagRole { role, keys } => {
                let call = iam
                    .untag_role()
                    .role_name(&role)
                    .set_tag_keys(Some(keys.into_iter().collect()));
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:UntagRole", &role))
            }
            Step::PutInlinePolicy {
                role,
                policy,
                document,
            } => {
                let call = iam.put_role_policy().role_name(&role).policy_name(policy);
                let sent = call.policy_document(document.to_string()).send().await;
                sent.map(|_| None)
                    .map_err(fault!(self, "iam:PutRolePolicy", &role))
            }
            Step::DeleteInlinePolicy { role, policy } => {
                let call = iam
                    .delete_role_policy()
                    .role_name(&role)
                    .policy_name(policy);
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:DeleteRolePolicy", &role))
            }
            Step::AttachPolicy { role, arn } => {
                let call = iam.attach_role_policy().role_name(&role).policy_arn(arn);
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:AttachRolePolicy", &role))
            }
            Step::DetachPolicy { role, arn } => {
                let call = iam.detach_role_policy().role_name(&role).policy_arn(arn);
                call.send()
                    .await
                    .map(|_| None)
                    .map_err(fault!(self, "iam:DetachRolePolicy", &role))
            }
            Step::DeleteRole { role } => {
                let sent = iam.delete_role().role_name(&role).send().await;
                sent.map(|_| None)
                    .map_err(fault!(self, "iam:DeleteRole", &role))
            }
            Step::CreateProfile { name, path, tags } => {
                let call = iam
                    .create_instance_profile()
                    .instance_profile_name(&name)
                    .path(path);
                let sent = call.set_tags(Some(write_tags(tags))).send().await;
                const ACTION: &str = "iam:CreateInstanceProfile";
                let sent = sent.map_err(fault!(self, ACTION, &name))?;
                let made = sent.instance_profile;
                let made = made.ok_or_else(|| self.incomplete(ACTION, &name, "InstanceProfile"))?;
                Ok(Some(Made::Profile { arn: made.arn }))
            }
            Step::TagProfile { name, tags } => {
                let call = iam.tag_instance_profile().instance_profile_name(&name);
                let sent = call.set_tags(Some(write_tags(tags))).send().await;
                sent.map(|_| None)
                    .map_err(fault!(self, "iam:TagInstanceProfile", &name))
            }
            Step::UntagProfile { name, keys } => {
                let call = iam.untag_instance_profile().instance_profile_name(&name);
                let sent = call
                    .set_tag_keys(Some(keys.into_iter().collect()))
                    .send()
                    .await;
                sent.map(|_| None)
                    .map_err(fault!(self, "iam:UntagInstanceProfile", &name))
            }
            Step::AddRoleToProfile { profile, role } => {
                let call = iam
                    .add_role_to_instance_profile()
                    .instance_profile_name(&profile)
                    .role_name(role);
                call.send().await.map(|_| None).map_err(fault!(
                    self,
                    "iam:AddRoleToInstanceProfile",
                    &profile
                ))
            }
            Step::RemoveRoleFromProfile { profile, role } => {
                let call = iam
                    .remove_role_from_instance_profile()
                    .instance_profile_name(&profile)
                    .role_name(role);
                call.send().await.map(|_| None).map_err(fault!(
                    self,
                    "iam:RemoveRoleFromInstanceProfile",
                    &profile
                ))
            }
            Step::DeleteProfile { name } => {
                let sent = iam
                    .delete_instance_profile()
                    .instance_profile_name(&name)
                    .send()
                    .await;
                sent.map(|_| None)
                    .map_err(fault!(self, "iam:DeleteInstanceProfile", &name))
            }
        }
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

fn write_tags(tags: BTreeMap<String, String>) -> Vec<Tag> {
    let tag = |(key, value)| {
        Tag::builder()
            .key(key)
            .value(value)
            .build()
            .expect("a tag needs key and value; both are set")
    };
    tags.into_iter().map(tag).collect()
}
