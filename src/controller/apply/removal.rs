//! Removes the roles that a grant claims and that are not desired any more.

use super::done::Log;
use super::executor::Failed;
use super::role_owners;
use super::roles::observed_instance;
use super::types::{Apply, Sessions};
use crate::api::conditions::Reason;
use crate::api::grant::AppliedInstanceRole;
use crate::aws::Account;
use crate::aws::rate_limit::{Priority, Work};
use crate::grant::Problem;
use crate::grant::claims::{Place, Unrevoked};
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::grant::diff::{self, Departure, Sharers, Step};
use crate::grant::model::ConsumerRole;
use crate::grant::observed::Instance;
use crate::policy::Document;
use crate::policy::dead_ids::{self, Cleaned};
use std::collections::BTreeSet;

/// Result of removing roles.
#[derive(Default)]
pub struct Removal {
    pub log: Log,
    /// The roles that could not be removed.
    pub unrevoked: Vec<Unrevoked>,
}

/// Instance role that is removed, and the grants that share it.
struct RemovedInstance<'a> {
    role: &'a str,
    profile: Option<&'a str>,
    observed: Instance,
    sharers: Sharers,
}

impl Apply<'_> {
    pub(super) async fn remove_registry_roles(
        &self,
        sessions: &Sessions,
        desired: Option<&DesiredRole>,
    ) -> Removal {
        let mut removal = Removal::default();
        let desired = desired.map(|role| role.name.as_str());
        let old: Vec<&String> = self
            .request
            .claims
            .registry_roles
            .iter()
            .filter(|name| Some(name.as_str()) != desired)
            .collect();
        let Ok(account) = &sessions.registry else {
            return removal;
        };
        if old.is_empty() {
            return removal;
        }
        let _turn = self.cloud.turn(account.id.as_str()).await;
        for name in old {
            let removed = self
                .remove_registry_role(account, name, &mut removal.log)
                .await;
            if let Err(problem) = removed {
                let place = Place::RegistryRole(name.clone());
                removal
                    .unrevoked
                    .push(Unrevoked::because_of(place, problem));
            }
        }
        removal
    }

    async fn remove_registry_role(
        &self,
        account: &Account,
        name: &str,
        log: &mut Log,
    ) -> Result<(), Problem> {
        let owner = self.request.owner;
        if self.executor.live().is_some() {
            self.cluster.claims_cache.record_role(&owner.uid, false);
        }
        let mut observed = account.role(name).await?;
        let retained = self
            .request
            .retained()
            .and_then(|grant| grant.role.as_ref());
        let (steps, held) = if retained.is_some_and(|role| role.identity.name == name) {
            let steps = diff::retain_registry_role(name, observed.as_ref(), owner);
            (steps, None)
        } else {
            let held_by = if observed.is_some() {
                account.profiles_of(name).await?
            } else {
                BTreeSet::new()
            };
            diff::without_registry_role(name, observed.as_ref(), &held_by, owner)
        };
        let carried_out = self
            .executor
            .carry_out(account, owner, steps, &mut observed);
        let (changes, applied) = carried_out.await;
        log.changes.extend(changes);
        applied?;
        held.map_or(Ok(()), Err)
    }

    pub(super) async fn remove_instances(
        &self,
        sessions: &Sessions,
        desired: Option<&DesiredInstance>,
    ) -> Removal {
        let mut removal = Removal::default();
        let desired = desired.map(|instance| instance.role.name.as_str());
        let Some(Ok(account)) = &sessions.consumer else {
            return removal;
        };
        // This revocation waits for other work on the roles, which becomes as urgent.
        let revokes = Work::current().urgency == Priority::Revocation;
        let _revoking = revokes.then(|| self.cloud.slots.revoking(account.id.as_str()));
        for claimed in &self.request.claims.instance_roles {
            if Some(claimed.role.as_str()) == desired {
                continue;
            }
            let removed = self
                .remove_instance(account, claimed, &mut removal.log)
                .await;
            if let Err(problem) = removed {
                let place = Place::InstanceRole(claimed.clone());
                removal
                    .unrevoked
                    .push(Unrevoked::because_of(place, problem));
            }
        }
        removal
    }

    async fn remove_instance(
        &self,
        account: &Account,
        claimed: &AppliedInstanceRole,
        log: &mut Log,
    ) -> Result<(), Problem> {
        let role = &claimed.role;
        let profile = claimed.profile();
        let owner = self.request.owner;
        let _held = self.cloud.alone_on(&account.id, role).await;
        let mut removed = RemovedInstance {
            role,
            profile,
            observed: observed_instance(account, role, profile).await?,
            sharers: role_owners::sharers(self.cluster, owner, &account.id, role, profile),
        };
        let stays = self.retains_instance_role(role);
        let (steps, held) = if stays {
            let RemovedInstance {
                observed, sharers, ..
            } = &removed;
            let steps = diff::retain_instance_role(role, profile, observed, owner, sharers)?;
            (steps, None)
        } else {
            if removed.observed.role.is_some() {
                removed.observed.held_by = account.profiles_of(role).await?;
            }
            self.without_instance(&removed)
        };
        let present = &mut removed.observed.role;
        let carried_out = self.executor.carry_out(account, owner, steps, present);
        let (changes, applied) = carried_out.await;
        log.changes.extend(changes);
        match applied {
            Err(failed) if failed.refused.is_some() && !stays => {
                self.revoke_in_blocked_trust(account, removed, failed, log)
                    .await?;
            }
            Err(failed) => return Err(failed.into()),
            Ok(_) => self.cloud.role_locks.forget_refusals(&account.id, role),
        }
        held.map_or(Ok(()), Err)
    }

    fn retains_instance_role(&self, name: &str) -> bool {
        self.request
            .retained()
            .is_some_and(|grant| match &grant.instance_role {
                ConsumerRole::Kept { role, .. } => role.name == name,
                ConsumerRole::NotRequested | ConsumerRole::NotManaged => false,
            })
    }

    /// Returns the steps that remove this grant from an instance role, and the reason why
    /// something of it stays.
    fn without_instance(&self, removed: &RemovedInstance<'_>) -> (Vec<Step>, Option<Problem>) {
        let asked = self.request.spec.consumer.instance_role.as_ref();
        let on_delete = asked.and_then(|role| role.on_delete).unwrap_or_default();
        diff::without_instance(
            removed.role,
            removed.profile,
            &removed.observed,
            &Departure {
                owner: self.request.owner,
                sharers: &removed.sharers,
                on_delete,
            },
        )
    }

    /// Retries a revocation for which IAM refused the trust policy without our statement, after
    /// everything else was revoked. If the cause is principals that are proven dead, the policy is
    /// written without them.
    async fn revoke_in_blocked_trust(
        &self,
        account: &Account,
        mut removed: RemovedInstance<'_>,
        failed: Failed,
        log: &mut Log,
    ) -> Result<(), Problem> {
        let Failed { problem, refused } = failed;
        let Some(refused) = refused else {
            return Err(problem);
        };
        let owner = self.request.owner;
        let installation = &owner.installation;
        let role = removed.role;
        let shown: BTreeSet<String> = dead_ids::shown(&refused, installation)
            .into_iter()
            .map(|dead| dead.id)
            .collect();
        let proven = self.cloud.role_locks.refused(&account.id, role, &shown);
        let present = removed.observed.role.as_mut();
        let trust = present.and_then(|role| role.trust.as_mut().ok());
        let Some(trust) = trust else {
            return Err(blocked(&problem));
        };
        let Cleaned {
            document,
            originals,
        } = dead_ids::without(trust, &proven, installation);
        if originals.is_empty() {
            return Err(blocked(&problem));
        }
        *trust = document;
        let (steps, left) = self.without_instance(&removed);
        let writes = steps
            .iter()
            .any(|step| matches!(step, Step::UpdateTrust { .. }));
        let present = &mut removed.observed.role;
        let carried_out = self.executor.carry_out(account, owner, steps, present);
        let (changes, applied) = carried_out.await;
        log.changes.extend(changes);
        applied.map_err(|failed| blocked(&failed.problem))?;
        self.cloud.role_locks.forget_refusals(&account.id, role);
        if writes {
            let ids = proven.into_iter().collect::<Vec<_>>().join(", ");
            let original = Document::of(originals);
            tracing::warn!(account = %account.id, role, ids, %original, "removed deleted principals from foreign statements in a trust policy; `original` has the statements before");
            log.dead_principals.push(format!(
                "removed {ids} from foreign statements in the trust policy of role {role} in account {}: the principal was deleted, and IAM refused to write a revocation because of it. The operator's log has the original statements",
                account.id
            ));
        }
        left.map_or(Ok(()), Err)
    }
}

/// Reports a trust policy that IAM refuses without our statement.
fn blocked(problem: &Problem) -> Problem {
    let left = "The operator removed the grant's own policy from the role. To give up the trust statement, set the annotation registrygrants.dev/abandon=true";
    Problem::new(
        Reason::BlockedPolicy,
        format!("{}. {left}", problem.message),
    )
}
