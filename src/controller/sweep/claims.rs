//! Collects the grants' claims in an account. A grant without a record must not hide orphans of
//! others: the places that only its spec names count where it may have them, or is about to.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::context::Cluster;
use crate::controller::record::may_have_lost_record;
use crate::grant::decision::is_frozen;
use crate::grant::sweep::{Claimed, KnownGrants};
use crate::grant::{AccountId, Decision, GrantName, grant_if_enforced};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;

/// Returns the grants' current claims in the account. `unknown`: further grants that the cluster
/// has.
pub fn claimed_in(cluster: &Cluster, id: &AccountId, unknown: &BTreeSet<GrantName>) -> Claimed {
    let (all, mut unknown) = (cluster.grants.state(), unknown.clone());
    let mut grants = Vec::new();
    for grant in &all {
        match stake(cluster, grant) {
            Stake::Claims => grants.push((&**grant, cluster.claims_cache.claims(grant))),
            Stake::Tagged => drop(unknown.insert(GrantName::of(grant))),
            Stake::Nothing => {}
        }
    }
    Claimed::of(
        id,
        &cluster.installation,
        &KnownGrants {
            grants,
            unknown: &unknown,
        },
    )
}

/// Extent of a grant's possible access in AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stake {
    /// Its recorded claims, and the places that its spec names while it is being enforced.
    Claims,
    /// The resources that have its name in their tags.
    Tagged,
    Nothing,
}

fn stake(cluster: &Cluster, grant: &CrossAccountRegistryGrant) -> Stake {
    let claims_cache = &cluster.claims_cache;
    if !claims_cache.has_no_claims(grant) {
        return Stake::Claims;
    }
    // The grant had a record once, or somebody pretends that it had. Its own reconcile searches the
    // places of its spec and revokes access there.
    let otherwise = if may_have_lost_record(cluster, grant) {
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
    match cluster.decide(grant) {
        Decision::Enforce { .. } => Stake::Claims,
        // It was not searched yet whether the grant lost its record.
        Decision::Preview { .. } | Decision::Suspend { .. }
            if grant_if_enforced(&GrantName::of(grant), &grant.spec, None, &cluster.rules())
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
