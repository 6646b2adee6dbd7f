//! Determines which places a grant may claim: those that could be read once. A place that cannot
//! even be read was never written by this grant. So it is not claimed, and nothing has to be
//! revoked there when the spec no longer names it.

use super::{Enforcement, Session};
use crate::api::grant::Applied;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::repository_policy::sync::RepositoryKey;
use crate::grant::claims::Place;
use crate::grant::observed::{Instance, Role};
use crate::grant::status::StatusPart;
use crate::grant::{Grant, Problem, RepositoryPattern};
use futures::StreamExt;
use std::collections::BTreeMap;

/// How many repositories of one grant are read at a time.
const AT_A_TIME: usize = 4;

/// Results of reading a grant's new places.
#[derive(Default)]
pub struct Probed {
    /// The places that may be written.
    claims: Option<Applied>,
    /// The places that may not, with the reason.
    pub(super) unusable: BTreeMap<Place, Problem>,
    /// The names of all repositories in each region that was listed.
    pub(super) listed: BTreeMap<String, Vec<String>>,
    /// The registry role, which belongs to this grant alone.
    pub(super) registry_role: Option<Option<Role>>,
    /// The instance role. Only a grant that shares it with no other may rely on it: another grant's
    /// work may have come in between.
    pub(super) instance: Option<Instance>,
}

/// Result of reading one place.
enum Found {
    /// It can be read.
    Usable,
    /// It can be read, and there is nothing to write to.
    Nothing,
    Role(Option<Role>),
    Instance(Instance),
}

impl Probed {
    /// Returns the places that the grant may claim.
    pub fn claims(&self) -> Applied {
        self.claims.clone().unwrap_or_else(Applied::none)
    }

    fn note(&mut self, place: Place, found: Result<Found, Problem>) -> Option<Place> {
        match found {
            Ok(Found::Usable) => Some(place),
            Ok(Found::Nothing) => None,
            Ok(Found::Role(role)) => {
                self.registry_role = Some(role);
                Some(place)
            }
            Ok(Found::Instance(instance)) => {
                self.instance = Some(instance);
                Some(place)
            }
            Err(problem) => {
                self.unusable.insert(place, problem);
                None
            }
        }
    }
}

impl Enforcement<'_> {
    /// Reads the places of a grant that it has not claimed yet. Claimed places are not read here.
    pub async fn probe(&self, grant: &Grant) -> Probed {
        let wanted = grant.claims();
        let (known, new): (Vec<Place>, Vec<Place>) =
            wanted.places().partition(|place| self.claims.claims(place));
        let mut probed = Probed::default();
        if new.is_empty() {
            probed.claims = Some(wanted);
            return probed;
        }
        let mut usable = known;
        let (in_consumer, new): (Vec<Place>, Vec<Place>) = new
            .into_iter()
            .partition(|place| matches!(place, Place::InstanceRole(_)));
        for place in in_consumer {
            let Place::InstanceRole(claimed) = &place else {
                continue;
            };
            let consumer = self.accounts.1.unwrap_or_default();
            let _turn = self.world.turn(consumer).await;
            let found = match self.session(consumer).await {
                Ok(account) => {
                    let read = self
                        .observed_instance(&account, &claimed.role, &claimed.instance_profile)
                        .await;
                    read.map(Found::Instance)
                }
                Err(problem) => Err(problem),
            };
            usable.extend(probed.note(place, found));
        }
        let _turn = self.world.turn(self.accounts.0).await;
        let registry = self.session(self.accounts.0).await;
        let (repositories, roles): (Vec<Place>, Vec<Place>) = new
            .into_iter()
            .partition(|place| matches!(place, Place::Repositories { .. }));
        for place in roles {
            let Place::RegistryRole(name) = &place else {
                continue;
            };
            let found = match &registry {
                Ok(account) => account
                    .role(name)
                    .await
                    .map(Found::Role)
                    .map_err(Problem::from),
                Err(problem) => Err(problem.clone()),
            };
            usable.extend(probed.note(place, found));
        }
        usable.extend(
            self.probe_repositories(&mut probed, &registry, repositories)
                .await,
        );
        probed.claims = Some(wanted.only(|place| usable.contains(place)));
        probed
    }

    async fn probe_repositories(
        &self,
        probed: &mut Probed,
        registry: &Session,
        new: Vec<Place>,
    ) -> Vec<Place> {
        let mut usable = Vec::new();
        let account = match registry {
            Ok(account) => account,
            Err(problem) => {
                probed
                    .unusable
                    .extend(new.into_iter().map(|place| (place, problem.clone())));
                return usable;
            }
        };
        let mut named = Vec::new();
        for place in new {
            let Place::Repositories { region, pattern } = &place else {
                continue;
            };
            let prefix = match pattern {
                RepositoryPattern::Name(name) => {
                    named.push((
                        RepositoryKey {
                            account: account.id.clone(),
                            region: region.clone(),
                            name: name.clone(),
                        },
                        place,
                    ));
                    continue;
                }
                RepositoryPattern::Prefix(prefix) => prefix,
            };
            if !probed.listed.contains_key(region) {
                match account.repositories(region).await {
                    Ok(names) => drop(probed.listed.insert(region.clone(), names)),
                    Err(fault) => {
                        probed.note(place, Err(fault.into()));
                        continue;
                    }
                }
            }
            let matches = probed
                .listed
                .get(region)
                .is_some_and(|names| names.iter().any(|name| name.starts_with(prefix)));
            usable.extend(probed.note(
                place,
                Ok(if matches {
                    Found::Usable
                } else {
                    Found::Nothing
                }),
            ));
        }
        let found: Vec<_> = futures::stream::iter(named)
            .map(|(repository, place)| async move {
                (place, self.probe_repository(account, &repository).await)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        usable.extend(
            found
                .into_iter()
                .filter_map(|(place, found)| probed.note(place, found)),
        );
        usable
    }

    /// Reads the policy of one repository, unless another grant's read of it is recent enough.
    async fn probe_repository(
        &self,
        account: &Account,
        repository: &RepositoryKey,
    ) -> Result<Found, Problem> {
        let RepositoryKey {
            account: _,
            region,
            name,
        } = repository;
        if self
            .world
            .coalescer
            .was_read(repository, self.world.resync_interval)
        {
            return Ok(Found::Usable);
        }
        match account.repository_policy(region, name).await? {
            PolicyRead::NoRepository => Err(super::repositories::no_repository(repository)),
            PolicyRead::NoPolicy | PolicyRead::Policy(_) => {
                self.world.coalescer.note_read(repository);
                Ok(Found::Usable)
            }
        }
    }

    /// Returns why a desired place of this kind cannot be used.
    pub(super) fn unusable(&self, is_it: impl Fn(&Place) -> bool) -> Option<Problem> {
        self.probed
            .unusable
            .iter()
            .find(|(place, _)| is_it(place))
            .map(|(_, problem)| problem.clone())
    }

    /// Keeps the claim on a place that could not be revoked, or gives the place up if that was
    /// asked for and waiting does not help. Returns the problem if it has to be reported.
    pub(super) fn keep_claim(&mut self, place: Place, problem: Problem) -> Option<Problem> {
        if self.abandons && place.is_lost_to(&problem) {
            self.given_up.insert(place, problem);
            return None;
        }
        self.undone.insert(place, Some(problem.clone()));
        Some(problem)
    }

    /// Returns the claims that remain: the desired places, and those that could not be revoked.
    pub(super) fn remaining_claims(
        &mut self,
        registry: &Session,
        consumer: Option<&Session>,
        kept: &StatusPart,
    ) -> Option<Applied> {
        let wanted: Vec<Place> = self
            .grant
            .map(|grant| grant.claims().places().collect())
            .unwrap_or_default();
        let instance_role = wanted.iter().find_map(|place| match place {
            Place::InstanceRole(wanted) => Some(wanted.role.clone()),
            Place::Repositories { .. } | Place::RegistryRole(_) => None,
        });
        for place in self.claims.places().filter(|place| !wanted.contains(place)) {
            let session = match &place {
                Place::Repositories { .. } | Place::RegistryRole(_) => registry.as_ref().err(),
                Place::InstanceRole(_) => consumer.and_then(|session| session.as_ref().err()),
            };
            if let Some(problem) = session {
                // The problem is reported for the account already.
                self.keep_claim(place, problem.clone());
                continue;
            }
            // The same role under another path or in another profile is corrected together with the
            // desired role, and stays claimed until that is in place.
            let same_role = |claimed: &str| instance_role.as_deref() == Some(claimed);
            if matches!(&place, Place::InstanceRole(claimed) if same_role(&claimed.role))
                && !matches!(kept, StatusPart::InPlace(_))
            {
                self.undone.insert(place, None);
            }
        }
        let left = self
            .claims
            .only(|place| wanted.contains(place) || self.undone.contains_key(place));
        Some(left).filter(|left| !left.is_empty())
    }
}
