//! Applies the roles of one grant: the registry role, and the instance role in the consumer
//! account.

use super::done::Log;
use super::role_owners;
use super::types::{Apply, Session};
use crate::api::conditions::Reason;
use crate::api::grant::{ConsumerStatus, RegistryStatus};
use crate::aws::Account;
use crate::aws::iam::Made;
use crate::controller::second_writer;
use crate::grant::Problem;
use crate::grant::claims::Place;
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::grant::diff::{self, Sharers};
use crate::grant::model::{Consumer, ConsumerRole};
use crate::grant::observed::{Instance, Role, RoleReading};
use crate::grant::status::StatusPart;
use std::collections::BTreeSet;
use std::time::Duration;

/// Result of applying a role.
pub struct RoleStage<S> {
    pub part: StatusPart,
    pub status: S,
    pub log: Log,
    /// The role as it is now.
    pub observed: RoleReading,
    /// The latest time until the role has to be read again.
    pub again: Option<Duration>,
}

pub type InstanceStage = RoleStage<ConsumerStatus>;
pub type RegistryRoleStage = RoleStage<RegistryStatus>;

impl<S: Default> RoleStage<S> {
    /// Returns the result for a role that was not read.
    fn not_read(part: StatusPart) -> Self {
        Self {
            part,
            status: S::default(),
            log: Log::default(),
            observed: RoleReading::NotRead,
            again: None,
        }
    }
}

impl Apply<'_> {
    pub(super) async fn keep_instance(
        &self,
        session: Option<&Session>,
        desired: Option<&DesiredInstance>,
    ) -> InstanceStage {
        let (desired, account) = match (desired, session) {
            (Some(desired), Some(Ok(account))) => (desired, account),
            (Some(_), Some(Err(problem))) => {
                return RoleStage::not_read(StatusPart::Blocked(problem.clone()));
            }
            (_, _) => return RoleStage::not_read(self.no_instance()),
        };
        if let Some(problem) = self.unusable(|place| matches!(place, Place::InstanceRole(_))) {
            return RoleStage::not_read(StatusPart::Failed(problem));
        }
        let mut stage = RoleStage::not_read(StatusPart::InPlace(format!(
            "instance role {} is in place in account {}",
            desired.role.name, account.id
        )));
        let applied = self.instance(account, desired, &mut stage).await;
        self.ended(stage, applied)
    }

    /// Completes the result of a stage that began with what it says once all is in place.
    fn ended<S>(&self, mut stage: RoleStage<S>, applied: Result<S, Problem>) -> RoleStage<S> {
        match applied {
            Ok(status) => {
                stage.status = status;
                if let StatusPart::InPlace(in_place) = stage.part {
                    stage.part = self.executor.part(&stage.log.changes, in_place);
                }
            }
            Err(problem) => stage.part = StatusPart::Failed(problem),
        }
        stage
    }

    fn no_instance(&self) -> StatusPart {
        let Some(grant) = self.request.grant() else {
            return StatusPart::NotRequested("access is being revoked".into());
        };
        let needs = grant.needed_in_consumer();
        match (&grant.instance_role, &grant.consumer) {
            (ConsumerRole::NotManaged, Consumer::Account { id, .. }) => {
                StatusPart::NotManaged(format!(
                    "there is no AWSAccount {id}, so the operator does not manage the instance role there. The account's admin must give these permissions to the roles that should have access: {needs}"
                ))
            }
            (_, Consumer::Account { id, .. }) => StatusPart::NotRequested(format!(
                "no instance role is requested. In account {id}, the roles that should have access need {needs}"
            )),
            (_, consumer @ Consumer::Organization(_)) => StatusPart::NotRequested(format!(
                "the operator manages no roles in the accounts of {consumer}. The roles there that should have access need {needs}"
            )),
        }
    }

    /// Applies the instance role. The caller excludes other work on the role meanwhile.
    async fn instance(
        &self,
        account: &Account,
        desired: &DesiredInstance,
        stage: &mut InstanceStage,
    ) -> Result<ConsumerStatus, Problem> {
        let owner = self.request.owner;
        let role = &desired.role.name;
        let profile = desired.profile.as_deref();
        let sharers = role_owners::sharers(self.cluster, owner, &account.id, role, profile);
        let probed = self.probed.instance.clone();
        // Another grant's work may have come between the probe and this.
        let observed = match probed.filter(|_| sharers == Sharers::default()) {
            Some(observed) => observed,
            None => observed_instance(account, role, profile).await?,
        };
        stage.observed = RoleReading::of(observed.role.clone());
        self.look_for_another_writer(account, role, observed.role.as_ref());
        let steps = diff::instance(desired, &observed, owner, &sharers)?;
        let Instance {
            role: mut present,
            profile,
            held_by: _,
        } = observed;
        let mut status = ConsumerStatus {
            role_arn: present.as_ref().map(|role| role.arn.clone()),
            role_id: present.as_ref().map(|role| role.id.clone()),
            instance_profile_arn: profile.map(|profile| profile.arn),
        };
        let carried_out = self.executor.carry_out(account, owner, steps, &mut present);
        let (changes, applied) = carried_out.await;
        stage.log.changes.extend(changes);
        stage.observed = RoleReading::of(present);
        for made in applied? {
            match made {
                Made::Role { arn, id } => (status.role_arn, status.role_id) = (Some(arn), Some(id)),
                Made::Profile { arn } => status.instance_profile_arn = Some(arn),
            }
        }
        self.note_tags(account, role);
        Ok(status)
    }

    pub(super) async fn keep_registry_role(
        &self,
        session: &Session,
        desired: Option<&DesiredRole>,
    ) -> RegistryRoleStage {
        let Some(desired) = desired else {
            let why = if self.request.grant().is_some() {
                "path AssumeRole is not requested"
            } else {
                "access is being revoked"
            };
            return RoleStage::not_read(StatusPart::NotRequested(why.into()));
        };
        let account = match session {
            Ok(account) => account,
            Err(problem) => return RoleStage::not_read(StatusPart::Blocked(problem.clone())),
        };
        if let Some(problem) = self.unusable(|place| matches!(place, Place::RegistryRole(_))) {
            return RoleStage::not_read(StatusPart::Failed(problem));
        }
        let mut stage = RoleStage::not_read(StatusPart::InPlace(format!(
            "role {} is in place in account {}",
            desired.name, account.id
        )));
        let applied = self.registry_role(account, desired, &mut stage).await;
        self.ended(stage, applied)
    }

    async fn registry_role(
        &self,
        account: &Account,
        desired: &DesiredRole,
        stage: &mut RegistryRoleStage,
    ) -> Result<RegistryStatus, Problem> {
        let owner = self.request.owner;
        let mut observed = match self.probed.registry_role.clone() {
            RoleReading::Found(role) => Some(*role),
            RoleReading::Absent => None,
            RoleReading::NotRead => account.role(&desired.name).await?,
        };
        stage.observed = RoleReading::of(observed.clone());
        self.look_for_another_writer(account, &desired.name, observed.as_ref());
        // Repository policies name the role only while it is known to exist and to be owned by this
        // grant. A failed call proves neither.
        let is_ours = observed.as_ref().is_some_and(|role| owner.owns(&role.tags));
        let claims_cache = &self.cluster.claims_cache;
        claims_cache.record_role(&owner.uid, is_ours);
        if observed.is_none() {
            role_owners::eldest(self.cluster, owner, desired)?;
        }
        let steps = diff::registry_role(desired, observed.as_ref(), owner, account.now())?;
        let (role_arn, role_id) = observed
            .as_ref()
            .map(|role| (role.arn.clone(), role.id.clone()))
            .unzip();
        let mut status = RegistryStatus {
            hosts: Vec::new(),
            role_arn,
            role_id,
        };
        let ends_sessions = diff::ends_sessions(&steps);
        let carried_out = self
            .executor
            .carry_out(account, owner, steps, &mut observed);
        let (changes, applied) = carried_out.await;
        stage.log.changes.extend(changes);
        stage.again = next_end_of_sessions(account, observed.as_ref());
        stage.observed = RoleReading::of(observed);
        for made in applied? {
            if let Made::Role { arn, id } = made {
                (status.role_arn, status.role_id) = (Some(arn), Some(id));
            }
        }
        if self.executor.live().is_none() {
            return Ok(status);
        }
        if ends_sessions {
            self.end_sessions(account, desired, stage).await?;
        }
        claims_cache.record_role(&owner.uid, true);
        self.note_tags(account, &desired.name);
        Ok(status)
    }

    fn look_for_another_writer(&self, account: &Account, name: &str, role: Option<&Role>) {
        if let Some(role) = role {
            let owner = self.request.owner;
            second_writer::look_at_tags(self.cluster, &account.id, name, &role.tags, owner);
        }
    }

    /// Notes that the role is as it should be.
    fn note_tags(&self, account: &Account, name: &str) {
        if self.executor.live().is_some() {
            let second_writers = &self.cluster.second_writers;
            second_writers.note_tags(&account.id, name, self.request.owner);
        }
    }

    /// Ends the sessions that the trust policy admitted before it was narrowed.
    async fn end_sessions(
        &self,
        account: &Account,
        desired: &DesiredRole,
        stage: &mut RegistryRoleStage,
    ) -> Result<(), Problem> {
        let owner = self.request.owner;
        let mut narrowed = account.role(&desired.name).await?;
        let steps = diff::registry_role(desired, narrowed.as_ref(), owner, account.now())?;
        if diff::ends_sessions(&steps) {
            return Err(Problem::new(
                Reason::Settling,
                format!(
                    "the narrowed trust policy of role {} in account {} is not visible in IAM yet. Once it is, the operator ends the role's existing sessions",
                    desired.name, account.id
                ),
            ));
        }
        let carried_out = self
            .executor
            .carry_out(account, owner, steps, &mut narrowed);
        let (changes, applied) = carried_out.await;
        stage.log.changes.extend(changes);
        stage.again = next_end_of_sessions(account, narrowed.as_ref());
        stage.observed = RoleReading::of(narrowed);
        applied.map(drop).map_err(Problem::from)
    }
}

fn next_end_of_sessions(account: &Account, role: Option<&Role>) -> Option<Duration> {
    diff::ends_sessions_again_in(role?, account.now())
}

/// Reads an instance role, and its instance profile if it has one.
pub async fn observed_instance(
    account: &Account,
    role: &str,
    profile: Option<&str>,
) -> Result<Instance, Problem> {
    let profile = match profile {
        Some(name) => account.instance_profile(name).await?,
        None => None,
    };
    Ok(Instance {
        role: account.role(role).await?,
        profile,
        held_by: BTreeSet::new(),
    })
}
