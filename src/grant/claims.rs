//! What the operator may have touched for a grant: recorded before the first write, shortened only after revocation.

use super::names::RepositoryPattern;
use super::validate::{ConsumerRole, Grant};
use crate::api::grant::{Applied, AppliedInstanceRole, AppliedRepositories, CrossAccountRegistryGrantSpec};
use serde_json::Value;

impl Grant {
    /// What this grant touches, and the spec that it was made of.
    pub fn claims(&self) -> Applied {
        let mut patterns: Vec<String> = self.repositories.iter().map(ToString::to_string).collect();
        patterns.sort();
        let regions = self.regions.iter().filter(|_| self.touches_repository_policies());
        let instance_roles = match &self.instance_role {
            ConsumerRole::Kept { role, instance_profile, extends: _ } => {
                vec![AppliedInstanceRole {
                    role: role.name.clone(),
                    path: role.settings.path.clone(),
                    instance_profile: instance_profile.clone().unwrap_or_default(),
                }]
            }
            ConsumerRole::NotRequested | ConsumerRole::NotManaged => Vec::new(),
        };
        Applied {
            spec: serde_json::to_value(&self.spec).unwrap_or(Value::Null),
            repositories: regions
                .map(|region| AppliedRepositories { region: region.clone(), patterns: patterns.clone() })
                .collect(),
            registry_roles: self.role.iter().map(|role| role.identity.name.clone()).collect(),
            instance_roles,
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
        Self {
            spec: new.spec.clone(),
            repositories,
            registry_roles: union(&self.registry_roles, &new.registry_roles),
            instance_roles: union(&self.instance_roles, &new.instance_roles),
        }
    }

    /// Whether this repository's policy may carry the grant.
    pub fn covers(&self, region: &str, repository: &str) -> bool {
        self.patterns(region).any(|pattern| pattern.matches(repository))
    }

    /// The patterns of one region.
    pub fn patterns<'a>(&'a self, region: &'a str) -> impl Iterator<Item = RepositoryPattern> + 'a {
        let of_region = self.repositories.iter().filter(move |known| known.region == region);
        of_region.flat_map(|known| known.patterns.iter().filter_map(|text| RepositoryPattern::recorded(text)))
    }

    /// For people: what there may be in AWS.
    pub fn summary(&self) -> String {
        let repositories = self.repositories.iter().map(|AppliedRepositories { region, patterns }| {
            format!("access in the policies of {} in {region}", patterns.join(", "))
        });
        let roles = self.registry_roles.iter().map(|role| format!("role {role}"));
        let instance_roles = self.instance_roles.iter().map(|role| format!("instance role {}", role.role));
        repositories.chain(roles).chain(instance_roles).collect::<Vec<_>>().join("; ")
    }

    /// The last spec that was carried out.
    pub fn last_spec(&self) -> Option<CrossAccountRegistryGrantSpec> {
        serde_json::from_value(self.spec.clone()).ok()
    }
}

fn union<T: Ord + Clone>(one: &[T], other: &[T]) -> Vec<T> {
    let mut all = [one, other].concat();
    all.sort();
    all.dedup();
    all
}
