//! Syncs the policies of one grant's repositories, and reports the outcomes for this grant.

use super::{Enforcement, Session};
use crate::api::conditions::Reason;
use crate::api::grant::Applied;
use crate::aws::Account;
use crate::aws::rate_limit::{Priority, Work};
use crate::controller::recent::Revoked;
use crate::controller::repository_policy::contributions::Hypothesis;
use crate::controller::repository_policy::membership::Standings;
use crate::controller::repository_policy::preview::{PolicyPreview, preview};
use crate::controller::repository_policy::read_back::revoke;
use crate::controller::repository_policy::sync::{RepositoryKey, SyncOutcome, bring_up_to_date};
use crate::controller::restored::find_records;
use crate::grant::claims::Place;
use crate::grant::status::{RepositoryOutcome, StatusPart};
use crate::grant::{Grant, Problem, RepositoryPattern};
use crate::policy::repository::MAX_CHARACTERS;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of a grant's repositories that are synced at a time.
const AT_A_TIME: usize = 4;

type Each = BTreeMap<(String, String), RepositoryOutcome>;

impl Enforcement<'_> {
    /// Syncs the policy of every repository that the grant reaches, or reached. Only those that it
    /// should reach count in its status.
    pub(super) async fn keep_repositories(&mut self, session: &Session) -> (StatusPart, Each) {
        let wanted = self
            .grant
            .filter(|grant| grant.touches_repository_policies());
        if self.claims.repositories.is_empty() && wanted.is_none() {
            return (
                StatusPart::NotRequested("path Direct was not asked for".into()),
                Each::new(),
            );
        }
        let account = match session {
            Ok(account) => account,
            Err(problem) => return (StatusPart::Blocked(problem.clone()), Each::new()),
        };
        let _revoking = match Work::current().urgency {
            Priority::Revocation => Some(self.world.slots.revoking(account.id.as_str())),
            Priority::Change | Priority::Retry | Priority::Resync => None,
        };
        let (found, not_listed) = self.repositories(account).await;
        let mut unlisted: Vec<Problem> = not_listed
            .iter()
            .map(|(_, problem)| problem.clone())
            .collect();
        let (world, look) = (self.world, self.look);
        if self.observes {
            return self.preview_repositories(account, found, &unlisted).await;
        }
        let looked: Vec<_> = futures::stream::iter(found)
            .map(|repository| async move {
                let reached =
                    wanted.filter(|grant| grant.reaches(&repository.region, &repository.name));
                if reached.is_some() {
                    return (
                        bring_up_to_date(world, account, &repository, look).await,
                        reached,
                        repository,
                    );
                }
                // The claim on it is removed only with the access, because nothing would read it
                // again.
                (
                    revoke(world, account, &repository).await,
                    reached,
                    repository,
                )
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let (mut each, mut undone) = (Each::new(), Vec::new());
        for (outcome, reached, repository) in looked {
            let at = (repository.region.clone(), repository.name.clone());
            if let Ok(SyncOutcome::UpToDate(standings)) = &outcome {
                if standings.put_back {
                    let what = format!(
                        "put this operator's statements back into the policy of {repository}"
                    );
                    self.put_back.push(what);
                }
                self.changes.extend(standings.changed.clone());
                self.notices.extend(standings.notices.iter().cloned());
                if reached.is_some() {
                    self.read
                        .repositories
                        .push((repository.clone(), Ok(standings.policy.clone())));
                }
            }
            if let (Err(problem), Some(_)) = (&outcome, reached) {
                self.read
                    .repositories
                    .push((repository.clone(), Err(problem.message.clone())));
            }
            match (outcome, reached) {
                (Ok(written), Some(grant)) => {
                    let told = self.of_this_grant(grant, &repository, written);
                    each.extend(told.map(|told| ((repository.region, repository.name), told)));
                }
                (Err(problem), Some(_)) => {
                    drop(each.insert(
                        (repository.region, repository.name),
                        RepositoryOutcome::failed(problem),
                    ));
                }
                (Ok(SyncOutcome::UpToDate(standings)), None) => {
                    let unrevoked = standings.unrevoked.clone();
                    if unrevoked.is_none() {
                        let changed = standings.changed.is_some();
                        self.revoked.push(Revoked {
                            repository: repository.clone(),
                            changed,
                        });
                    }
                    let is_retained = standings.retained.contains(&self.owner.grant);
                    let contested = standings.contested.as_ref();
                    let problem = unrevoked
                        .or_else(|| self.not_retained(&repository, is_retained, contested));
                    undone.push((at.0, at.1, problem));
                    continue;
                }
                (Ok(SyncOutcome::NoRepository), None) => {}
                (Err(problem), None) => {
                    undone.push((at.0, at.1, Some(problem)));
                    continue;
                }
            }
            undone.push((at.0, at.1, None));
        }
        self.keep_repository_claims(&undone, &not_listed);
        unlisted.extend(self.unusable_repositories(account, &mut each));
        let part = match (Problem::join(&unlisted), wanted) {
            (Some(problem), _) => StatusPart::Failed(problem),
            (None, None) => {
                StatusPart::NotRequested("nothing is asked of the repository policies".into())
            }
            (None, Some(_)) => StatusPart::InPlace(summary(&each)),
        };
        (part, each)
    }

    /// Keeps the claims on repositories that could not be revoked.
    fn keep_repository_claims(
        &mut self,
        found: &[(String, String, Option<Problem>)],
        unlisted: &[(String, Problem)],
    ) {
        let wanted = self.grant.map_or_else(Applied::none, Grant::claims);
        for (place, problem) in self.claims.repositories_to_keep(&wanted, found, unlisted) {
            match problem {
                Some(problem) => {
                    let reported = self.keep_claim(place, problem);
                    self.left.repositories.extend(reported);
                }
                None => drop(self.undone.insert(place, None)),
            }
        }
        self.left.repositories.sort();
        self.left.repositories.dedup();
    }

    /// Reports the repositories that could not even be read, and returns the problems that keep an
    /// entire prefix from being read.
    fn unusable_repositories(&mut self, account: &Account, each: &mut Each) -> Vec<Problem> {
        let mut prefixes = Vec::new();
        for (place, problem) in &self.probed.unusable {
            let Place::Repositories { region, pattern } = place else {
                continue;
            };
            match pattern {
                RepositoryPattern::Name(name) => {
                    let repository = RepositoryKey {
                        account: account.id.clone(),
                        region: region.clone(),
                        name: name.clone(),
                    };
                    self.read
                        .repositories
                        .push((repository, Err(problem.message.clone())));
                    each.insert(
                        (region.clone(), name.clone()),
                        RepositoryOutcome::failed(problem.clone()),
                    );
                }
                RepositoryPattern::Prefix(_) => prefixes.push(problem.clone()),
            }
        }
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }

    /// Finds the lost records of frozen grants that concern the repositories of these claims.
    pub async fn find_records(&self) -> Result<(), Problem> {
        if self.claims.repositories.is_empty() {
            return Ok(());
        }
        let turn = self.world.turn(self.accounts.0).await;
        let account = self.session(self.accounts.0).await;
        drop(turn);
        let account = account?;
        let (found, unlisted) = self.repositories(&account).await;
        for repository in found {
            find_records(self.world, &account, &repository).await?;
        }
        let unlisted: Vec<Problem> = unlisted.into_iter().map(|(_, problem)| problem).collect();
        Problem::join(&unlisted).map_or(Ok(()), Err)
    }

    /// Previews the repository policies, and keeps their current content.
    async fn preview_repositories(
        &mut self,
        account: &Account,
        found: BTreeSet<RepositoryKey>,
        unlisted: &[Problem],
    ) -> (StatusPart, Each) {
        let (world, grant, name) = (self.world, self.grant, &self.owner.grant);
        let hypothesis = match (grant, self.retained) {
            (Some(grant), _) => Hypothesis::With(grant),
            // The stored resource asks for it, and determines the Sids under which its access
            // stays.
            (None, Some(_)) => Hypothesis::Stored,
            (None, None) => Hypothesis::Without(name),
        };
        let previews: Vec<_> = futures::stream::iter(found)
            .map(|repository| async move {
                let _turn = world.turn(repository.account.as_str()).await;
                (
                    preview(world, account, &repository, name, hypothesis).await,
                    repository,
                )
            })
            .buffered(AT_A_TIME)
            .collect()
            .await;
        let mut each = Each::new();
        for (preview, repository) in previews {
            let reached = grant.filter(|grant| grant.reaches(&repository.region, &repository.name));
            let result = match preview {
                Ok(Some(PolicyPreview {
                    change,
                    left_out,
                    retained,
                    characters,
                    policy,
                })) => {
                    let full_percent = full_percent(characters);
                    let pending = change.is_some();
                    self.changes.extend(change);
                    if reached.is_some() {
                        self.read
                            .repositories
                            .push((repository.clone(), Ok(policy.map(Arc::new))));
                    }
                    let not_retained = self.not_retained(&repository, retained, None);
                    match (left_out, pending) {
                        _ if not_retained.is_some() => not_retained.map_or(Ok(()), Err),
                        (true, _) => Err(does_not_fit(&repository, full_percent)),
                        (false, true) => Err(Problem::new(
                            Reason::Observing,
                            "its policy would be changed",
                        )),
                        (false, false) => Ok(()),
                    }
                }
                Ok(None) => match reached.filter(|grant| grant.names(&repository.name)) {
                    Some(_) => Err(no_repository(&repository)),
                    None => continue,
                },
                Err(problem) => {
                    if reached.is_some() {
                        self.read
                            .repositories
                            .push((repository.clone(), Err(problem.message.clone())));
                    }
                    Err(problem)
                }
            };
            if reached.is_some() {
                let key = (repository.region, repository.name);
                let outcome = match result {
                    Ok(()) => RepositoryOutcome::granted(),
                    Err(problem) => RepositoryOutcome::failed(problem),
                };
                each.insert(key, outcome);
            } else if let Err(problem) = result {
                self.left
                    .repositories
                    .extend((problem.reason != Reason::Observing).then_some(problem));
            }
        }
        let part = match Problem::join(unlisted) {
            Some(problem) => StatusPart::Failed(problem),
            None => StatusPart::InPlace(summary(&each)),
        };
        (part, each)
    }

    /// Returns the problem of access that should stay and could not be put into a statement of its
    /// own.
    fn not_retained(
        &self,
        repository: &RepositoryKey,
        is_retained: bool,
        contested: Option<&Problem>,
    ) -> Option<Problem> {
        let grant = self
            .retained
            .filter(|grant| grant.touches_repository_policies())?;
        let concerned = grant.reaches(&repository.region, &repository.name);
        (concerned && !is_retained).then(|| cannot_stay(repository, contested))
    }

    /// Returns the outcome of a sync for this grant. `None`: there is nothing to report.
    fn of_this_grant(
        &self,
        grant: &Grant,
        repository: &RepositoryKey,
        written: SyncOutcome,
    ) -> Option<RepositoryOutcome> {
        let SyncOutcome::UpToDate(standings) = written else {
            // A prefix reaches only existing repositories, so only a named one can be missing.
            return grant
                .names(&repository.name)
                .then(|| RepositoryOutcome::failed(no_repository(repository)));
        };
        let Standings {
            granted,
            left_out,
            characters,
            replaced,
            kept,
            refused,
            contested,
            unrevoked: _,
            notices: _,
            retained: _,
            put_back: _,
            changed: _,
            policy: _,
        } = *standings;
        let name = &self.owner.grant;
        let full_percent = full_percent(characters);
        let result = match (
            contested.or_else(|| refused.get(name).cloned()),
            granted.contains(name),
            left_out.contains(name),
        ) {
            (Some(problem), _, _) => Err(problem),
            (None, true, _) => Ok(()),
            (None, false, true) => Err(does_not_fit(repository, full_percent)),
            (None, false, false) => Err(not_in_yet(repository)),
        };
        let asked = |sid: &String| grant.replaces.contains(sid);
        Some(RepositoryOutcome {
            result,
            full_percent: Some(full_percent),
            replaced: replaced.into_iter().filter(asked).collect(),
            kept: kept.into_iter().filter(|(sid, _)| asked(sid)).collect(),
        })
    }

    /// Returns the repositories of the claims. A named one is included without a search, so that a
    /// missing one is noticed.
    async fn repositories(
        &self,
        account: &Account,
    ) -> (BTreeSet<RepositoryKey>, Vec<(String, Problem)>) {
        let (mut found, mut problems) = (BTreeSet::new(), Vec::new());
        for claimed in &self.claims.repositories {
            let region = &claimed.region;
            let repository = |name| RepositoryKey {
                account: account.id.clone(),
                region: region.clone(),
                name,
            };
            let patterns: Vec<RepositoryPattern> = self.claims.patterns(region).collect();
            found.extend(patterns.iter().filter_map(|pattern| match pattern {
                RepositoryPattern::Name(name) => Some(repository(name.clone())),
                RepositoryPattern::Prefix(_) => None,
            }));
            if !patterns
                .iter()
                .any(|pattern| matches!(pattern, RepositoryPattern::Prefix(_)))
            {
                continue;
            }
            let listed = match self.probed.listed.get(region) {
                Some(names) => Ok(names.clone()),
                None => {
                    let _turn = self.world.turn(account.id.as_str()).await;
                    account.repositories(region).await
                }
            };
            match listed {
                Ok(names) => {
                    let matching = names
                        .into_iter()
                        .filter(|name| patterns.iter().any(|pattern| pattern.matches(name)));
                    found.extend(matching.map(repository));
                }
                Err(fault) => problems.push((region.clone(), fault.into())),
            }
        }
        (found, problems)
    }
}

fn summary(each: &Each) -> String {
    let kept: usize = each.values().map(|outcome| outcome.kept.len()).sum();
    let stays = match kept {
        0 => String::new(),
        1 => "; a statement that it was to take the place of stays, see status.replacements".into(),
        many => format!(
            "; {many} statements that it was to take the place of stay, see status.replacements"
        ),
    };
    match each.len() {
        0 => "no repository matches yet".into(),
        1 => format!("the repository's policy grants the access{stays}"),
        many => format!("the policies of {many} repositories grant the access{stays}"),
    }
}

/// Returns how full a policy is, rounded up to the next ten percent, so that the value does not
/// change with every other grant.
fn full_percent(characters: usize) -> i32 {
    let tens = (characters * 10).div_ceil(MAX_CHARACTERS);
    i32::try_from(tens.min(10) * 10).unwrap_or(100)
}

pub(super) fn no_repository(repository: &RepositoryKey) -> Problem {
    Problem::new(
        Reason::RepositoryNotFound,
        format!(
            "{repository} does not exist. Create it, or correct spec.registry; it is looked for again"
        ),
    )
}

/// Reports that the rules or the role changed while the policy was being written.
fn not_in_yet(repository: &RepositoryKey) -> Problem {
    Problem::new(
        Reason::Settling,
        format!("the policy of {repository} does not carry this grant yet; it is looked at again"),
    )
}

fn cannot_stay(repository: &RepositoryKey, contested: Option<&Problem>) -> Problem {
    match contested {
        Some(problem) => problem.clone(),
        None => Problem::new(
            Reason::PolicyTooLarge,
            format!(
                "access cannot stay in the policy of {repository}: a statement of its own does not fit within ECR's 10,240 characters without pushing other grants out. Make room there, or set spec.deletionPolicy to Delete"
            ),
        ),
    }
}

fn does_not_fit(repository: &RepositoryKey, full_percent: i32) -> Problem {
    Problem::new(
        Reason::PolicyTooLarge,
        format!(
            "the policy of {repository} has no room for this grant within ECR's 10,240 characters: it is {full_percent} % full (rounded up), and whoever has access keeps it; that goes for what this grant had there before. What takes less: wholeAccount instead of roles, or one grant for the whole organization (spec.consumer.organization). What takes nothing there: path AssumeRole alone, or the registry's own policy in ECR, which holds for all repositories"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_full_at_its_last_characters_and_never_told_emptier_than_it_is() {
        let told = [0, 1, 1024, 1025, 9_216, 9_217, 10_240].map(full_percent);
        assert_eq!(told, [0, 10, 10, 20, 90, 100, 100]);
    }
}
