//! Finds which grants share an instance role, and which grant may have a registry role that several
//! ask for.

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::controller::{World, plan};
use crate::grant::desired::{DesiredRole, Owner};
use crate::grant::diff::Sharers;
use crate::grant::validate::ConsumerRole;
use crate::grant::{AccountId, Decision, GrantName, Problem};
use kube::{Resource, ResourceExt};
use std::sync::Arc;

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
            && world
                .claims_cache
                .claims_instance_role(grant, role, profile)
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
        let keeps = keeps(world, &resource, role);
        let (installation, uid) = (world.installation.clone(), plan::real_uid(&resource));
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
            || world.claims_cache.claims_registry_role(grant, role)
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
    match world.decide(resource) {
        // What cannot be decided is left as it is.
        Decision::Leave(_) => world.claims_cache.claims_registry_role(resource, role),
        decision => decision.grant_in_force().is_some_and(|grant| {
            grant
                .role
                .as_ref()
                .is_some_and(|asked| asked.identity.name.eq_ignore_ascii_case(role))
        }),
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
fn keeps(world: &World, resource: &CrossAccountRegistryGrant, role: &str) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    match world.decide(resource) {
        // What cannot be decided is left as it is.
        Decision::Leave(_) => true,
        decision => {
            let in_force = decision.grant_in_force();
            in_force.is_some_and(|grant| match &grant.instance_role {
                ConsumerRole::Kept { role: kept, .. } => kept.name == role,
                ConsumerRole::NotRequested | ConsumerRole::NotManaged => false,
            })
        }
    }
}
