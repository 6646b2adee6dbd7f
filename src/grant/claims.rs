//! Claims: the places that the operator may have written to for a grant. They are recorded before
//! the first write and shortened only after revocation.

use super::Problem;
use super::model::{ConsumerRole, Grant};
use super::names::RepositoryPattern;
use crate::api::conditions::Reason;
use crate::api::grant::{
    Applied, AppliedInstanceRole, AppliedRepositories, CrossAccountRegistryGrantSpec,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Place in AWS that a grant claims. `status.applied` contains a place only if it could be read
/// once, because only then may it have been written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The policies of these repositories of the registry account.
    Repositories {
        /// The region.
        region: String,
        /// A name, or a prefix of names.
        pattern: RepositoryPattern,
    },
    /// A role in the registry account.
    RegistryRole(String),
    /// A role in the consumer account, with its instance profile.
    InstanceRole(AppliedInstanceRole),
}

impl Place {
    /// Returns whether waiting does not help while the place has this problem, so that the
    /// annotation `registrygrants.dev/abandon` gives the place up. `BlockedPolicy` counts only for
    /// roles in the consumer account: in a repository policy the access itself would stay.
    pub fn is_lost_to(&self, problem: &Problem) -> bool {
        let blocked =
            problem.reason == Reason::BlockedPolicy && matches!(self, Self::InstanceRole(_));
        problem.reason.shuts_out() || blocked
    }

    /// Returns the name of the role, if the place is an instance role.
    pub fn instance_role(&self) -> Option<&str> {
        match self {
            Self::InstanceRole(AppliedInstanceRole { role, .. }) => Some(role),
            Self::Repositories { .. } | Self::RegistryRole(_) => None,
        }
    }

    fn has_repository(&self, region: &str, name: &str) -> bool {
        match self {
            Self::Repositories {
                region: of,
                pattern,
            } => of == region && pattern.matches(name),
            Self::RegistryRole(_) | Self::InstanceRole(_) => false,
        }
    }
}

impl AppliedInstanceRole {
    /// Returns the name of the role's instance profile. `None`: the operator manages none.
    pub fn profile(&self) -> Option<&str> {
        Some(self.instance_profile.as_str()).filter(|name| !name.is_empty())
    }
}

/// Claimed place that should be revoked and was not.
#[derive(Clone, Debug, PartialEq)]
pub struct Unrevoked {
    /// The place.
    pub place: Place,
    /// The reason. `None`: it is corrected together with what should be there.
    pub problem: Option<Problem>,
}

impl Unrevoked {
    /// Returns a place that could not be revoked.
    pub fn because_of(place: Place, problem: Problem) -> Self {
        Self {
            place,
            problem: Some(problem),
        }
    }

    /// Returns a place that stays claimed without a problem.
    pub fn kept(place: Place) -> Self {
        Self {
            place,
            problem: None,
        }
    }

    /// Returns whether the place is given up: the grant's annotation asks for that, and waiting
    /// does not help.
    pub fn is_given_up(&self, abandons: bool) -> bool {
        let lost = self
            .problem
            .as_ref()
            .is_some_and(|problem| self.place.is_lost_to(problem));
        abandons && lost
    }
}

/// Claims after an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimsAfter {
    /// The claims that remain. `None`: nothing is left in AWS.
    pub claims: Option<Applied>,
    /// The places that are no longer claimed although they could not be revoked.
    pub given_up: BTreeMap<Place, Problem>,
}

/// Computes the claims that remain after an apply: the wanted places, and those that could not be
/// revoked. Nothing else keeps a claim, for instance denied access.
pub fn claims_after(
    claims: &Applied,
    wanted: &[Place],
    unrevoked: Vec<Unrevoked>,
    abandons: bool,
) -> ClaimsAfter {
    let (given_up, kept): (Vec<Unrevoked>, Vec<Unrevoked>) = unrevoked
        .into_iter()
        .partition(|unrevoked| unrevoked.is_given_up(abandons));
    let left = claims.only(|place| {
        wanted.contains(place) || kept.iter().any(|unrevoked| unrevoked.place == *place)
    });
    ClaimsAfter {
        claims: Some(left).filter(|left| !left.is_empty()),
        given_up: given_up
            .into_iter()
            .filter_map(|Unrevoked { place, problem }| Some((place, problem?)))
            .collect(),
    }
}

/// Describes for people what may exist at the place.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repositories { region, pattern } => {
                write!(f, "access in the policies of {pattern} in {region}")
            }
            Self::RegistryRole(role) => write!(f, "role {role}"),
            Self::InstanceRole(AppliedInstanceRole { role, .. }) => {
                write!(f, "instance role {role}")
            }
        }
    }
}

impl Grant {
    /// Returns the places that this grant touches, with the spec that they come from.
    pub fn claims(&self) -> Applied {
        let mut patterns: Vec<String> = self.repositories.iter().map(ToString::to_string).collect();
        patterns.sort();
        let regions = self
            .regions
            .iter()
            .filter(|_| self.touches_repository_policies());
        let instance_roles = match &self.instance_role {
            ConsumerRole::Kept {
                role,
                instance_profile,
                extends: _,
            } => {
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
                .map(|region| AppliedRepositories {
                    region: region.clone(),
                    patterns: patterns.clone(),
                })
                .collect(),
            registry_roles: self
                .role
                .iter()
                .map(|role| role.identity.name.clone())
                .collect(),
            instance_roles,
        }
    }
}

impl Applied {
    /// Returns the claims to record before a change: the present claims and the new ones.
    pub fn grown_by(&self, new: &Self) -> Self {
        let mut repositories = self.repositories.clone();
        for AppliedRepositories { region, patterns } in &new.repositories {
            match repositories
                .iter_mut()
                .find(|known| known.region == *region)
            {
                Some(known) => known.patterns = union(&known.patterns, patterns),
                None => repositories.push(AppliedRepositories {
                    region: region.clone(),
                    patterns: patterns.clone(),
                }),
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

    /// Returns these claims without the roles that a successor, a grant of the same name, claims
    /// now. By their tags these roles belong to the successor. Repositories stay, because their
    /// policies are always computed from the contributions of all grants.
    pub fn without_roles_of(&self, successor: &Self) -> Self {
        let mut left = self.clone();
        left.registry_roles
            .retain(|role| !successor.has_registry_role(role));
        left.instance_roles
            .retain(|role| !successor.has_instance_role(&role.role));
        left
    }

    /// Returns whether a registry role of this name is claimed. IAM's names are unique regardless
    /// of case.
    fn has_registry_role(&self, name: &str) -> bool {
        self.registry_roles
            .iter()
            .any(|role| role.eq_ignore_ascii_case(name))
    }

    /// Returns whether an instance role of this name is claimed.
    fn has_instance_role(&self, name: &str) -> bool {
        self.instance_roles
            .iter()
            .any(|claim| claim.role.eq_ignore_ascii_case(name))
    }

    /// Returns whether this repository's policy may contain the grant.
    pub fn covers(&self, region: &str, repository: &str) -> bool {
        self.patterns(region)
            .any(|pattern| pattern.matches(repository))
    }

    /// Returns the patterns of one region.
    pub fn patterns<'a>(&'a self, region: &'a str) -> impl Iterator<Item = RepositoryPattern> + 'a {
        let of_region = self
            .repositories
            .iter()
            .filter(move |known| known.region == region);
        of_region.flat_map(|known| {
            known
                .patterns
                .iter()
                .filter_map(|text| RepositoryPattern::recorded(text))
        })
    }

    /// Returns the claimed places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let Self {
            spec: _,
            repositories,
            registry_roles,
            instance_roles,
        } = self;
        let repositories =
            repositories
                .iter()
                .flat_map(|AppliedRepositories { region, patterns }| {
                    let patterns = patterns
                        .iter()
                        .filter_map(|text| RepositoryPattern::recorded(text));
                    patterns.map(move |pattern| Place::Repositories {
                        region: region.clone(),
                        pattern,
                    })
                });
        let registry_roles = registry_roles.iter().cloned().map(Place::RegistryRole);
        repositories
            .chain(registry_roles)
            .chain(instance_roles.iter().cloned().map(Place::InstanceRole))
    }

    /// Returns the claims of the same spec on the places for which `stays` is true.
    pub fn only(&self, stays: impl Fn(&Place) -> bool) -> Self {
        let mut left = Self {
            spec: self.spec.clone(),
            ..Self::none()
        };
        for place in self.places().filter(stays) {
            match place {
                Place::Repositories { region, pattern } => {
                    let pattern = pattern.to_string();
                    match left
                        .repositories
                        .iter_mut()
                        .find(|known| known.region == region)
                    {
                        Some(known) => known.patterns.push(pattern),
                        None => left.repositories.push(AppliedRepositories {
                            region,
                            patterns: vec![pattern],
                        }),
                    }
                }
                Place::RegistryRole(role) => left.registry_roles.push(role),
                Place::InstanceRole(role) => left.instance_roles.push(role),
            }
        }
        left
    }

    /// Returns claims on no place.
    pub fn none() -> Self {
        Self {
            spec: Value::Null,
            repositories: Vec::new(),
            registry_roles: Vec::new(),
            instance_roles: Vec::new(),
        }
    }

    /// Returns whether no place is claimed.
    pub fn is_empty(&self) -> bool {
        self.places().next().is_none()
    }

    /// Returns whether this place is claimed already, by its own claim or as a part of a broader
    /// one.
    pub fn claims(&self, place: &Place) -> bool {
        self.places().any(|known| match (&known, place) {
            (
                Place::Repositories { region, pattern },
                Place::Repositories {
                    region: new_region,
                    pattern: new_pattern,
                },
            ) => region == new_region && pattern.covers(new_pattern),
            (known, place) => known == place,
        })
    }

    /// Returns the claimed repositories that `wanted` no longer claims and that stay claimed, with
    /// the reason if there is one.
    ///
    /// `found` lists each repository that the claims match, with the problem that kept its policy
    /// from being corrected. `unlisted` lists the regions whose repositories could not be listed.
    pub fn repositories_to_keep(
        &self,
        wanted: &Self,
        found: &[(String, String, Option<Problem>)],
        unlisted: &[(String, Problem)],
    ) -> Vec<Unrevoked> {
        let held: Vec<Place> = self
            .places()
            .filter(|place| wanted.places().any(|wanted| wanted == *place))
            .collect();
        let mut kept = Vec::new();
        for place in self.places().filter(|place| !held.contains(place)) {
            let Place::Repositories { region, pattern } = &place else {
                continue;
            };
            let is_prefix = matches!(pattern, RepositoryPattern::Prefix(_));
            let unlisted = unlisted.iter().find(|(of, _)| is_prefix && of == region);
            // A repository that another remaining claim covers needs no second claim.
            let here = found.iter().filter(|(of, name, _)| {
                of == region
                    && pattern.matches(name)
                    && !held.iter().any(|held| held.has_repository(region, name))
            });
            // The policy still grants what the spec asks for, and the new claim on it was not
            // recorded.
            let still_wanted = here
                .clone()
                .any(|(region, name, _)| wanted.covers(region, name));
            // A problem that waiting may solve takes precedence over those that would give up the
            // place.
            let failed = here.filter_map(|(_, _, problem)| problem.as_ref());
            let problems = unlisted
                .map(|(_, problem)| problem)
                .into_iter()
                .chain(failed);
            let problem = problems.min_by_key(|problem| place.is_lost_to(problem));
            if problem.is_some() || still_wanted {
                let problem = problem.cloned();
                kept.push(Unrevoked { place, problem });
            }
        }
        kept
    }

    /// Describes for people what may exist in AWS.
    pub fn summary(&self) -> String {
        self.places()
            .map(|place| place.to_string())
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Returns the spec that was applied last.
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
