//! Executes the steps of a plan: one call of IAM each.

use super::super::error::{AwsError, ErrorKind};
use super::super::session::Account;
use super::super::write_permit::WritePermit;
use crate::grant::diff::Step;
use crate::policy::Document;
use aws_sdk_iam::operation::create_role::builders::CreateRoleFluentBuilder;
use aws_sdk_iam::types::Tag;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Executes one step, and returns the identifiers of a new resource. Deleting a resource that
    /// does not exist succeeds.
    ///
    /// # Errors
    /// When IAM fails or refuses. If a resource is missing that existed a moment ago, the error is
    /// [`ErrorKind::Settling`].
    pub async fn apply(&self, step: Step, permit: WritePermit) -> Result<Option<Made>, AwsError> {
        let is_done_by_absence = step.is_done_by_absence();
        match permit.carry(self.call(step)).await {
            Err(fault) if fault.is_gone() && is_done_by_absence => Ok(None),
            Err(fault) if fault.is_gone() => Err(AwsError {
                class: ErrorKind::Settling,
                ..fault
            }),
            other => other,
        }
    }

    async fn call(&self, step: Step) -> Result<Option<Made>, AwsError> {
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
                let call = self
                    .iam
                    .create_role()
                    .role_name(&name)
                    .path(path)
                    .description(description)
                    .assume_role_policy_document(trust.to_string())
                    .set_max_session_duration(max_session_seconds)
                    .set_permissions_boundary(boundary)
                    .set_tags(Some(write_tags(tags)));
                return self.create_role(&name, call).await.map(Some);
            }
            Step::CreateProfile { name, path, tags } => {
                return self.create_profile(&name, path, tags).await.map(Some);
            }
            Step::UpdateTrust { role, trust } => self.update_trust(&role, &trust).await,
            Step::UpdateMaxSession { role, seconds } => self.update_role(&role, seconds).await,
            Step::PutBoundary { role, boundary } => self.put_boundary(&role, boundary).await,
            Step::TagRole { role, tags } => self.tag_role(&role, tags).await,
            Step::UntagRole { role, keys } => self.untag_role(&role, keys).await,
            Step::PutInlinePolicy {
                role,
                policy,
                document,
            } => self.put_inline_policy(&role, policy, &document).await,
            Step::DeleteInlinePolicy { role, policy } => {
                self.delete_inline_policy(&role, policy).await
            }
            Step::AttachPolicy { role, arn } => self.attach_policy(&role, arn).await,
            Step::DetachPolicy { role, arn } => self.detach_policy(&role, arn).await,
            Step::DeleteRole { role } => self.delete_role(&role).await,
            Step::TagProfile { name, tags } => self.tag_profile(&name, tags).await,
            Step::UntagProfile { name, keys } => self.untag_profile(&name, keys).await,
            Step::AddRoleToProfile { profile, role } => self.add_role(&profile, role).await,
            Step::RemoveRoleFromProfile { profile, role } => self.remove_role(&profile, role).await,
            Step::DeleteProfile { name } => self.delete_profile(&name).await,
        }?;
        Ok(None)
    }
}

/// The calls on roles.
impl Account {
    async fn create_role(
        &self,
        name: &str,
        call: CreateRoleFluentBuilder,
    ) -> Result<Made, AwsError> {
        const ACTION: &str = "iam:CreateRole";
        let answer = call.send().await.map_err(self.fault(ACTION, name))?;
        let role = answer
            .role
            .ok_or_else(|| self.incomplete(ACTION, name, "Role"))?;
        Ok(Made::Role {
            arn: role.arn,
            id: role.role_id,
        })
    }

    async fn update_trust(&self, role: &str, trust: &Document) -> Result<(), AwsError> {
        let call = self
            .iam
            .update_assume_role_policy()
            .role_name(role)
            .policy_document(trust.to_string());
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:UpdateAssumeRolePolicy", role))
    }

    async fn update_role(&self, role: &str, max_session_seconds: i32) -> Result<(), AwsError> {
        let call = self
            .iam
            .update_role()
            .role_name(role)
            .max_session_duration(max_session_seconds);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:UpdateRole", role))
    }

    async fn put_boundary(&self, role: &str, boundary: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .put_role_permissions_boundary()
            .role_name(role)
            .permissions_boundary(boundary);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:PutRolePermissionsBoundary", role))
    }

    async fn tag_role(&self, role: &str, tags: BTreeMap<String, String>) -> Result<(), AwsError> {
        let call = self
            .iam
            .tag_role()
            .role_name(role)
            .set_tags(Some(write_tags(tags)));
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:TagRole", role))
    }

    async fn untag_role(&self, role: &str, keys: BTreeSet<String>) -> Result<(), AwsError> {
        let call = self
            .iam
            .untag_role()
            .role_name(role)
            .set_tag_keys(Some(keys.into_iter().collect()));
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:UntagRole", role))
    }

    async fn put_inline_policy(
        &self,
        role: &str,
        policy: String,
        document: &Document,
    ) -> Result<(), AwsError> {
        let call = self
            .iam
            .put_role_policy()
            .role_name(role)
            .policy_name(policy)
            .policy_document(document.to_string());
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:PutRolePolicy", role))
    }

    async fn delete_inline_policy(&self, role: &str, policy: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .delete_role_policy()
            .role_name(role)
            .policy_name(policy);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:DeleteRolePolicy", role))
    }

    async fn attach_policy(&self, role: &str, arn: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .attach_role_policy()
            .role_name(role)
            .policy_arn(arn);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:AttachRolePolicy", role))
    }

    async fn detach_policy(&self, role: &str, arn: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .detach_role_policy()
            .role_name(role)
            .policy_arn(arn);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:DetachRolePolicy", role))
    }

    async fn delete_role(&self, role: &str) -> Result<(), AwsError> {
        let call = self.iam.delete_role().role_name(role);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:DeleteRole", role))
    }
}

/// The calls on instance profiles.
impl Account {
    async fn create_profile(
        &self,
        name: &str,
        path: String,
        tags: BTreeMap<String, String>,
    ) -> Result<Made, AwsError> {
        const ACTION: &str = "iam:CreateInstanceProfile";
        let call = self
            .iam
            .create_instance_profile()
            .instance_profile_name(name)
            .path(path)
            .set_tags(Some(write_tags(tags)));
        let answer = call.send().await.map_err(self.fault(ACTION, name))?;
        let profile = answer
            .instance_profile
            .ok_or_else(|| self.incomplete(ACTION, name, "InstanceProfile"))?;
        Ok(Made::Profile { arn: profile.arn })
    }

    async fn tag_profile(
        &self,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(), AwsError> {
        let call = self
            .iam
            .tag_instance_profile()
            .instance_profile_name(name)
            .set_tags(Some(write_tags(tags)));
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:TagInstanceProfile", name))
    }

    async fn untag_profile(&self, name: &str, keys: BTreeSet<String>) -> Result<(), AwsError> {
        let call = self
            .iam
            .untag_instance_profile()
            .instance_profile_name(name)
            .set_tag_keys(Some(keys.into_iter().collect()));
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:UntagInstanceProfile", name))
    }

    async fn add_role(&self, profile: &str, role: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .add_role_to_instance_profile()
            .instance_profile_name(profile)
            .role_name(role);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:AddRoleToInstanceProfile", profile))
    }

    async fn remove_role(&self, profile: &str, role: String) -> Result<(), AwsError> {
        let call = self
            .iam
            .remove_role_from_instance_profile()
            .instance_profile_name(profile)
            .role_name(role);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:RemoveRoleFromInstanceProfile", profile))
    }

    async fn delete_profile(&self, name: &str) -> Result<(), AwsError> {
        let call = self
            .iam
            .delete_instance_profile()
            .instance_profile_name(name);
        call.send()
            .await
            .map(drop)
            .map_err(self.fault("iam:DeleteInstanceProfile", name))
    }
}

fn write_tags(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(write_tag).collect()
}

fn write_tag((key, value): (String, String)) -> Tag {
    Tag::builder()
        .key(key)
        .value(value)
        .build()
        .expect("a tag needs key and value; both are set")
}
