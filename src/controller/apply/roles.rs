//! Applies the roles of one grant: the registry role, and the instance role in the consumer
//! account.

use super::{Enforcement, Failed, Session, role_owners};
use crate::api::conditions::Reason;
use crate::api::grant::{AppliedInstanceRole, ConsumerStatus, RegistryStatus};
use crate::aws::Account;
use crate::aws::iam::Made;
use crate::aws::rate_limit::{Priority, Work};
use crate::controller::second_writer;
use crate::grant::Problem;
use crate::grant::claims::Place;
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::grant::diff::{self, Sharers, Step};
use crate::grant::model::{Consumer, ConsumerRole};
use crate::grant::observed::{Instance, Role};
use crate::grant::status::StatusPart;
use crate::policy::Document;
use crate::policy::dead_ids::{self, Cleaned};
use std::collections::BTreeSet;

impl Enforcement<'_> {
    pub(super) async fn keep_instance(
        &mut self,
        session: Option<&Session>,
        desired: Option<&DesiredInstance>,
    ) -> (StatusPart, ConsumerStatus) {
        let none = ConsumerStatus::default();
        let (desired, account) = match (desired, session) {
            (Some(desired), Some(Ok(account))) => (desired, account),
            (Some(_), Some(Err(problem))) => return (StatusPart::Blocked(problem.clone()), none),
            (_, _) => return (self.no_instance(), none),
        };
        if let Some(problem) = self.unusable(|place| matches!(place, Place::InstanceRole(_))) {
            return (StatusPart::Failed(problem), none);
        }
        let before = self.changes.len();
        match self.instance(account, desired).await {
            Ok(status) => {
                let in_place = format!(
                    "instance role {} is in place in account {}",
                    desired.role.name, account.id
                );
                (self.part(before, in_place), status)
            }
            Err(problem) => (StatusPart::Failed(problem), none),
        }
    }

    fn no_instance(&self) -> StatusPart {
        let Some(grant) = self.grant else {
            return StatusPart::NotRequested("access is being revoked".into());
        };
        let (needs, consumer) = (grant.needed_in_consumer(), &grant.consumer);
        match (&grant.instance_role, consumer) {
            (ConsumerRole::NotManaged, Consumer::Account { id, .. }) => {
                StatusPart::NotManaged(format!(
                    "there is no AWSAccount {id}, so its instance role is not kept. Its admin must give the roles that should have access {needs}"
                ))
            }
            (_, Consumer::Account { id, .. }) => StatusPart::NotRequested(format!(
                "no instance role was asked for; in account {id} the roles that should have access need {needs}"
            )),
            (_, Consumer::Organization(_)) => StatusPart::NotRequested(format!(
                "no role is kept in the accounts of {consumer}; the roles there that should have access need {needs}"
            )),
        }
    }

    /// Applies the instance role. The caller excludes other work on the role meanwhile.
    async fn instance(
        &mut self,
        account: &Account,
        desired: &DesiredInstance,
    ) -> Result<ConsumerStatus, Problem> {
        let (role, profile) = (
            &desired.role.name,
            desired.profile.as_deref().unwrap_or_default(),
        );
        let sharers = role_owners::sharers(self.world, self.owner, &account.id, role, profile);
        let observed = match self
            .probed
            .instance
            .take()
            .filter(|_| sharers == Sharers::default())
        {
            Some(observed) => observed,
            None => self.observed_instance(account, role, profile).await?,
        };
        self.read.instance = Some(observed.role.clone());
        self.look_for_another_writer(account, role, observed.role.as_ref());
        let steps = diff::instance(desired, &observed, self.owner, &sharers)?;
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
        let applied = self.apply(account, steps, &mut present).await;
        self.read.instance = Some(present);
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
        &mut self,
        session: &Session,
        desired: Option<&DesiredRole>,
    ) -> (StatusPart, RegistryStatus) {
        let none = RegistryStatus::default();
        let Some(desired) = desired else {
            let asked = self.grant.is_some();
            let why = if asked {
                "path AssumeRole was not asked for"
            } else {
                "access is being revoked"
            };
            return (StatusPart::NotRequested(why.into()), none);
        };
        let account = match session {
            Ok(account) => account,
            Err(problem) => return (StatusPart::Blocked(problem.clone()), none),
        };
        if let Some(problem) = self.unusable(|place| matches!(place, Place::RegistryRole(_))) {
            return (StatusPart::Failed(problem), none);
        }
        let before = self.changes.len();
        match self.registry_role(account, desired).await {
            Ok(status) => (
                self.part(
                    before,
                    format!(
                        "role {} is in place in account {}",
                        desired.name, account.id
                    ),
                ),
                status,
            ),
            Err(problem) => (StatusPart::Failed(problem), none),
        }
    }

    pub(super) async fn observed_instance(
        &self,
        account: &Account,
        role: &str,
        profile: &str,
    ) -> Result<Instance, Problem> {
        let profile = match profile {
            "" => None,
            name => account.instance_profile(name).await?,
        };
        Ok(Instance {
            role: account.role(role).await?,
            profile,
            held_by: BTreeSet::new(),
        })
    }

    async fn registry_role(
        &mut self,
        account: &Account,
        desired: &DesiredRole,
    ) -> Result<RegistryStatus, Problem> {
        let mut observed = match self.probed.registry_role.take() {
            Some(observed) => observed,
            None => account.role(&desired.name).await?,
        };
        self.read.registry_role = Some(observed.clone());
        self.look_for_another_writer(account, &desired.name, observed.as_ref());
        // Repository policies name the role only while it is known to exist and to be owned by this
        // grant. A failed call proves neither.
        let is_ours = observed
            .as_ref()
            .is_some_and(|role| self.owner.owns(&role.tags));
        self.world
            .claims_cache
            .record_role(&self.owner.uid, is_ours);
        if observed.is_none() {
            role_owners::eldest(self.world, self.owner, desired)?;
        }
        let steps = diff::registry_role(desired, observed.as_ref(), self.owner, account.now())?;
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
        let applied = self.apply(account, steps, &mut observed).await;
        self.again = observed
            .as_ref()
            .and_then(|role| diff::ends_sessions_again_in(role, account.now()));
        self.read.registry_role = Some(observed);
        for made in applied? {
            if let Made::Role { arn, id } = made {
                (status.role_arn, status.role_id) = (Some(arn), Some(id));
            }
        }
        if self.observes {
            return Ok(status);
        }
        if ends_sessions {
            self.end_sessions(account, desired).await?;
        }
        self.world.claims_cache.record_role(&self.owner.uid, true);
        self.note_tags(account, &desired.name);
        Ok(status)
    }

    fn look_for_another_writer(&self, account: &Account, name: &str, role: Option<&Role>) {
        if let Some(role) = role {
            second_writer::look_at_tags(self.world, &account.id, name, &role.tags, self.owner);
        }
    }

    /// Notes that the role is as it should be.
    fn note_tags(&self, account: &Account, name: &str) {
        if !self.observes {
            self.world
                .second_writers
                .note_tags(&account.id, name, self.owner);
        }
    }

    /// Ends the sessions that the trust policy admitted before it was narrowed.
    async fn end_sessions(
        &mut self,
        account: &Account,
        desired: &DesiredRole,
    ) -> Result<(), Problem> {
        let mut narrowed = account.role(&desired.name).await?;
        let steps = diff::registry_role(desired, narrowed.as_ref(), self.owner, account.now())?;
        if diff::ends_sessions(&steps) {
            return Err(Problem::new(
                Reason::Settling,
                format!(
                    "the narrowed trust policy of role {} in account {} is not visible yet; the sessions that it gave out are ended once it is",
                    desired.name, account.id
                ),
            ));
        }
        let applied = self.apply(account, steps, &mut narrowed).await;
        self.again = narrowed
            .as_ref()
            .and_then(|role| diff::ends_sessions_again_in(role, account.now()));
        self.read.registry_role = Some(narrowed);
        applied.map(drop).map_err(Problem::from)
    }

    pub(super) async fn remove_registry_roles(
        &mut self,
        session: &Session,
        desired: Option<&DesiredRole>,
    ) {
        let kept = desired.map(|role| role.name.as_str());
        let Ok(account) = session else { return };
        for name in self
            .claims
            .registry_roles
            .iter()
            .filter(|name| Some(name.as_str()) != kept)
        {
            if let Err(problem) = self.remove_registry_role(account, name).await {
                let reported = self.keep_claim(Place::RegistryRole(name.clone()), problem);
                self.left.registry_roles.extend(reported);
            }
        }
    }

    async fn remove_registry_role(&mut self, account: &Account, name: &str) -> Result<(), Problem> {
        if !self.observes {
            self.world.claims_cache.record_role(&self.owner.uid, false);
        }
        let mut observed = account.role(name).await?;
        let stays = self
            .retained
            .and_then(|grant| grant.role.as_ref())
            .is_some_and(|role| role.identity.name == name);
        let (steps, held) = if stays {
            (
                diff::retain_registry_role(name, observed.as_ref(), self.owner),
                None,
            )
        } else {
            let held_by = if observed.is_some() {
                account.profiles_of(name).await?
            } else {
                BTreeSet::new()
            };
            diff::without_registry_role(name, observed.as_ref(), &held_by, self.owner)
        };
        self.apply(account, steps, &mut observed).await?;
        held.map_or(Ok(()), Err)
    }

    pub(super) async fn remove_instances(
        &mut self,
        session: Option<&Session>,
        desired: Option<&DesiredInstance>,
    ) {
        let kept = desired.map(|instance| instance.role.name.as_str());
        let Some(Ok(account)) = session else { return };
        // This revocation waits for other work on the roles, which becomes as urgent.
        let revokes = Work::current().urgency == Priority::Revocation;
        let _revoking = revokes.then(|| self.world.slots.revoking(account.id.as_str()));
        for claimed in self
            .claims
            .instance_roles
            .iter()
            .filter(|claimed| Some(claimed.role.as_str()) != kept)
        {
            if let Err(problem) = self.remove_instance(account, claimed).await {
                let reported = self.keep_claim(Place::InstanceRole(claimed.clone()), problem);
                self.left.instance_roles.extend(reported);
            }
        }
    }

    async fn remove_instance(
        &mut self,
        account: &Account,
        claimed: &AppliedInstanceRole,
    ) -> Result<(), Problem> {
        let AppliedInstanceRole {
            role,
            path: _,
            instance_profile,
        } = claimed;
        let (_alone, _turn) = self.world.alone_on(&account.id, role).await;
        let mut observed = self
            .observed_instance(account, role, instance_profile)
            .await?;
        let sharers =
            role_owners::sharers(self.world, self.owner, &account.id, role, instance_profile);
        let profile = Some(instance_profile.as_str()).filter(|name| !name.is_empty());
        let stays = self
            .retained
            .is_some_and(|grant| match &grant.instance_role {
                ConsumerRole::Kept { role: kept, .. } => kept.name == *role,
                ConsumerRole::NotRequested | ConsumerRole::NotManaged => false,
            });
        let (steps, held) = if stays {
            (
                diff::retain_instance_role(role, profile, &observed, self.owner, &sharers)?,
                None,
            )
        } else {
            if observed.role.is_some() {
                observed.held_by = account.profiles_of(role).await?;
            }
            diff::without_instance(
                role,
                profile,
                &observed,
                self.owner,
                &sharers,
                self.on_delete,
            )
        };
        match self.apply(account, steps, &mut observed.role).await {
            Err(Failed {
                problem,
                refused: Some(trust),
            }) if !stays => {
                self.revoke_in_blocked_trust(account, claimed, observed, &sharers, &trust, problem)
                    .await?;
                held.map_or(Ok(()), Err)
            }
            Err(failed) => Err(failed.into()),
            Ok(_) => {
                self.world.role_locks.forget_refusals(&account.id, role);
                held.map_or(Ok(()), Err)
            }
        }
    }

    /// Retries a revocation for which IAM refused the trust policy without our statement, after
    /// everything else was revoked. If the cause is principals that are proven dead, the policy is
    /// written without them.
    async fn revoke_in_blocked_trust(
        &mut self,
        account: &Account,
        claimed: &AppliedInstanceRole,
        mut observed: Instance,
        sharers: &Sharers,
        refused: &Document,
        problem: Problem,
    ) -> Result<(), Problem> {
        let AppliedInstanceRole {
            role,
            path: _,
            instance_profile,
        } = claimed;
        let installation = &self.owner.installation;
        let shown: BTreeSet<String> = dead_ids::shown(refused, installation)
            .into_iter()
            .map(|dead| dead.id)
            .collect();
        let proven = self.world.role_locks.refused(&account.id, role, &shown);
        let blocked = |problem: Problem| {
            let left = "The grant's own policy on the role was removed. The annotation registrygrants.dev/abandon=true lets go of the trust statement";
            Problem::new(
                Reason::BlockedPolicy,
                format!("{}. {left}", problem.message),
            )
        };
        let trust = observed
            .role
            .as_ref()
            .and_then(|role| role.trust.as_ref().ok());
        let Some(Cleaned {
            document,
            originals,
        }) = trust.map(|trust| dead_ids::without(trust, &proven, installation))
        else {
            return Err(blocked(problem));
        };
        if originals.is_empty() {
            return Err(blocked(problem));
        }
        if let Some(role) = &mut observed.role {
            role.trust = Ok(document);
        }
        let profile = Some(instance_profile.as_str()).filter(|name| !name.is_empty());
        let (steps, left) = diff::without_instance(
            role,
            profile,
            &observed,
            self.owner,
            sharers,
            self.on_delete,
        );
        let writes = steps
            .iter()
            .any(|step| matches!(step, Step::UpdateTrust { .. }));
        self.apply(account, steps, &mut observed.role)
            .await
            .map_err(|failed| blocked(failed.problem))?;
        self.world.role_locks.forget_refusals(&account.id, role);
        if writes {
            let ids = proven.into_iter().collect::<Vec<_>>().join(", ");
            let original = Document::of(originals);
            tracing::warn!(account = %account.id, role, ids, %original, "removed deleted principals from foreign statements in a trust policy; their originals are here");
            self.dead_principals.push(format!(
                "{ids} was removed from the trust policy of role {role} in account {}: the principal was deleted, and IAM refused every write that a revocation needed. The operator's log has the statements as they were",
                account.id
            ));
        }
        left.map_or(Ok(()), Err)
    }
}
