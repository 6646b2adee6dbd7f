//! Several grants may keep one instance role, and may ask for one registry role, which only one of
//! them can have. Who else has to do with a role is told by the watch cache; what is done about an
//! instance role is done by one of them at a time.

use super::locks::Locks;
use super::slots::{self, Slot, Slots};
use super::{World, forecast};
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::grant::desired::{DesiredRole, Owner};
use crate::grant::diff::Sharers;
use crate::grant::validate::ConsumerRole;
use crate::grant::{AccountId, GrantName, Problem, Standing, standing};
use crate::policy::dead_ids::Refusals;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;
use tokio::sync::OwnedMutexGuard;

/// The instance roles that somebody is at work on, and what is remembered of their trust policies.
pub struct Roles {
    locks: Locks<(AccountId, String)>,
    /// Those whose trust policy IAM refused.
    refusals: Mutex<HashMap<(AccountId, String), Refusals>>,
    started: Instant,
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            locks: Locks::default(),
            refusals: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Roles {
    /// Waits until nobody else is at work on the role. From what is read to what is written,
    /// another grant's work could come in between: two that leave a role at once would each take
    /// the other for who stays.
    async fn alone_on(&self, account: &AccountId, role: &str) -> OwnedMutexGuard<()> {
        self.locks
            .of((account.clone(), role.to_owned()))
            .lock_owned()
            .await
    }

    /// The same, and then waits for a slot in the role's account: many grants that keep one role
    /// wait for it without one.
    pub async fn alone_in_turn(
        &self,
        slots: &Slots,
        account: &AccountId,
        role: &str,
    ) -> (OwnedMutexGuard<()>, Slot) {
        let waits = self.alone_on(account, role);
        tokio::pin!(waits);
        let alone = match futures::poll!(&mut waits) {
            Poll::Ready(alone) => alone,
            Poll::Pending => {
                slots::give_back();
                waits.await
            }
        };
        (alone, slots.enter(account.as_str(), true).await)
    }

    /// Records that IAM refused a role's trust policy while it showed these unique IDs. Returns
    /// those that are proven dead.
    pub fn refused(
        &self,
        account: &AccountId,
        role: &str,
        shown: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut refusals = self.refusals.lock().expect("no panic while held");
        refusals
            .entry((account.clone(), role.to_owned()))
            .or_default()
            .refused(shown, self.started.elapsed())
    }

    /// Forgets a role whose trust policy could be written, or needs no write any more.
    pub fn forget_refusals(&self, account: &AccountId, role: &str) {
        self.refusals
            .lock()
            .expect("no panic while held")
            .remove(&(account.clone(), role.to_owned()));
    }
}

/// The other grants that have to do with an instance role in an instance profile. One that wants it
/// in another profile shares nothing.
pub fn sharers(
    world: &World,
    owner: &Owner,
    account: &AccountId,
    role: &str,
    profile: &str,
) -> Sharers {
    let concerns = |grant: &CrossAccountRegistryGrant| {
        grant.spec.consumer.account_id.as_deref() == Some(account.as_str())
            && world.ledger.claims_instance_role(grant, role, profile)
            && GrantName::of(grant) != owner.grant
    };
    let mut others = world.grants.state_filter(concerns);
    others.extend(world.lost.kept(&world.grants, concerns));
    oldest_first(&mut others);
    // Whether one that cannot be read has to do with the role, its policy on the role tells.
    let mut sharers = Sharers {
        keeping: Vec::new(),
        leaving: world.unknown.owners(&world.installation),
    };
    for resource in others {
        let name = GrantName::of(&resource);
        let keeps = keeps(world, &resource, &name, role);
        let (installation, uid) = (world.installation.clone(), forecast::real_uid(&resource));
        let list = if keeps {
            &mut sharers.keeping
        } else {
            &mut sharers.leaving
        };
        list.push(Owner {
            installation,
            grant: name,
            uid,
        });
    }
    sharers
}

/// Before a registry role is made: that no older grant is to have it. One that is there is its
/// owner's, however old.
///
/// # Errors
/// Where one is, a conflict.
pub fn eldest(world: &World, owner: &Owner, role: &DesiredRole) -> Result<(), Problem> {
    let DesiredRole {
        account,
        name: role,
        ..
    } = role;
    let named = |grant: &CrossAccountRegistryGrant| {
        let asked = grant
            .spec
            .registry
            .role
            .as_ref()
            .and_then(|role| role.name.as_deref());
        asked.is_some_and(|asked| asked.eq_ignore_ascii_case(role))
            || world.ledger.claims_registry_role(grant, role)
    };
    let mut claimants = world
        .grants
        .state_filter(|grant| grant.spec.registry.account_id == account.as_str() && named(grant));
    oldest_first(&mut claimants);
    let older = claimants
        .iter()
        .take_while(|grant| GrantName::of(grant) != owner.grant);
    let Some(first) = older
        .into_iter()
        .find(|grant| is_to_have(world, grant, role))
        .map(|grant| GrantName::of(grant))
    else {
        return Ok(());
    };
    // Grants of other namespaces are other tenants': their names are none of this one's business.
    let whose = match first.namespace == owner.grant.namespace {
        true => format!("grant {first}, which is older"),
        false => "another grant, which is older".to_owned(),
    };
    Err(Problem::new(
        Reason::Conflict,
        format!(
            "role {role} in account {account} is asked for by {whose}. Choose another name in the grant"
        ),
    ))
}

/// Whether a grant is to have this registry role.
fn is_to_have(world: &World, resource: &CrossAccountRegistryGrant, role: &str) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    let claims = world.ledger.claims(resource);
    match standing(
        &GrantName::of(resource),
        &resource.spec,
        claims.as_ref(),
        &world.directory,
        &world.installation,
    ) {
        Standing::Admitted(grant) | Standing::Kept(grant, _) | Standing::Frozen(Some(grant)) => {
            grant
                .role
                .is_some_and(|asked| asked.identity.name.eq_ignore_ascii_case(role))
        }
        // What cannot be judged is left as it is.
        Standing::Unknown(_) => world.ledger.claims_registry_role(resource, role),
        Standing::Frozen(None) | Standing::NotAdmitted(_) => false,
    }
}

fn oldest_first(grants: &mut [Arc<CrossAccountRegistryGrant>]) {
    grants.sort_by_key(|grant| {
        (
            grant.creation_timestamp(),
            grant.namespace(),
            grant.name_any(),
        )
    });
}

/// Whether a grant that has claims on an instance role is to keep it.
fn keeps(
    world: &World,
    resource: &CrossAccountRegistryGrant,
    name: &GrantName,
    role: &str,
) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    let claims = world.ledger.claims(resource);
    match standing(
        name,
        &resource.spec,
        claims.as_ref(),
        &world.directory,
        &world.installation,
    ) {
        Standing::Admitted(grant) | Standing::Kept(grant, _) | Standing::Frozen(Some(grant)) => {
            match grant.instance_role {
                ConsumerRole::Kept { role: kept, .. } => kept.name == role,
                ConsumerRole::NotRequested | ConsumerRole::NotManaged => false,
            }
        }
        // What cannot be judged is left as it is.
        Standing::Unknown(_) => true,
        Standing::Frozen(None) | Standing::NotAdmitted(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn grants_that_wait_for_one_role_take_no_slots_of_its_account() {
        let (roles, slots) = (Arc::new(Roles::default()), Slots::new(4));
        let account: AccountId = "111111111111".parse().unwrap();
        let (alone, turn) = roles.alone_in_turn(&slots, &account, "shared").await;
        let wait = |first: Option<Slot>| {
            let (roles, slots, account) = (roles.clone(), slots.clone(), account.clone());
            tokio::spawn(slots::beginning_with(first, async move {
                drop(roles.alone_in_turn(&slots, &account, "shared").await);
            }))
        };
        // Some of them have waited for a slot before they began.
        let first = slots.enter(account.as_str(), false).await;
        let waiting = [
            wait(Some(first)),
            wait(None),
            wait(None),
            wait(None),
            wait(None),
        ];
        tokio::task::yield_now().await;
        let enter = || slots.enter(account.as_str(), false).now_or_never();
        let others = [enter(), enter(), enter()];
        assert!(
            others.iter().all(Option::is_some),
            "other work gets the account's other slots"
        );
        drop((alone, turn, others));
        for task in waiting {
            task.await.unwrap();
        }
    }
}
