//! The IAM calls that tests make often, each in one line.

use crate::aws::failed;
use anyhow::Result;
use aws_sdk_iam::Client;

/// Short forms of IAM calls whose answer no test needs.
///
/// # Errors
/// Each returns an error that names the call when it fails.
#[allow(clippy::missing_errors_doc)]
pub trait IamCalls {
    /// Writes an inline policy of a role.
    fn put_inline_policy(
        &self,
        role: impl Into<String> + Send,
        policy: impl Into<String> + Send,
        document: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Deletes an inline policy of a role.
    fn delete_inline_policy(
        &self,
        role: impl Into<String> + Send,
        policy: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Replaces the trust policy of a role.
    fn set_trust_policy(
        &self,
        role: impl Into<String> + Send,
        document: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Attaches a managed policy to a role.
    fn attach_policy(
        &self,
        role: impl Into<String> + Send,
        arn: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Puts a role into an instance profile.
    fn add_role_to_profile(
        &self,
        profile: impl Into<String> + Send,
        role: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Takes a role out of an instance profile.
    fn remove_role_from_profile(
        &self,
        profile: impl Into<String> + Send,
        role: impl Into<String> + Send,
    ) -> impl Future<Output = Result<()>> + Send;
}

impl IamCalls for Client {
    async fn put_inline_policy(
        &self,
        role: impl Into<String> + Send,
        policy: impl Into<String> + Send,
        document: impl Into<String> + Send,
    ) -> Result<()> {
        let put = self.put_role_policy().role_name(role).policy_name(policy);
        put.policy_document(document)
            .send()
            .await
            .map_err(failed("PutRolePolicy"))?;
        Ok(())
    }

    async fn delete_inline_policy(
        &self,
        role: impl Into<String> + Send,
        policy: impl Into<String> + Send,
    ) -> Result<()> {
        let delete = self
            .delete_role_policy()
            .role_name(role)
            .policy_name(policy);
        delete.send().await.map_err(failed("DeleteRolePolicy"))?;
        Ok(())
    }

    async fn set_trust_policy(
        &self,
        role: impl Into<String> + Send,
        document: impl Into<String> + Send,
    ) -> Result<()> {
        let update = self
            .update_assume_role_policy()
            .role_name(role)
            .policy_document(document);
        update
            .send()
            .await
            .map_err(failed("UpdateAssumeRolePolicy"))?;
        Ok(())
    }

    async fn attach_policy(
        &self,
        role: impl Into<String> + Send,
        arn: impl Into<String> + Send,
    ) -> Result<()> {
        let attach = self.attach_role_policy().role_name(role).policy_arn(arn);
        attach.send().await.map_err(failed("AttachRolePolicy"))?;
        Ok(())
    }

    async fn add_role_to_profile(
        &self,
        profile: impl Into<String> + Send,
        role: impl Into<String> + Send,
    ) -> Result<()> {
        let add = self
            .add_role_to_instance_profile()
            .instance_profile_name(profile)
            .role_name(role);
        add.send()
            .await
            .map_err(failed("AddRoleToInstanceProfile"))?;
        Ok(())
    }

    async fn remove_role_from_profile(
        &self,
        profile: impl Into<String> + Send,
        role: impl Into<String> + Send,
    ) -> Result<()> {
        let remove = self
            .remove_role_from_instance_profile()
            .instance_profile_name(profile)
            .role_name(role);
        remove
            .send()
            .await
            .map_err(failed("RemoveRoleFromInstanceProfile"))?;
        Ok(())
    }
}
