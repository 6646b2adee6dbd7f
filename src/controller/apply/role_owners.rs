//! Finds which grants share an instance role, and which grant may have a registry role that several
//! ask for.

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::controller::context::Cluster;
use crate::grant::desired::DesiredRole;
use crate::grant::diff::Sharers;
use crate::grant::model::ConsumerRole;
use crate::grant::ownership::Owner;
use crate::grant::{AccountId, Decision, GrantName, Problem};
use kube::{Resource, ResourceExt};
use std::sync::Arc;

/// Returns the other grants that claim an instance role in an instance profile. A grant that asks
/// for the role in another profile does not share it.
pub fn sharers(
    cluster: &Cluster,
    owner: &Owner,
    account: &AccountId,
    role: &str,
    profile: Option<&str>,
) -> Sharers {
    let concerns = |grant: &CrossAccountRegistryGrant| {
        grant.spec.consumer.account_id.as_deref() == Some(account.as_str())
            && cluster
                .claims_cache
                .claims_instance_role(grant, role, profile)
            && GrantName::of(grant) != owner.grant
    };
    let mut others = cluster.grants.state_filter(concerns);
    others.extend(cluster.lost.kept(&cluster.grants, concerns));
    oldest_first(&mut others);
    // The policy on the role shows whether a grant that cannot be read shares it.
    let mut sharers = Sharers {
        keeping: Vec::new(),
        leaving: cluster.unknown.owners(&cluster.installation),
    };
    for resource in others {
        let keeps = keeps(cluster, &resource, role);
        let list = if keeps {
            &mut sharers.keeping
        } else {
            &mut sharers.leaving
        };
        list.push(Owner::of_resource(&resource, &cluster.installation));
    }
    sharers
}

/// Checks before a registry role is created that no older grant should have it. An existing role
/// stays with its owner, however old.
///
/// # Errors
/// A conflict, if an older grant should have the role.
pub fn eldest(cluster: &Cluster, owner: &Owner, role: &DesiredRole) -> Result<(), Problem> {
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
            || cluster.claims_cache.claims_registry_role(grant, role)
    };
    let mut claimants = cluster
        .grants
        .state_filter(|grant| grant.spec.registry.account_id == account.as_str() && named(grant));
    oldest_first(&mut claimants);
    let older = claimants
        .iter()
        .take_while(|grant| GrantName::of(grant) != owner.grant);
    let Some(first) = older
        .into_iter()
        .find(|grant| is_to_have(cluster, grant, role))
        .map(|grant| GrantName::of(grant))
    else {
        return Ok(());
    };
    // Grants of other namespaces belong to other tenants, so their names are not shown to this one.
    let whose = match first.namespace == owner.grant.namespace {
        true => format!("grant {first}, which is older"),
        false => "another grant, which is older".to_owned(),
    };
    Err(Problem::new(
        Reason::Conflict,
        format!(
            "role {role} in account {account} is already requested by {whose}. Choose another name in the grant"
        ),
    ))
}

/// Returns whether a grant should have this registry role.
fn is_to_have(cluster: &Cluster, resource: &CrossAccountRegistryGrant, role: &str) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    match cluster.decide(resource) {
        // A grant that cannot be decided is left as it is.
        Decision::Leave(_) => cluster.claims_cache.claims_registry_role(resource, role),
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

/// Returns whether a grant that claims an instance role should keep it.
fn keeps(cluster: &Cluster, resource: &CrossAccountRegistryGrant, role: &str) -> bool {
    if resource.meta().deletion_timestamp.is_some() {
        return false;
    }
    match cluster.decide(resource) {
        // A grant that cannot be decided is left as it is.
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
