//! Applies one grant in AWS, or revokes it.
//!
//! - `executor`: carries out the steps, or only reports them in a dry run.
//! - `probe`: reads new places, and says which of them the grant may claim.
//! - `roles`: the registry role and the instance role.
//! - `removal`: roles that are not desired any more.
//! - `role_owners`: which grants share an instance role, and which grant may have a registry role.
//! - `repositories`: the policies of the grant's repositories.
//! - `repository_texts`: what a grant's status says of one repository.
//! - `access`: reads what access depends on; `grant::access` judges it.
//!
//! The order is that of the design: the consumer's role comes before the policies that name it, and
//! access widens last. When access is revoked, the repository policies go first. One account's
//! failure never hides another's. Each stage returns what it did.

mod access;
mod executor;
mod probe;
mod removal;
mod repositories;
mod repository_texts;
mod role_owners;
mod roles;

pub use self::probe::Probed;

use self::access::Reads;
use self::executor::Executor;
use self::removal::Removal;
use self::repositories::RepositoriesStage;
use self::roles::{InstanceStage, RegistryRoleStage};
use crate::api::conditions::Reason;
use crate::api::grant::{AccessStatus, Applied, CrossAccountRegistryGrantSpec as Spec};
use crate::aws::Account;
use crate::controller::context::{Cloud, Cluster, Context};
use crate::controller::recently_revoked::Revoked;
use crate::controller::repository_policy::types::Freshness;
use crate::grant::change::Change;
use crate::grant::claims::{ClaimsAfter, Place, Unrevoked, claims_after};
use crate::grant::desired::{Desired, DesiredInstance};
use crate::grant::ownership::Owner;
use crate::grant::status::{ApplyReport, StatusPart};
use crate::grant::{AccountId, AccountLookup, Grant, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

type Session = Result<Arc<Account>, Problem>;

/// Result of an apply.
pub struct Done {
    /// The parts of it that the grant's status depends on.
    pub report: ApplyReport,
    pub effects: Effects,
}

/// What an apply did, beyond what the grant's status says.
#[derive(Default)]
pub struct Effects {
    pub log: Log,
    /// Whether the desired state was the same before: then somebody else caused the changes.
    pub as_before: bool,
    /// Places that could not be revoked and are no longer claimed, as the grant's annotation asked.
    pub given_up: BTreeMap<Place, Problem>,
    /// The latest time until the next reconcile, if there is more to do.
    pub again: Option<Duration>,
    /// The repository policies in which access was revoked.
    pub revoked: Vec<Revoked>,
}

impl Done {
    /// Returns the result if nothing was done, with the grant's recorded claims.
    pub fn nothing(claims: Option<Applied>) -> Self {
        Self {
            report: ApplyReport::of_nothing(claims),
            effects: Effects::default(),
        }
    }
}

/// What was done, for people.
#[derive(Default)]
pub struct Log {
    /// Changes in AWS; in a dry run, those that would be made.
    pub changes: Vec<Change>,
    /// Changes that reverted drift, in words.
    pub put_back: Vec<String>,
    /// Further notices, in words.
    pub notices: Vec<String>,
    /// Deleted principals that were removed from foreign statements, in words.
    pub dead_principals: Vec<String>,
}

impl Log {
    fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.put_back.extend(later.put_back);
        self.notices.extend(later.notices);
        self.dead_principals.extend(later.dead_principals);
    }
}

/// Aim of an apply.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// Puts the grant in place.
    Hold(&'a Grant),
    /// Revokes everything of the grant.
    Revoke,
    /// Leaves the grant's access in place, unowned.
    Retain(&'a Grant),
}

/// What is applied for one grant.
#[derive(Clone, Copy)]
pub struct ApplyRequest<'a> {
    pub owner: &'a Owner,
    pub spec: &'a Spec,
    pub aim: Aim<'a>,
    /// Places where this grant may have written.
    pub claims: &'a Applied,
    /// The freshness that syncs of the repository policies need.
    pub freshness: Freshness,
    /// Maximum age of cached managed and registry policies.
    pub max_policy_age: Duration,
    /// Whether places are given up that should be revoked, and to which the operator has no access.
    pub abandons: bool,
}

impl<'a> ApplyRequest<'a> {
    /// Returns the desired grant. `None`: nothing of it should remain ours.
    fn grant(&self) -> Option<&'a Grant> {
        match self.aim {
            Aim::Hold(grant) => Some(grant),
            Aim::Revoke | Aim::Retain(_) => None,
        }
    }

    /// Returns the grant whose access stays without being ours.
    fn retained(&self) -> Option<&'a Grant> {
        match self.aim {
            Aim::Retain(grant) => Some(grant),
            Aim::Hold(_) | Aim::Revoke => None,
        }
    }

    fn registry_account(&self) -> &'a str {
        &self.spec.registry.account_id
    }

    fn consumer_account(&self) -> Option<&'a str> {
        self.spec.consumer.account_id.as_deref()
    }
}

/// Apply of one grant in one reconcile.
pub struct Apply<'a> {
    cluster: &'a Cluster,
    cloud: &'a Cloud,
    executor: Executor<'a>,
    request: ApplyRequest<'a>,
    /// Results of reading the places that were not claimed yet.
    probed: Probed,
}

/// Sessions in the two accounts of a grant. `consumer` is `None` if nothing is done there.
struct Sessions {
    registry: Session,
    consumer: Option<Session>,
}

/// Results of the stages of an apply.
struct Stages {
    instance: InstanceStage,
    registry_role: RegistryRoleStage,
    repositories: RepositoriesStage,
    old_roles: Removal,
    old_instances: Removal,
}

impl<'a> Apply<'a> {
    /// Creates an apply that carries its steps out.
    pub fn live(context: &'a Context, request: ApplyRequest<'a>) -> Self {
        Self {
            executor: Executor::Live(context),
            ..Self::dry_run(&context.cluster, &context.cloud, request)
        }
    }

    /// Creates an apply that only reports its steps.
    pub fn dry_run(cluster: &'a Cluster, cloud: &'a Cloud, request: ApplyRequest<'a>) -> Self {
        Self {
            cluster,
            cloud,
            executor: Executor::DryRun,
            request,
            probed: Probed::default(),
        }
    }

    /// Uses the results of reading the places that were not claimed yet.
    pub fn after(self, probed: Probed) -> Self {
        Self { probed, ..self }
    }
}

impl Apply<'_> {
    pub async fn run(self) -> Done {
        let desired = self
            .request
            .grant()
            .map(|grant| grant.desired(self.request.owner));
        let as_before = self.executor.remembers(&self.request, desired.as_ref());
        let Desired {
            registry_role,
            instance,
        } = desired.unwrap_or_default();
        let (consumer, instance_stage) = Box::pin(self.in_consumer(instance.as_ref())).await;
        let turn = self.cloud.turn(self.request.registry_account()).await;
        let registry = self.session(self.request.registry_account()).await;
        let sessions = Sessions { registry, consumer };
        let role_stage =
            Box::pin(self.keep_registry_role(&sessions.registry, registry_role.as_ref())).await;
        // Each sync of a repository takes its own slot. A sync that waits for another grant's work
        // holds none.
        drop(turn);
        let repositories = Box::pin(self.keep_repositories(&sessions.registry)).await;
        let old_roles =
            Box::pin(self.remove_registry_roles(&sessions, registry_role.as_ref())).await;
        let old_instances = Box::pin(self.remove_instances(&sessions, instance.as_ref())).await;
        let reads = Reads {
            instance: instance_stage.observed.as_ref(),
            registry_role: role_stage.observed.as_ref(),
            repositories: &repositories.reads,
        };
        let access = Box::pin(self.access(&sessions, &reads)).await;
        let stages = Stages {
            instance: instance_stage,
            registry_role: role_stage,
            repositories,
            old_roles,
            old_instances,
        };
        self.done(as_before, &sessions, stages, access)
    }

    /// Puts the results of the stages together.
    fn done(
        &self,
        as_before: bool,
        sessions: &Sessions,
        stages: Stages,
        access: Vec<AccessStatus>,
    ) -> Done {
        let Stages {
            instance,
            registry_role,
            repositories,
            old_roles,
            old_instances,
        } = stages;
        let abandons = self.request.abandons;
        let mut left_of_roles = reported(&old_roles.unrevoked, abandons);
        let mut left_of_instances = reported(&old_instances.unrevoked, abandons);
        let mut left_of_repositories = reported(&repositories.unrevoked, abandons);
        left_of_repositories.extend(repositories.left);
        let unrevoked = [
            repositories.unrevoked,
            old_roles.unrevoked,
            old_instances.unrevoked,
        ]
        .concat();
        let after = self.claims_after(unrevoked, sessions, &instance.part);
        let no_session = sessions.problems();
        let mut log = instance.log;
        log.extend(registry_role.log);
        log.extend(repositories.log);
        log.extend(old_roles.log);
        log.extend(old_instances.log);
        let report = ApplyReport {
            accounts: accounts_part(&no_session),
            no_session,
            role: registry_role.part.with(&mut left_of_roles),
            consumer: instance.part.with(&mut left_of_instances),
            repositories: repositories.part.with(&mut left_of_repositories),
            each_repository: repositories.each,
            registry_status: registry_role.status,
            consumer_status: instance.status,
            access,
            pending: self.executor.pending(&log.changes),
            claims: after.claims,
        };
        let effects = Effects {
            log,
            as_before,
            given_up: after.given_up,
            again: registry_role.again,
            revoked: repositories.revoked,
        };
        Done { report, effects }
    }

    /// Applies the instance role. It takes a work slot in the consumer account: while that
    /// account's limit makes it wait, it holds up no work in the other account.
    async fn in_consumer(
        &self,
        desired: Option<&DesiredInstance>,
    ) -> (Option<Session>, InstanceStage) {
        let has_work = !self.request.claims.instance_roles.is_empty() || desired.is_some();
        let Some(account) = self.request.consumer_account().filter(|_| has_work) else {
            return (None, self.keep_instance(None, desired).await);
        };
        // No slot is held while another grant works on the same role.
        let _held = match (desired, account.parse()) {
            (Some(desired), Ok(id)) => {
                let (role, slot) = self.cloud.alone_on(&id, &desired.role.name).await;
                (Some(role), slot)
            }
            (None, _) | (_, Err(_)) => (None, self.cloud.turn(account).await),
        };
        let session = self.session(account).await;
        let stage = self.keep_instance(Some(&session), desired).await;
        (Some(session), stage)
    }

    async fn session(&self, account: &str) -> Session {
        let id: AccountId = account
            .parse()
            .map_err(|error| Problem::new(Reason::Invalid, error))?;
        let Some(known) = self.cluster.watch_caches.account(&id) else {
            return Err(Problem::new(
                Reason::AccountNotFound,
                format!(
                    "there is no AWSAccount {id} any more, so the operator can neither maintain nor remove what it created there for this grant. Create the AWSAccount again"
                ),
            ));
        };
        let namespace = &self.request.owner.grant.namespace;
        self.cloud
            .aws
            .account(&id, &known.spec, Some(namespace))
            .await
    }

    /// Computes the claims that remain. `unrevoked` are the places that could not be revoked, and
    /// `instance` is the state of the desired instance role.
    fn claims_after(
        &self,
        mut unrevoked: Vec<Unrevoked>,
        sessions: &Sessions,
        instance: &StatusPart,
    ) -> ClaimsAfter {
        let wanted: Vec<Place> = match self.request.grant() {
            Some(grant) => grant.claims().places().collect(),
            None => Vec::new(),
        };
        let role = wanted.iter().find_map(Place::instance_role);
        for place in self.request.claims.places() {
            if wanted.contains(&place) {
                continue;
            }
            if let Some(problem) = sessions.problem_at(&place) {
                // It is reported for the account already.
                unrevoked.push(Unrevoked::because_of(place, problem.clone()));
            } else if role.is_some()
                && place.instance_role() == role
                && !matches!(instance, StatusPart::InPlace(_))
            {
                // The same role under another path or in another profile is corrected together with
                // the desired role, and stays claimed until that is in place.
                unrevoked.push(Unrevoked::kept(place));
            }
        }
        claims_after(
            self.request.claims,
            &wanted,
            unrevoked,
            self.request.abandons,
        )
    }
}

impl Sessions {
    /// Returns the reasons why there is no session.
    fn problems(&self) -> Vec<Problem> {
        [Some(&self.registry), self.consumer.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|session| session.as_ref().err().cloned())
            .collect()
    }

    /// Returns the reason why there is no session in the account of this place.
    fn problem_at(&self, place: &Place) -> Option<&Problem> {
        match place {
            Place::Repositories { .. } | Place::RegistryRole(_) => self.registry.as_ref().err(),
            Place::InstanceRole(_) => self.consumer.as_ref()?.as_ref().err(),
        }
    }
}

/// Returns the problems of places that should be revoked, except those that are given up.
fn reported(unrevoked: &[Unrevoked], abandons: bool) -> Vec<Problem> {
    let problems: BTreeSet<Problem> = unrevoked
        .iter()
        .filter(|unrevoked| !unrevoked.is_given_up(abandons))
        .filter_map(|unrevoked| unrevoked.problem.clone())
        .collect();
    problems.into_iter().collect()
}

fn accounts_part(no_session: &[Problem]) -> StatusPart {
    match Problem::join(no_session) {
        Some(problem) => StatusPart::Failed(problem),
        None => StatusPart::InPlace(
            "the accounts admit the grant, and the operator's credentials for them work".into(),
        ),
    }
}
