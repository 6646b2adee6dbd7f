//! Collects the places that the grants of a cluster claim in one account, as far as the operator
//! can know. In doubt a place is claimed.

use super::Leftover;
use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::{Applied, AppliedRepositories};
use crate::grant::ownership::Owner;
use crate::grant::partition::is_region;
use crate::grant::{AccountId, GrantName, RepositoryPattern};
use crate::policy::Installation;
use std::collections::{BTreeMap, BTreeSet};

/// Grants of a cluster, and what the operator knows of each.
pub struct KnownGrants<'a> {
    /// The grants that the operator knows, with their records.
    pub grants: Vec<(&'a CrossAccountRegistryGrant, Option<Applied>)>,
    /// The other grants of the cluster.
    pub unknown: &'a BTreeSet<GrantName>,
}

/// Places that are claimed in one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The roles' names in lower case: IAM's names are unique regardless of case.
    roles: BTreeSet<String>,
    profiles: BTreeSet<String>,
    repositories: BTreeMap<String, BTreeSet<RepositoryPattern>>,
    regions: BTreeSet<String>,
    /// Whether each grant is settled: its claims are recorded for its current spec.
    settled: BTreeMap<GrantName, bool>,
    has_instance_roles: bool,
}

impl Claimed {
    /// Collects the claims of these grants in the account.
    pub fn of(account: &AccountId, installation: &Installation, known: &KnownGrants<'_>) -> Self {
        let mut claimed = Self::default();
        claimed
            .settled
            .extend(known.unknown.iter().map(|name| (name.clone(), false)));
        for (grant, claims) in &known.grants {
            let name = GrantName::of(grant);
            let settled = is_settled(grant, claims.as_ref());
            if grant.spec.registry.account_id == account.as_str() {
                claimed.add_registry(
                    grant,
                    claims.as_ref(),
                    settled,
                    name.in_aws(installation, 64),
                );
            }
            if grant.spec.consumer.account_id.as_deref() == Some(account.as_str()) {
                claimed.add_consumer(grant, claims.as_ref());
            }
            claimed.settled.insert(name, settled);
        }
        claimed
    }

    fn add_registry(
        &mut self,
        grant: &CrossAccountRegistryGrant,
        claims: Option<&Applied>,
        settled: bool,
        default_role: String,
    ) {
        let registry = &grant.spec.registry;
        let named = registry
            .role
            .as_ref()
            .and_then(|role| role.name.clone())
            .unwrap_or(default_role);
        self.roles.insert(named.to_lowercase());
        if let Some(claims) = claims {
            self.roles
                .extend(claims.registry_roles.iter().map(|name| name.to_lowercase()));
            for AppliedRepositories { region, patterns } in &claims.repositories {
                self.add_repositories(region, patterns);
            }
        }
        for region in registry.regions.iter().filter(|region| is_region(region)) {
            // A settled grant is not in the policy of a repository that it asks for and does not
            // claim.
            let patterns = if settled {
                &[][..]
            } else {
                &registry.repositories
            };
            self.add_repositories(region, patterns);
        }
    }

    fn add_repositories(&mut self, region: &str, patterns: &[String]) {
        self.regions.insert(region.to_owned());
        let patterns = patterns
            .iter()
            .filter_map(|pattern| RepositoryPattern::recorded(pattern));
        self.repositories
            .entry(region.to_owned())
            .or_default()
            .extend(patterns);
    }

    fn add_consumer(&mut self, grant: &CrossAccountRegistryGrant, claims: Option<&Applied>) {
        for claim in claims.into_iter().flat_map(|claims| &claims.instance_roles) {
            self.add_instance_role(&claim.role, &claim.instance_profile);
        }
        if let Some(asked) = &grant.spec.consumer.instance_role {
            let profile = asked.instance_profile.as_ref().unwrap_or(&asked.name);
            self.add_instance_role(&asked.name, profile);
        }
    }

    fn add_instance_role(&mut self, role: &str, profile: &str) {
        self.roles.insert(role.to_lowercase());
        self.profiles.insert(profile.to_lowercase());
        self.has_instance_roles = true;
    }

    /// Returns whether some grant claims the role of this name.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.contains(&name.to_lowercase())
    }

    /// Returns whether some grant claims the instance profile of this name.
    pub fn has_profile(&self, name: &str) -> bool {
        self.profiles.contains(&name.to_lowercase())
    }

    /// Returns whether some grant claims the policy of this repository.
    pub fn has_repository(&self, region: &str, name: &str) -> bool {
        self.repositories
            .get(region)
            .is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    /// Returns whether some grant claims a part of this leftover, or may do so.
    pub fn has(
        &self,
        Leftover {
            owner,
            role,
            profile,
            profiles_known: _,
        }: &Leftover,
    ) -> bool {
        role.iter().any(|(name, _)| self.has_role(name))
            || profile.iter().any(|(name, _)| self.has_profile(name))
            || self
                .former_owner(&owner.tags(), &owner.installation)
                .is_none()
    }

    /// Returns whether some grant manages, or asks for, an instance role in the account.
    pub fn has_instance_roles(&self) -> bool {
        self.has_instance_roles
    }

    /// Returns the regions that grants name.
    pub fn regions(&self) -> &BTreeSet<String> {
        &self.regions
    }

    /// Returns the former owner of a role or profile with these tags, if no grant claims it by
    /// name. `None` if another installation owns it, or if the owner still exists and is not
    /// settled: such a grant may yet claim it.
    pub fn former_owner(
        &self,
        tags: &BTreeMap<String, String>,
        installation: &Installation,
    ) -> Option<Owner> {
        let owner = Owner::named_by(tags, installation)?;
        let may_claim = self.settled.get(&owner.grant) == Some(&false);
        if may_claim { None } else { Some(owner) }
    }
}

/// Returns whether a grant is settled. A grant in transition (just created, changed, or being
/// deleted) may yet claim any place.
fn is_settled(grant: &CrossAccountRegistryGrant, claims: Option<&Applied>) -> bool {
    let observed = grant
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    let current = observed.is_some() && observed == grant.metadata.generation;
    current && claims.is_some() && grant.metadata.deletion_timestamp.is_none()
}
