//! Makes one grant true in AWS, or takes it back. The order is that of the design: the consumer's role before what names it, access
//! widens last; when access is taken back, the repository policies go first. One account's failure never hides another's.

mod repositories;

use super::Context;
use super::repositories::Look;
use crate::api::account::AWSAccount;
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, AppliedInstanceRole, ConsumerStatus, CrossAccountRegistryGrantSpec, RegistryStatus};
use crate::aws::Account;
use crate::aws::iam::Made;
use crate::grant::consumer::Consumer;
use crate::grant::desired::{Desired, DesiredInstance, DesiredRole, Owner};
use crate::grant::diff::{self, Step};
use crate::grant::observed::Instance;
use crate::grant::status::{Outcome, Part};
use crate::grant::validate::ConsumerRole;
use crate::grant::{AccountId, Directory, Grant, Problem};
use std::collections::BTreeSet;
use std::sync::Arc;

type Session = Result<Arc<Account>, Problem>;

/// What was done, and what came of it.
pub struct Done {
    pub outcome: Outcome,
    /// The steps that were carried out in IAM, in words.
    pub steps: Vec<String>,
}

/// One reconciliation of one grant.
pub struct Enforcement<'a> {
    context: &'a Context,
    owner: &'a Owner,
    /// The registry's and the consumer's, if it is one: they cannot change in a grant's life.
    accounts: (&'a str, Option<&'a str>),
    /// What should be true; `None`: nothing of this grant should be left.
    grant: Option<&'a Grant>,
    /// Where this grant may have left something.
    claims: &'a Applied,
    /// How the repositories' policies are looked at.
    look: Look,
    steps: Vec<String>,
    /// What could not be taken back.
    left: Vec<Problem>,
}

impl<'a> Enforcement<'a> {
    pub fn new(
        context: &'a Context,
        owner: &'a Owner,
        spec: &'a CrossAccountRegistryGrantSpec,
        grant: Option<&'a Grant>,
        claims: &'a Applied,
        look: Look,
    ) -> Self {
        let CrossAccountRegistryGrantSpec { registry, consumer, .. } = spec;
        let accounts = (registry.account_id.as_str(), consumer.account_id.as_deref());
        Self { context, owner, accounts, grant, claims, look, steps: Vec::new(), left: Vec::new() }
    }

    pub async fn run(mut self) -> Done {
        let desired = self.grant.map(|grant| grant.desired(self.owner));
        let Desired { registry_role, instance } = desired.unwrap_or(Desired { registry_role: None, instance: None });
        let registry = self.session(self.accounts.0).await;
        let consumer = match self.accounts.1.filter(|_| !self.claims.instance_roles.is_empty()) {
            Some(account) => Some(self.session(account).await),
            None => None,
        };

        let (consumer_part, consumer_status) = self.keep_instance(consumer.as_ref(), instance.as_ref()).await;
        let (role_part, role_status) = self.keep_registry_role(&registry, registry_role.as_ref()).await;
        let (repositories, each_repository) = self.keep_repositories(&registry).await;
        self.remove_registry_roles(&registry, registry_role.as_ref()).await;
        self.remove_instances(consumer.as_ref(), instance.as_ref()).await;

        self.left.sort();
        let accounts = accounts_part(&registry, consumer.as_ref());
        let mut outcome = Outcome {
            revoking: self.grant.is_none(),
            refusal: Vec::new(),
            accounts,
            role: role_part,
            consumer: consumer_part,
            repositories,
            each_repository,
            replaces: BTreeSet::new(),
            registry_status: RegistryStatus {
                hosts: self.grant.map(Grant::registry_hosts).unwrap_or_default(),
                ..role_status
            },
            consumer_status,
            applied: None,
            summary: self.grant.map(Grant::summary).unwrap_or_default(),
        };
        if let (Some(problem), Part::InPlace(_) | Part::NotRequested(_)) = (Problem::join(&self.left), &outcome.role) {
            outcome.role = Part::Failed(problem);
        }
        // A repository that does not exist holds nothing; whatever else failed may still have something of ours.
        let all_done = outcome.problems().iter().all(|problem| problem.reason == Reason::RepositoryNotFound);
        outcome.applied = match (all_done, self.grant) {
            (true, grant) => grant.map(Grant::claims),
            (false, _) => Some(self.claims.clone()),
        };
        Done { outcome, steps: self.steps }
    }

    async fn session(&self, account: &str) -> Session {
        let id: AccountId = account.parse().map_err(|error| Problem::new(Reason::Invalid, error))?;
        let known: Option<Arc<AWSAccount>> = self.context.directory.account(&id);
        let Some(known) = known else {
            return Err(Problem::new(
                Reason::AccountNotFound,
                format!(
                    "there is no AWSAccount {id} any more, so what was made there for this grant cannot be kept or removed; create it again"
                ),
            ));
        };
        self.context.aws.account(&id, &known.spec).await
    }

    async fn keep_instance(
        &mut self,
        session: Option<&Session>,
        desired: Option<&DesiredInstance>,
    ) -> (Part, ConsumerStatus) {
        let none = ConsumerStatus::default();
        let (desired, account) = match (desired, session) {
            (Some(desired), Some(Ok(account))) => (desired, account),
            (Some(_), Some(Err(problem))) => return (Part::Blocked(problem.clone()), none),
            (_, _) => return (self.no_instance(), none),
        };
        match self.instance(account, desired).await {
            Ok(status) => (
                Part::InPlace(format!("instance role {} is in place in account {}", desired.role.name, account.id)),
                status,
            ),
            Err(problem) => (Part::Failed(problem), none),
        }
    }

    fn no_instance(&self) -> Part {
        let Some(grant) = self.grant else { return Part::NotRequested("access is being revoked".into()) };
        let (needs, consumer) = (grant.needed_in_consumer(), &grant.consumer);
        match (&grant.instance_role, consumer) {
            (ConsumerRole::NotManaged, Consumer::Account { id, .. }) => Part::NotManaged(format!(
                "there is no AWSAccount {id}, so its instance role is not kept. Its admin must give the roles that should have access {needs}"
            )),
            (_, Consumer::Account { id, .. }) => Part::NotRequested(format!(
                "no instance role was asked for; in account {id} the roles that should have access need {needs}"
            )),
            (_, Consumer::Organization(_)) => Part::NotRequested(format!(
                "no role is kept in the accounts of {consumer}; the roles there that should have access need {needs}"
            )),
        }
    }

    async fn instance(&mut self, account: &Account, desired: &DesiredInstance) -> Result<ConsumerStatus, Problem> {
        let observed = Instance {
            role: account.role(&desired.role.name).await?,
            profile: account.instance_profile(&desired.profile).await?,
        };
        let steps = diff::instance(desired, &observed, self.owner)?;
        let mut status = ConsumerStatus {
            role_arn: observed.role.as_ref().map(|role| role.arn.clone()),
            role_id: observed.role.map(|role| role.id),
            instance_profile_arn: observed.profile.map(|profile| profile.arn),
        };
        for made in self.apply(account, steps).await? {
            match made {
                Made::Role { arn, id } => (status.role_arn, status.role_id) = (Some(arn), Some(id)),
                Made::Profile { arn } => status.instance_profile_arn = Some(arn),
            }
        }
        Ok(status)
    }

    async fn keep_registry_role(&mut self, session: &Session, desired: Option<&DesiredRole>) -> (Part, RegistryStatus) {
        let none = RegistryStatus::default();
        let Some(desired) = desired else {
            let asked = self.grant.is_some();
            let why = if asked { "path AssumeRole was not asked for" } else { "access is being revoked" };
            return (Part::NotRequested(why.into()), none);
        };
        let account = match session {
            Ok(account) => account,
            Err(problem) => return (Part::Blocked(problem.clone()), none),
        };
        match self.registry_role(account, desired).await {
            Ok(status) => {
                (Part::InPlace(format!("role {} is in place in account {}", desired.name, account.id)), status)
            }
            Err(problem) => (Part::Failed(problem), none),
        }
    }

    async fn registry_role(&mut self, account: &Account, desired: &DesiredRole) -> Result<RegistryStatus, Problem> {
        let observed = account.role(&desired.name).await?;
        // Repository policies name the role only while it is known to be there and this grant's. A call that failed says neither.
        let is_ours = observed.as_ref().is_some_and(|role| self.owner.owns(&role.tags));
        self.context.ledger.record_role(&self.owner.uid, is_ours);
        let steps = diff::registry_role(desired, observed.as_ref(), self.owner)?;
        let (role_arn, role_id) = observed.map(|role| (role.arn, role.id)).unzip();
        let mut status = RegistryStatus { hosts: Vec::new(), role_arn, role_id };
        for made in self.apply(account, steps).await? {
            if let Made::Role { arn, id } = made {
                (status.role_arn, status.role_id) = (Some(arn), Some(id));
            }
        }
        self.context.ledger.record_role(&self.owner.uid, true);
        Ok(status)
    }

    async fn remove_registry_roles(&mut self, session: &Session, desired: Option<&DesiredRole>) {
        let kept = desired.map(|role| role.name.as_str());
        let Ok(account) = session else { return };
        for name in self.claims.registry_roles.iter().filter(|name| Some(name.as_str()) != kept) {
            if let Err(problem) = self.remove_registry_role(account, name).await {
                self.left.push(problem);
            }
        }
    }

    async fn remove_registry_role(&mut self, account: &Account, name: &str) -> Result<(), Problem> {
        self.context.ledger.record_role(&self.owner.uid, false);
        let observed = account.role(name).await?;
        let steps = diff::without_registry_role(name, observed.as_ref(), self.owner);
        self.apply(account, steps).await.map(drop)
    }

    async fn remove_instances(&mut self, session: Option<&Session>, desired: Option<&DesiredInstance>) {
        let kept = desired.map(|instance| instance.role.name.as_str());
        let Some(Ok(account)) = session else { return };
        for claimed in self.claims.instance_roles.iter().filter(|claimed| Some(claimed.role.as_str()) != kept) {
            if let Err(problem) = self.remove_instance(account, claimed).await {
                self.left.push(problem);
            }
        }
    }

    async fn remove_instance(&mut self, account: &Account, claimed: &AppliedInstanceRole) -> Result<(), Problem> {
        let AppliedInstanceRole { role, path: _, instance_profile } = claimed;
        let observed =
            Instance { role: account.role(role).await?, profile: account.instance_profile(instance_profile).await? };
        let steps = diff::without_instance(role, instance_profile, &observed, self.owner)?;
        self.apply(account, steps).await.map(drop)
    }

    /// Carries out steps in their order, until one fails.
    async fn apply(&mut self, account: &Account, steps: Vec<Step>) -> Result<Vec<Made>, Problem> {
        let mut made = Vec::new();
        for step in steps {
            let words = format!("{step} in account {}", account.id);
            self.context.leadership.may_write()?;
            made.extend(account.apply(step).await?);
            tracing::info!(grant = %self.owner.grant, "{words}");
            self.steps.push(words);
        }
        Ok(made)
    }
}

fn accounts_part(registry: &Session, consumer: Option<&Session>) -> Part {
    let sessions = [Some(registry), consumer];
    let problems: Vec<Problem> =
        sessions.into_iter().flatten().filter_map(|session| session.as_ref().err().cloned()).collect();
    match Problem::join(&problems) {
        Some(problem) => Part::Failed(problem),
        None => Part::InPlace("the accounts admit the grant, and the operator's credentials are for them".into()),
    }
}
