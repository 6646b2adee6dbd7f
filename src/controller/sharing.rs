//! Several grants may keep one instance role. Who else has to do with it is told by the watch cache; what is done about it is done by one of
//! them at a time.

use super::World;
use crate::api::CrossAccountRegistryGrant;
use crate::grant::desired::Owner;
use crate::grant::diff::Sharers;
use crate::grant::validate::ConsumerRole;
use crate::grant::{AccountId, GrantName, Standing, standing};
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::OwnedMutexGuard;

/// The instance roles that somebody is at work on.
#[derive(Default)]
pub struct Roles(Mutex<HashMap<(AccountId, String), Turn>>);

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Roles {
    /// Waits until nobody else is at work on the role. From what is read to what is written, another grant's work could come in between: two that
    /// leave a role at once would each take the other for who stays.
    pub async fn alone_on(&self, account: &AccountId, role: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().expect("no panic while held");
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry((account.clone(), role.to_owned())).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// The other grants that have to do with an instance role in an instance profile. One that wants it in another profile shares nothing.
pub fn sharers(world: &World, owner: &Owner, account: &AccountId, role: &str, profile: &str) -> Sharers {
    let concerns = |grant: &CrossAccountRegistryGrant| {
        grant.spec.consumer.account_id.as_deref() == Some(account.as_str())
            && world.ledger.claims_instance_role(grant, role, profile)
            && grant.uid().as_deref() != Some(owner.uid.as_str())
    };
    let mut others = world.grants.state_filter(concerns);
    others.sort_by_key(|grant| (grant.creation_timestamp(), grant.namespace(), grant.name_any()));
    let mut sharers = Sharers::default();
    for resource in others {
        let name = GrantName { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() };
        let keeps = keeps(world, &resource, &name, role);
        let (installation, uid) = (world.installation.clone(), resource.uid().unwrap_or_default());
        let list = if keeps { &mut sharers.keeping } else { &mut sharers.leaving };
        list.push(Owner { installation, grant: name, uid });
    }
    sharers
}

/// Whether a grant that has claims on an instance role is to keep it.
fn keeps(world: &World, resource: &CrossAccountRegistryGrant, name: &GrantName, role: &str) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    let claims = world.ledger.claims(resource);
    match standing(name, &resource.spec, claims.as_ref(), &world.directory, &world.installation) {
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
