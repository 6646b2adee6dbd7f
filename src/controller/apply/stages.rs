//! The stages of an apply, in their order.

use super::access::Reads;
use super::done::{Done, Effects};
use super::removal::Removal;
use super::repositories::RepositoriesStage;
use super::roles::{InstanceStage, RegistryRoleStage};
use super::types::{Apply, Session, Sessions};
use crate::api::grant::AccessStatus;
use crate::grant::Problem;
use crate::grant::claims::{ClaimsAfter, Place, Unrevoked, claims_after};
use crate::grant::desired::{Desired, DesiredInstance};
use crate::grant::status::{ApplyReport, StatusPart};
use std::collections::BTreeSet;

/// Results of the stages of an apply.
struct Stages {
    instance: InstanceStage,
    registry_role: RegistryRoleStage,
    repositories: RepositoriesStage,
    old_roles: Removal,
    old_instances: Removal,
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
            instance: &instance_stage.observed,
            registry_role: &role_stage.observed,
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
