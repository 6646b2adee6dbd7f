//! What the operator may have touched for a grant: recorded before the first write, shortened only after revocation.

use super::names::RepositoryPattern;
use super::validate::{ConsumerRole, Grant};
use crate::api::grant::{Applied, AppliedInstanceRole, AppliedRepositories};
use crate::policy::repository::Contribution;

impl Grant {
    /// What this grant touches.
    pub fn claims(&self) -> Applied {
        let contribution = self.contribution();
        let patterns: Vec<String> = self.repositories.iter().map(ToString::to_string).collect();
        let regions = self.regions.iter().filter(|_| contribution.is_some());
        let instance_role = match &self.instance_role {
            ConsumerRole::Kept { role, instance_profile } => {
                vec![AppliedInstanceRole { role: role.name.clone(), instance_profile: instance_profile.clone() }]
            }
            ConsumerRole::NotRequested | ConsumerRole::NotManaged => Vec::new(),
        };
        Applied {
            registry_account_id: self.registry.to_string(),
            consumer_account_id: self.consumer.to_string(),
            access: self.access,
            principals: contribution.iter().flat_map(|c| c.principals.clone()).collect(),
            narrowed_to: contribution.iter().flat_map(|c| c.narrowed_to.clone()).collect(),
            repositories: regions
                .map(|region| AppliedRepositories { region: region.clone(), patterns: patterns.clone() })
                .collect(),
            registry_roles: self.role.iter().map(|role| role.identity.name.clone()).collect(),
            instance_roles: instance_role,
        }
    }
}

impl Applied {
    /// The claims before a change: what was claimed stays claimed, what is new is added.
    pub fn grown_by(&self, new: &Self) -> Self {
        let mut repositories = self.repositories.clone();
        for AppliedRepositories { region, patterns } in &new.repositories {
            match repositories.iter_mut().find(|known| known.region == *region) {
                Some(known) => known.patterns = union(&known.patterns, patterns),
                None => repositories.push(AppliedRepositories { region: region.clone(), patterns: patterns.clone() }),
            }
        }
        repositories.sort_by(|a, b| a.region.cmp(&b.region));
        let mut instance_roles = self.instance_roles.clone();
        for new in &new.instance_roles {
            instance_roles.retain(|known| known.role != new.role);
            instance_roles.push(new.clone());
        }
        Self {
            repositories,
            registry_roles: union(&self.registry_roles, &new.registry_roles),
            instance_roles,
            ..new.clone()
        }
    }

    /// Whether this repository's policy may carry the grant.
    pub fn covers(&self, region: &str, repository: &str) -> bool {
        self.patterns(region).any(|pattern| pattern.matches(repository))
    }

    /// The patterns of one region.
    pub fn patterns<'a>(&'a self, region: &'a str) -> impl Iterator<Item = RepositoryPattern> + 'a {
        let of_region = self.repositories.iter().filter(move |known| known.region == region);
        of_region.flat_map(|known| known.patterns.iter().filter_map(|text| text.parse().ok()))
    }

    /// What the repository policies were last asked for: this is what a grant keeps whose new spec cannot be understood.
    pub fn contribution(&self) -> Contribution {
        Contribution {
            actions: super::actions::of(self.access),
            principals: self.principals.iter().cloned().collect(),
            narrowed_to: self.narrowed_to.iter().cloned().collect(),
        }
    }
}

fn union(one: &[String], other: &[String]) -> Vec<String> {
    let mut all = [one, other].concat();
    all.sort();
    all.dedup();
    all
}
