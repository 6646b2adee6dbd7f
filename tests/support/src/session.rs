//! The actions of an EC2 instance: get its role's session, log in to a registry, push and pull,
//! either directly or through a role in the registry's account.

use crate::aws::{APP_NAME, Aws, REGION, denied, failed};
use crate::command::{Finished, run};
use crate::document::Document;
use crate::image::{self, Image};
use crate::stack::Stack;
use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use std::ffi::OsStr;
use std::path::Path;

/// The result of an action that needs a permission. Any other failure (no network, a missing
/// repository, an invalid answer of the registry) is an error, so that it can never pass for a
/// denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The action succeeded.
    Allowed(T),
    /// AWS or its registry refused the action for lack of permission, with this text.
    Denied(String),
}

impl<T> Outcome<T> {
    /// Returns the value of an allowed action.
    ///
    /// # Errors
    /// When it was denied.
    pub fn allowed(self) -> Result<T> {
        match self {
            Self::Allowed(value) => Ok(value),
            Self::Denied(why) => bail!("expected to be allowed, but it was denied: {why}"),
        }
    }

    /// Returns the text of the denial.
    ///
    /// # Errors
    /// When it was allowed.
    pub fn denied(self) -> Result<String> {
        match self {
            Self::Denied(why) => Ok(why),
            Self::Allowed(_) => bail!("expected to be denied, but it was allowed"),
        }
    }
}

/// A repository in a private registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The registry's account.
    pub account: String,
    /// The registry's region.
    pub region: String,
    /// For instance `team/app`.
    pub name: String,
}

impl Repository {
    /// Returns a repository in us-east-1.
    pub fn new(account: &str, name: &str) -> Self {
        Self {
            account: account.into(),
            region: REGION.into(),
            name: name.into(),
        }
    }

    /// Creates it as its account's root.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create(&self, stack: &Stack) -> Result<()> {
        let client = stack.aws(&self.account).ecr_in(&self.region);
        client
            .create_repository()
            .repository_name(&self.name)
            .send()
            .await
            .map_err(failed("CreateRepository"))?;
        Ok(())
    }

    /// Reads its policy, if it has one.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn policy(&self, stack: &Stack) -> Result<Option<Document>> {
        let client = stack.aws(&self.account).ecr_in(&self.region);
        crate::account_state::repository_policy(&client, &self.name).await
    }

    /// Sets its policy as its account's root, like a manual change. A document without statements
    /// removes the policy.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_policy(&self, stack: &Stack, policy: &Document) -> Result<()> {
        let client = stack.aws(&self.account).ecr_in(&self.region);
        if policy.statements().is_empty() {
            let delete = client
                .delete_repository_policy()
                .repository_name(&self.name);
            delete
                .send()
                .await
                .map_err(failed("DeleteRepositoryPolicy"))?;
        } else {
            let set = client
                .set_repository_policy()
                .repository_name(&self.name)
                .policy_text(policy.to_string());
            set.send().await.map_err(failed("SetRepositoryPolicy"))?;
        }
        Ok(())
    }

    /// Returns the registry's host name.
    pub fn host(&self) -> String {
        format!("{}.dkr.ecr.{}.amazonaws.com", self.account, self.region)
    }

    /// Returns the reference of an image in it, as registry clients and Pods use it.
    pub fn reference(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.host(), self.name)
    }
}

/// A session of a role, or an account's root.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    stack: &'a Stack,
    aws: Aws,
}

impl<'a> Session<'a> {
    /// Creates a session of the account's root, the owner of its repositories.
    pub fn of_root(stack: &'a Stack, account: &str) -> Self {
        Self {
            stack,
            aws: stack.aws(account),
        }
    }

    /// Creates a session of an EC2 instance with this role. The root of the role's account replaces
    /// EC2: in this emulation it may assume a role that trusts `ec2.amazonaws.com`.
    ///
    /// # Errors
    /// When the call fails for another reason than permission.
    pub async fn of_instance(stack: &'a Stack, role_arn: &str) -> Result<Outcome<Self>> {
        let account = role_arn
            .split(':')
            .nth(4)
            .with_context(|| format!("{role_arn} is not a role's ARN"))?;
        Self::of_root(stack, account).assume(role_arn).await
    }

    /// Returns the AWS clients of this session.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// Assumes a role, with this session's permissions.
    ///
    /// # Errors
    /// When the call fails for another reason than permission.
    pub async fn assume(&self, role_arn: &str) -> Result<Outcome<Self>> {
        let call = self
            .aws
            .sts
            .assume_role()
            .role_arn(role_arn)
            .role_session_name(APP_NAME);
        let assumed = match denied(call.send().await, format!("sts:AssumeRole of {role_arn}"))? {
            Ok(assumed) => assumed,
            Err(why) => return Ok(Outcome::Denied(why)),
        };
        let keys = assumed
            .credentials
            .context("AssumeRole gave no credentials")?;
        let credentials = Credentials::new(
            keys.access_key_id,
            keys.secret_access_key,
            Some(keys.session_token),
            None,
            "a role's session",
        );
        Ok(Outcome::Allowed(Self {
            stack: self.stack,
            aws: Aws::new(self.aws.endpoint(), credentials),
        }))
    }

    /// Pushes a new image with a real registry client; returns its digest.
    ///
    /// # Errors
    /// When it fails for another reason than permission.
    pub async fn push(&self, repository: &Repository, tag: &str) -> Result<Outcome<String>> {
        let image = Image::unique(self.stack).await?;
        Ok(
            match self.push_archive(repository, tag, &image.file).await? {
                Outcome::Allowed(()) => Outcome::Allowed(image.digest),
                Outcome::Denied(why) => Outcome::Denied(why),
            },
        )
    }

    /// Pushes the image of an archive with a real registry client.
    ///
    /// # Errors
    /// When it fails for another reason than permission.
    pub async fn push_archive(
        &self,
        repository: &Repository,
        tag: &str,
        archive: &Path,
    ) -> Result<Outcome<()>> {
        let reference = repository.reference(tag);
        let arguments = ["push".as_ref(), archive.as_os_str(), reference.as_ref()];
        Ok(match self.crane(repository, &arguments).await? {
            Outcome::Allowed(_) => Outcome::Allowed(()),
            Outcome::Denied(why) => Outcome::Denied(why),
        })
    }

    /// Pulls an image with a real registry client; returns the digest of the received image.
    ///
    /// # Errors
    /// When it fails for another reason than permission.
    pub async fn pull(&self, repository: &Repository, tag: &str) -> Result<Outcome<String>> {
        let folder = self.stack.scratch()?;
        let file = folder.path().join("pulled.tar");
        let reference = repository.reference(tag);
        let arguments = ["pull".as_ref(), reference.as_ref(), file.as_os_str()];
        Ok(match self.crane(repository, &arguments).await? {
            Outcome::Allowed(_) => Outcome::Allowed(image::digest(self.stack, &file).await?),
            Outcome::Denied(why) => Outcome::Denied(why),
        })
    }

    /// Gets a token for the registry, and stores it in `folder`, which then serves as
    /// `DOCKER_CONFIG`.
    ///
    /// # Errors
    /// When it fails for another reason than permission.
    pub async fn log_in(&self, repository: &Repository, folder: &Path) -> Result<Outcome<()>> {
        let call = self
            .aws
            .ecr_in(&repository.region)
            .get_authorization_token();
        let data = match denied(call.send().await, "ecr:GetAuthorizationToken")? {
            Ok(answer) => answer.authorization_data.unwrap_or_default(),
            Err(why) => return Ok(Outcome::Denied(why)),
        };
        let token = data.into_iter().find_map(|data| data.authorization_token);
        // A Docker configuration contains the token unchanged: base64 of `user:password`.
        let token = token.context("GetAuthorizationToken gave no token")?;
        let configuration = serde_json::json!({"auths": {repository.host(): {"auth": token}}});
        std::fs::write(folder.join("config.json"), configuration.to_string())?;
        Ok(Outcome::Allowed(()))
    }

    async fn crane(
        &self,
        repository: &Repository,
        arguments: &[&OsStr],
    ) -> Result<Outcome<Finished>> {
        let folder = self.stack.scratch()?;
        if let Outcome::Denied(why) = self.log_in(repository, folder.path()).await? {
            return Ok(Outcome::Denied(why));
        }
        let finished = run_crane(self.stack, folder.path(), arguments).await?;
        if finished.success {
            return Ok(Outcome::Allowed(finished));
        }
        match refusal(&finished.stderr) {
            Some(why) => Ok(Outcome::Denied(why)),
            None => bail!(
                "`{}` failed, and not for lack of permission: {}",
                finished.command,
                finished.stderr.trim()
            ),
        }
    }
}

async fn run_crane(stack: &Stack, folder: &Path, arguments: &[&OsStr]) -> Result<Finished> {
    let proxy = OsStr::new(&stack.info.registry_proxy);
    let mut variables = vec![("DOCKER_CONFIG", folder.as_os_str())];
    variables.extend(
        ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"].map(|name| (name, proxy)),
    );
    let arguments = std::iter::once(OsStr::new("--insecure")).chain(arguments.iter().copied());
    run(&stack.info.bin.crane, arguments, folder, &variables, None).await
}

/// Returns the registry's answer if it refused for lack of permission: its error code, or status
/// 403 in answer to a HEAD request, which has no body. (The proxy's own 403, for another host, has
/// a body but no code.)
fn refusal(stderr: &str) -> Option<String> {
    let is_refusal = |line: &&str| {
        line.contains(": DENIED: ")
            || line.contains("unexpected status code 403 Forbidden (HEAD responses have no body")
    };
    let line = stderr.lines().find(is_refusal)?;
    let text = line.split_once("Error: ").map_or(line, |(_, text)| text);
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::refusal;

    const DENIED: [&str; 2] = [
        "Error: GET http://1.dkr.ecr.us-east-1.amazonaws.com/v2/x/manifests/y: DENIED: User: arn:aws:sts::2:assumed-role/r/s is not authorized to perform: ecr:BatchGetImage",
        "Error: HEAD http://1.dkr.ecr.us-east-1.amazonaws.com/v2/x/blobs/sha256:1: unexpected status code 403 Forbidden (HEAD responses have no body, use GET for details)",
    ];
    const BROKEN: [&str; 5] = [
        "Error: GET http://1.dkr.ecr.us-east-1.amazonaws.com/v2/x/manifests/y: MANIFEST_UNKNOWN: manifest unknown to registry",
        "Error: GET http://1.dkr.ecr.us-east-1.amazonaws.com/v2/x/manifests/y: UNAUTHORIZED: Not Authorized",
        "Error: Get \"https://example.com/v2/\": Forbidden; GET http://example.com/v2/: unexpected status code 403 Forbidden: this proxy leads to ECR only, not to example.com",
        "Error: Get \"https://1.dkr.ecr.us-east-1.amazonaws.com/v2/\": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused",
        "",
    ];

    #[test]
    fn denial_is_only_what_the_registry_refuses() {
        assert_eq!(DENIED.map(|stderr| refusal(stderr).is_some()), [true; 2]);
        assert_eq!(BROKEN.map(refusal), [const { None }; 5]);
    }
}
