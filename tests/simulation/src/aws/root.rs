//! What a person does in an account, directly on the state: no credentials, no faults, no log.

use super::answer::ApiError;
use super::documents::Policy;
use super::entities::{Repository, Session, User};
use super::observe::Call;
use super::request::{Parameters, Service};
use super::state::Change;
use super::sts::{self, Wanted};
use super::world::{Run, World};
use aws_credential_types::Credentials;
use jiff::Timestamp;
use std::sync::Arc;

/// An account's root. Its calls are carried out by the same code as everybody's, but do not travel.
#[derive(Clone, Debug)]
pub struct Root {
    world: World,
    account: String,
}

/// The tags of a session: keys, values, and whether the tag is transitive.
pub type SessionTags<'a> = &'a [(&'a str, &'a str, bool)];

impl Root {
    pub(super) fn new(world: World, account: &str) -> Self {
        Self {
            world,
            account: account.to_owned(),
        }
    }

    /// Returns the account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Returns the world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Carries out any operation of IAM, by its name and parameters (`Tags.member.1.Key`).
    ///
    /// # Errors
    /// When IAM refuses.
    pub fn iam(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<(), ApiError> {
        let form = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.call(Service::Iam, "us-east-1", operation, Parameters::Form(form))
    }

    /// Carries out any operation of ECR in a region, by its name and parameters.
    ///
    /// # Errors
    /// When ECR refuses.
    pub fn ecr(
        &self,
        region: &str,
        operation: &str,
        parameters: serde_json::Value,
    ) -> Result<(), ApiError> {
        let parameters = match parameters {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        self.call(
            Service::Ecr,
            region,
            operation,
            Parameters::Json(parameters),
        )
    }

    /// Creates a role with this trust policy; returns its ARN.
    ///
    /// # Errors
    /// When IAM refuses.
    pub fn create_role(&self, name: &str, trust: &str) -> Result<String, ApiError> {
        let named = [("RoleName", name), ("AssumeRolePolicyDocument", trust)];
        self.iam("CreateRole", &named)?;
        let arn = |state: &super::State| {
            let role = state.role(&self.account, name);
            role.map(|role| role.arn.clone()).unwrap_or_default()
        };
        Ok(self.world.read(arn))
    }

    /// Deletes a role with everything that it has and all instance profiles that contain it.
    ///
    /// # Errors
    /// When the role does not exist.
    pub fn delete_role(&self, name: &str) -> Result<(), ApiError> {
        let (inline, attached, profiles) = self.world.read(|state| {
            let role = state.role(&self.account, name);
            let account = state.account(&self.account);
            let contains = |role: &Option<String>| {
                role.as_deref()
                    .is_some_and(|role| role.eq_ignore_ascii_case(name))
            };
            (
                role.map(|role| role.inline.keys().cloned().collect::<Vec<_>>()),
                role.map(|role| role.attached.clone()),
                account
                    .into_iter()
                    .flat_map(|account| account.profiles.iter())
                    .filter(|(_, profile)| contains(&profile.role))
                    .map(|(_, profile)| profile.name.clone())
                    .collect::<Vec<_>>(),
            )
        });
        for profile in &profiles {
            let named = [
                ("InstanceProfileName", profile.as_str()),
                ("RoleName", name),
            ];
            self.iam("RemoveRoleFromInstanceProfile", &named)?;
        }
        for policy in inline.iter().flatten() {
            self.iam(
                "DeleteRolePolicy",
                &[("RoleName", name), ("PolicyName", policy)],
            )?;
        }
        for arn in attached.iter().flatten() {
            self.iam(
                "DetachRolePolicy",
                &[("RoleName", name), ("PolicyArn", arn)],
            )?;
        }
        self.iam("DeleteRole", &[("RoleName", name)])
    }

    /// Replaces a role's trust policy.
    ///
    /// # Errors
    /// When IAM refuses.
    pub fn set_trust(&self, role: &str, trust: &str) -> Result<(), ApiError> {
        self.iam(
            "UpdateAssumeRolePolicy",
            &[("RoleName", role), ("PolicyDocument", trust)],
        )
    }

    /// Creates a user; returns its ARN.
    pub fn create_user(&self, name: &str) -> String {
        let mut core = self.world.core();
        let partition = core
            .state
            .account(&self.account)
            .map_or("aws", |account| account.partition);
        let user = User {
            name: name.to_owned(),
            arn: format!("arn:{partition}:iam::{}:user/{name}", self.account),
            id: core.ids.unique("AIDA"),
        };
        let arn = user.arn.clone();
        let change = Change::User {
            account: self.account.clone(),
            name: name.to_owned(),
            to: Some(Arc::new(user)),
        };
        core.commit(None, &change);
        arn
    }

    /// Deletes a user.
    pub fn delete_user(&self, name: &str) {
        let change = Change::User {
            account: self.account.clone(),
            name: name.to_owned(),
            to: None,
        };
        self.world.core().commit(None, &change);
    }

    /// Creates a repository.
    ///
    /// # Errors
    /// When ECR refuses.
    pub fn create_repository(&self, region: &str, name: &str) -> Result<(), ApiError> {
        let named = serde_json::json!({"repositoryName": name});
        self.ecr(region, "CreateRepository", named)
    }

    /// Replaces a repository's policy by a document that ECR accepts.
    ///
    /// # Errors
    /// When ECR refuses.
    pub fn set_repository_policy(
        &self,
        region: &str,
        name: &str,
        text: &str,
    ) -> Result<(), ApiError> {
        let named = serde_json::json!({"repositoryName": name, "policyText": text});
        self.ecr(region, "SetRepositoryPolicy", named)
    }

    /// Replaces a repository's policy by any text, even one that ECR would refuse. Without a name,
    /// the registry's own policy is replaced.
    ///
    /// # Errors
    /// When the repository does not exist.
    pub fn plant_policy(
        &self,
        region: &str,
        name: Option<&str>,
        text: &str,
    ) -> Result<(), ApiError> {
        let mut core = self.world.core();
        let policy = Policy::planted(text);
        let (account, region) = (self.account.clone(), region.to_owned());
        let change = match name {
            None => Change::RegistryPolicy {
                account,
                region,
                to: Some(Arc::new(policy)),
            },
            Some(name) => {
                let found = core.state.repository(&account, &region, name);
                let repository = found.ok_or_else(|| {
                    ApiError::new(400, "RepositoryNotFoundException", name.to_owned())
                })?;
                let repository = Repository {
                    policy: Some(policy),
                    ..Repository::clone(repository)
                };
                Change::Repository {
                    account,
                    region,
                    name: name.to_owned(),
                    to: Some(Arc::new(repository)),
                }
            }
        };
        core.commit(None, &change);
        Ok(())
    }

    /// Begins a session of a role, as the platform on which a workload runs does: no trust policy
    /// is asked.
    ///
    /// # Errors
    /// When the role does not exist.
    pub fn session(
        &self,
        role: &str,
        seconds: i64,
        tags: SessionTags<'_>,
    ) -> Result<Credentials, ApiError> {
        let mut core = self.world.core();
        let role = core
            .state
            .role(&self.account, role)
            .cloned()
            .ok_or_else(|| ApiError::no_such_entity(format!("there is no role {role}")))?;
        let call = self.described(Service::Sts, "us-east-1", "AssumeRole");
        let now = core.settings.clock.now();
        let mut run = Run {
            core: &mut core,
            call: &call,
            account: self.account.clone(),
            by_test: true,
            now,
            seen: now,
        };
        let wanted = Wanted {
            name: "platform".into(),
            seconds,
            tags: tags
                .iter()
                .map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            transitive: tags
                .iter()
                .filter(|(_, _, is_transitive)| *is_transitive)
                .map(|(key, _, _)| key.to_ascii_lowercase())
                .collect(),
        };
        Ok(credentials(&sts::begin(
            &mut run,
            &self.account,
            &role,
            wanted,
        )))
    }

    /// Returns the credentials of the root itself, for clients of the SDK.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(&self.account, "root", None, None, "the account's root")
    }

    fn call(
        &self,
        service: Service,
        region: &str,
        operation: &str,
        parameters: Parameters,
    ) -> Result<(), ApiError> {
        let call = Call {
            parameters: Arc::new(parameters),
            ..self.described(service, region, operation)
        };
        self.world.core().by_root(&call)
    }

    fn described(&self, service: Service, region: &str, operation: &str) -> Call {
        Call {
            number: 0,
            time: Timestamp::UNIX_EPOCH,
            service,
            region: region.to_owned(),
            operation: operation.to_owned(),
            account: self.account.clone(),
            caller: format!("arn:aws:iam::{}:root", self.account),
            access_key: self.account.clone(),
            parameters: Arc::new(Parameters::Form(Default::default())),
        }
    }
}

fn credentials(session: &Session) -> Credentials {
    Credentials::new(
        &session.access_key,
        &session.secret,
        Some(session.token.clone()),
        Some(session.expires.into()),
        "a role's session",
    )
}
