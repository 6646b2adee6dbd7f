//! What the grants claim in an account. A grant without a record hides nothing of others: what it
//! only names in its spec counts where it may have that, or is about to.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::World;
use crate::controller::record::may_have_lost_record;
use crate::grant::decision::is_frozen;
use crate::grant::sweep::{Claimed, KnownGrants};
use crate::grant::{AccountId, Decision, GrantName, grant_if_enforced};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;

/// What the grants claim in the account, as of now. `unknown`: the grants that the cluster has
/// besides.
pub fn claimed_in(world: &World, id: &AccountId, unknown: &BTreeSet<GrantName>) -> Claimed {
    let (all, mut unknown) = (world.grants.state(), unknown.clone());
    let mut grants = Vec::new();
    for grant in &all {
        match stake(world, grant) {
            Stake::Claims => grants.push((&**grant, world.claims_cache.claims(grant))),
            Stake::Tagged => drop(unknown.insert(GrantName::of(grant))),
            Stake::Nothing => {}
        }
    }
    Claimed::of(
        id,
        &world.installation,
        &KnownGrants {
            grants,
            unknown: &unknown,
        },
    )
}

/// What a grant may have in AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stake {
    /// What is on record for it, and what its spec names while it is on its way.
    Claims,
    /// What bears its name in its tags.
    Tagged,
    Nothing,
}

fn stake(world: &World, grant: &CrossAccountRegistryGrant) -> Stake {
    let claims_cache = &world.claims_cache;
    if !claims_cache.has_no_claims(grant) {
        return Stake::Claims;
    }
    // It had a record once, or somebody wants to make us believe so. What it has by its spec is
    // looked for and revoked by its own reconciliation.
    let otherwise = if may_have_lost_record(world, grant) {
        Stake::Tagged
    } else {
        Stake::Nothing
    };
    if grant.meta().deletion_timestamp.is_some() {
        return otherwise;
    }
    if is_frozen(&grant.spec) && claims_cache.was_searched_for(&grant.uid().unwrap_or_default()) {
        return Stake::Nothing;
    }
    match world.decide(grant) {
        Decision::Enforce { .. } => Stake::Claims,
        // It has not been looked for yet whether it lost its record.
        Decision::Preview { .. } | Decision::Suspend { .. }
            if grant_if_enforced(&GrantName::of(grant), &grant.spec, None, &world.rules())
                .is_ok() =>
        {
            Stake::Claims
        }
        Decision::Preview { .. }
        | Decision::Suspend { .. }
        | Decision::Revoke(_)
        | Decision::Retain(_)
        | Decision::Leave(_) => otherwise,
    }
}
