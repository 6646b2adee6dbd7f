//! Determines which places a grant may claim: those that could be read once. A place that cannot
//! even be read was never written by this grant. So it is not claimed, and nothing has to be
//! revoked there when the spec no longer names it.

use super::repository_texts::no_repository;
use super::roles::observed_instance;
use super::types::{Apply, Probed, Session};
use crate::api::grant::AppliedInstanceRole;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::Context;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::claims::Place;
use crate::grant::observed::{Instance, Role, RoleReading};
use crate::grant::{Grant, Problem, RepositoryPattern};
use futures::StreamExt;
use std::collections::btree_map::Entry;

/// How many repositories of one grant are read at a time.
const AT_A_TIME: usize = 4;

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
    fn note(&mut self, place: Place, found: Result<Found, Problem>) -> Option<Place> {
        match found {
            Ok(Found::Usable) => Some(place),
            Ok(Found::Nothing) => None,
            Ok(Found::Role(role)) => {
                self.registry_role = RoleReading::of(role);
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

impl Apply<'_> {
    /// Reads the places of a grant that it has not claimed yet. Claimed places are not read here.
    pub async fn probe(&self, context: &Context, grant: &Grant) -> Probed {
        let wanted = grant.claims();
        let (known, new): (Vec<Place>, Vec<Place>) = wanted
            .places()
            .partition(|place| self.request.claims.claims(place));
        let mut probed = Probed::default();
        if new.is_empty() {
            probed.claims = Some(wanted);
            return probed;
        }
        let mut usable = known;
        let (mut roles, mut repositories) = (Vec::new(), Vec::new());
        for place in new {
            match place {
                Place::InstanceRole(claimed) => {
                    let found = self.probe_instance(&claimed).await;
                    usable.extend(probed.note(Place::InstanceRole(claimed), found));
                }
                Place::RegistryRole(name) => roles.push(name),
                Place::Repositories { .. } => repositories.push(place),
            }
        }
        let _turn = self.cloud.turn(self.request.registry_account()).await;
        let registry = self.session(self.request.registry_account()).await;
        for name in roles {
            let found = match &registry {
                Ok(account) => account
                    .role(&name)
                    .await
                    .map(Found::Role)
                    .map_err(Problem::from),
                Err(problem) => Err(problem.clone()),
            };
            usable.extend(probed.note(Place::RegistryRole(name), found));
        }
        usable.extend(
            self.probe_repositories(context, &mut probed, &registry, repositories)
                .await,
        );
        probed.claims = Some(wanted.only(|place| usable.contains(place)));
        probed
    }

    async fn probe_instance(&self, claimed: &AppliedInstanceRole) -> Result<Found, Problem> {
        let consumer = self.request.consumer_account().unwrap_or_default();
        let _turn = self.cloud.turn(consumer).await;
        let account = self.session(consumer).await?;
        let read = observed_instance(&account, &claimed.role, claimed.profile()).await;
        read.map(Found::Instance)
    }

    async fn probe_repositories(
        &self,
        context: &Context,
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
            match pattern {
                RepositoryPattern::Name(name) => {
                    let repository = RepositoryKey::new(&account.id, region, name);
                    named.push((repository, place));
                }
                RepositoryPattern::Prefix(prefix) => {
                    let found = probe_prefix(account, probed, region, prefix).await;
                    usable.extend(probed.note(place, found));
                }
            }
        }
        let found: Vec<_> = futures::stream::iter(named)
            .map(|(repository, place)| async move {
                (place, probe_repository(context, account, &repository).await)
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

    /// Returns why a desired place of this kind cannot be used.
    pub(super) fn unusable(&self, is_it: impl Fn(&Place) -> bool) -> Option<Problem> {
        self.probed
            .unusable
            .iter()
            .find(|(place, _)| is_it(place))
            .map(|(_, problem)| problem.clone())
    }
}

/// Lists the repositories of a region, once, and returns whether any of them has this prefix.
async fn probe_prefix(
    account: &Account,
    probed: &mut Probed,
    region: &str,
    prefix: &str,
) -> Result<Found, Problem> {
    let names = match probed.listed.entry(region.to_owned()) {
        Entry::Occupied(listed) => listed.into_mut(),
        Entry::Vacant(unlisted) => unlisted.insert(account.repositories(region).await?),
    };
    let matches = names.iter().any(|name| name.starts_with(prefix));
    Ok(if matches {
        Found::Usable
    } else {
        Found::Nothing
    })
}

/// Reads the policy of one repository, unless another grant's read of it is recent enough.
async fn probe_repository(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
) -> Result<Found, Problem> {
    let RepositoryKey {
        account: _,
        region,
        name,
    } = repository;
    let coalescer = &context.cloud.coalescer;
    if coalescer.was_read(repository, context.runtime.pauses.resync_interval()) {
        return Ok(Found::Usable);
    }
    match account.repository_policy(region, name).await? {
        PolicyRead::NoRepository => Err(no_repository(repository)),
        PolicyRead::NoPolicy | PolicyRead::Policy(_) => {
            coalescer.note_read(repository);
            Ok(Found::Usable)
        }
    }
}
