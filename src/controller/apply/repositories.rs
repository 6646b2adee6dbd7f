//! Syncs the policies of one grant's repositories, and reports the outcomes for this grant.

use super::done::Log;
use super::repository_texts::{
    Each, cannot_stay, does_not_fit, full_percent, no_repository, not_in_yet, summary,
};
use super::types::{Apply, PolicyReading, Session};
use crate::api::conditions::Reason;
use crate::api::grant::Applied;
use crate::aws::Account;
use crate::aws::rate_limit::{Priority, Work};
use crate::controller::Context;
use crate::controller::repository_policy::contributions::Hypothesis;
use crate::controller::repository_policy::preview::{PolicyPreview, preview};
use crate::controller::repository_policy::read_back::revoke;
use crate::controller::repository_policy::sync::bring_up_to_date;
use crate::controller::restored::find_records;
use crate::controller::state::recent::Revoked;
use crate::controller::state::repository::{RepositoryKey, Standings, SyncOutcome, SyncResult};
use crate::grant::claims::{Place, Unrevoked};
use crate::grant::status::{RepositoryOutcome, StatusPart};
use crate::grant::{Contributor, Grant, Problem, RepositoryPattern};
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of a grant's repositories that are synced at a time.
const AT_A_TIME: usize = 4;

/// Result of syncing a grant's repositories.
pub struct RepositoriesStage {
    /// The policies as one unit.
    pub part: StatusPart,
    /// Each repository that the grant should reach.
    pub each: Each,
    pub log: Log,
    /// The current policies of the repositories that the grant should reach.
    pub reads: Vec<(RepositoryKey, PolicyReading)>,
    /// The claims that stay although they are not wanted.
    pub unrevoked: Vec<Unrevoked>,
    /// In a dry run: problems of access that would be revoked.
    pub left: Vec<Problem>,
    /// The policies in which access was revoked.
    pub revoked: Vec<Revoked>,
}

/// The repositories of a grant's claims, as far as they could be listed.
#[derive(Default)]
struct Listed {
    repositories: BTreeSet<RepositoryKey>,
    /// The regions that could not be listed, with the reason.
    failed: Vec<(String, Problem)>,
}

fn problems_of(failed: Vec<(String, Problem)>) -> Vec<Problem> {
    failed.into_iter().map(|(_, problem)| problem).collect()
}

/// Repository that was claimed, and why its access could not be revoked if it could not.
type Found = (String, String, Option<Problem>);

impl RepositoriesStage {
    fn of(part: StatusPart) -> Self {
        Self {
            part,
            each: Each::new(),
            log: Log::default(),
            reads: Vec::new(),
            unrevoked: Vec::new(),
            left: Vec::new(),
            revoked: Vec::new(),
        }
    }

    /// Notes the previewed outcome of one repository.
    fn note_outcome(
        &mut self,
        repository: RepositoryKey,
        is_reached: bool,
        outcome: Result<(), Problem>,
    ) {
        if is_reached {
            let outcome = match outcome {
                Ok(()) => RepositoryOutcome::granted(),
                Err(problem) => RepositoryOutcome::failed(problem),
            };
            let place = (repository.region, repository.name);
            self.each.insert(place, outcome);
        } else if let Err(problem) = outcome
            && problem.reason != Reason::Observing
        {
            self.left.push(problem);
        }
    }

    /// Completes the result of a stage, given the problems that concern no single repository.
    fn complete(&mut self, problems: &[Problem], is_wanted: bool) {
        self.part = match Problem::join(problems) {
            Some(problem) => StatusPart::Failed(problem),
            None if is_wanted => StatusPart::InPlace(summary(&self.each)),
            None => {
                StatusPart::NotRequested("no access in repository policies is requested".into())
            }
        };
    }
}

impl Apply<'_> {
    /// Syncs the policy of every repository that the grant reaches, or reached. Only those that it
    /// should reach count in its status.
    pub(super) async fn keep_repositories(&self, session: &Session) -> RepositoriesStage {
        let wanted = self.wanted_in_repositories();
        if self.request.claims.repositories.is_empty() && wanted.is_none() {
            let why = "path Direct is not requested";
            return RepositoriesStage::of(StatusPart::NotRequested(why.into()));
        }
        let account = match session {
            Ok(account) => account,
            Err(problem) => return RepositoriesStage::of(StatusPart::Blocked(problem.clone())),
        };
        let _revoking = match Work::current().urgency {
            Priority::Revocation => Some(self.cloud.slots.revoking(account.id.as_str())),
            Priority::Change | Priority::Retry | Priority::Resync => None,
        };
        let listed = self.repositories(account).await;
        match self.executor.live() {
            Some(context) => self.sync_repositories(context, account, listed).await,
            None => self.preview_repositories(account, listed).await,
        }
    }

    /// Returns the grant if repository policies should contain it.
    fn wanted_in_repositories(&self) -> Option<&Grant> {
        let grant = self.request.grant();
        grant.filter(|grant| grant.touches_repository_policies())
    }

    async fn sync_repositories(
        &self,
        context: &Context,
        account: &Account,
        Listed {
            repositories,
            failed,
        }: Listed,
    ) -> RepositoriesStage {
        let wanted = self.wanted_in_repositories();
        let freshness = self.request.freshness;
        let synced: Vec<_> = futures::stream::iter(repositories)
            .map(|repository| async move {
                let grant =
                    wanted.filter(|grant| grant.reaches(&repository.region, &repository.name));
                let outcome = match grant {
                    Some(_) => bring_up_to_date(context, account, &repository, freshness).await,
                    // The claim on it is removed only with the access, because nothing would read
                    // it again.
                    None => revoke(context, account, &repository).await,
                };
                (repository, grant, outcome)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let mut stage = RepositoriesStage::of(StatusPart::InPlace(String::new()));
        let mut found: Vec<Found> = Vec::new();
        for (repository, grant, outcome) in synced {
            if let Ok(SyncOutcome::UpToDate(standings)) = &outcome {
                stage.log.note(&repository, standings);
            }
            let problem = match grant {
                Some(grant) => {
                    self.note_reached(&mut stage, grant, &repository, outcome);
                    None
                }
                None => self.note_revoked(&mut stage, &repository, outcome),
            };
            found.push((repository.region, repository.name, problem));
        }
        let claimed = self
            .request
            .grant()
            .map_or_else(Applied::none, Grant::claims);
        stage.unrevoked = self
            .request
            .claims
            .repositories_to_keep(&claimed, &found, &failed);
        let mut problems = problems_of(failed);
        problems.extend(self.note_unusable(account, &mut stage));
        stage.complete(&problems, wanted.is_some());
        stage
    }

    /// Notes the sync of a repository that the grant should reach.
    fn note_reached(
        &self,
        stage: &mut RepositoriesStage,
        grant: &Grant,
        repository: &RepositoryKey,
        outcome: SyncResult,
    ) {
        let outcome = match outcome {
            Ok(SyncOutcome::UpToDate(standings)) => {
                let policy = Ok(standings.policy.clone());
                stage.reads.push((repository.clone(), policy));
                Some(self.of_this_grant(grant, repository, *standings))
            }
            // A prefix reaches only existing repositories, so only a named one can be missing.
            Ok(SyncOutcome::NoRepository) => grant
                .names(&repository.name)
                .then(|| RepositoryOutcome::failed(no_repository(repository))),
            Err(problem) => {
                let unread = Err(problem.message.clone());
                stage.reads.push((repository.clone(), unread));
                Some(RepositoryOutcome::failed(problem))
            }
        };
        let place = (repository.region.clone(), repository.name.clone());
        stage.each.extend(outcome.map(|outcome| (place, outcome)));
    }

    /// Notes the revocation of a repository that the grant should not reach. Returns the problem if
    /// access is left there, or could not be retained.
    fn note_revoked(
        &self,
        stage: &mut RepositoriesStage,
        repository: &RepositoryKey,
        outcome: SyncResult,
    ) -> Option<Problem> {
        let standings = match outcome {
            Ok(SyncOutcome::UpToDate(standings)) => *standings,
            Ok(SyncOutcome::NoRepository) => return None,
            Err(problem) => return Some(problem),
        };
        if standings.unrevoked.is_some() {
            return standings.unrevoked;
        }
        stage.revoked.push(Revoked {
            repository: repository.clone(),
            changed: standings.changed.is_some(),
        });
        let is_retained = standings.retained.contains(&self.contributor());
        self.not_retained(repository, is_retained, standings.contested.as_ref())
    }

    /// Reports the repositories that could not even be read, and returns the problems that keep an
    /// entire prefix from being read.
    fn note_unusable(&self, account: &Account, stage: &mut RepositoriesStage) -> Vec<Problem> {
        let mut prefixes = Vec::new();
        for (place, problem) in &self.probed.unusable {
            let Place::Repositories { region, pattern } = place else {
                continue;
            };
            match pattern {
                RepositoryPattern::Name(name) => {
                    let repository = RepositoryKey::new(&account.id, region, name);
                    let unread = Err(problem.message.clone());
                    stage.reads.push((repository, unread));
                    stage.each.insert(
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
    pub async fn find_records(&self, context: &Context) -> Result<(), Problem> {
        if self.request.claims.repositories.is_empty() {
            return Ok(());
        }
        let registry = self.request.registry_account();
        let turn = self.cloud.turn(registry).await;
        let account = self.session(registry).await;
        drop(turn);
        let account = account?;
        let Listed {
            repositories,
            failed,
        } = self.repositories(&account).await;
        for repository in repositories {
            find_records(context, &account, &repository).await?;
        }
        let unlisted = problems_of(failed);
        Problem::join(&unlisted).map_or(Ok(()), Err)
    }

    /// Previews the repository policies, and keeps their current content.
    async fn preview_repositories(
        &self,
        account: &Account,
        Listed {
            repositories,
            failed,
        }: Listed,
    ) -> RepositoriesStage {
        let grant = self.request.grant();
        let name = &self.request.owner.grant;
        let hypothesis = match (grant, self.request.retained()) {
            (Some(grant), _) => Hypothesis::With(grant),
            // The stored resource asks for it, and determines the Sids under which its access
            // stays.
            (None, Some(_)) => Hypothesis::Stored,
            (None, None) => Hypothesis::Without(name),
        };
        let (cluster, cloud) = (self.cluster, self.cloud);
        let previews: Vec<_> = futures::stream::iter(repositories)
            .map(|repository| async move {
                let _turn = cloud.turn(repository.account.as_str()).await;
                let preview = preview(cluster, cloud, account, &repository, hypothesis).await;
                (repository, preview)
            })
            .buffered(AT_A_TIME)
            .collect()
            .await;
        let mut stage = RepositoriesStage::of(StatusPart::InPlace(String::new()));
        for (repository, preview) in previews {
            let reached = grant.filter(|grant| grant.reaches(&repository.region, &repository.name));
            let outcome = match preview {
                Ok(Some(preview)) => {
                    self.note_preview(&mut stage, &repository, reached.is_some(), preview)
                }
                Ok(None) if reached.is_some_and(|grant| grant.names(&repository.name)) => {
                    Err(no_repository(&repository))
                }
                Ok(None) => continue,
                Err(problem) => {
                    if reached.is_some() {
                        let unread = Err(problem.message.clone());
                        stage.reads.push((repository.clone(), unread));
                    }
                    Err(problem)
                }
            };
            stage.note_outcome(repository, reached.is_some(), outcome);
        }
        let unlisted = problems_of(failed);
        stage.complete(&unlisted, true);
        stage
    }

    /// Returns this grant among those whose access a repository policy contains.
    fn contributor(&self) -> Contributor {
        Contributor::Grant(self.request.owner.grant.clone())
    }

    /// Notes the preview of one repository policy. Returns what the grant's status says of it.
    fn note_preview(
        &self,
        stage: &mut RepositoriesStage,
        repository: &RepositoryKey,
        is_reached: bool,
        PolicyPreview {
            change,
            left_out,
            retained,
            characters,
            policy,
        }: PolicyPreview,
    ) -> Result<(), Problem> {
        let contributor = self.contributor();
        let is_pending = change.is_some();
        stage.log.changes.extend(change);
        if is_reached {
            let policy = policy.map(Arc::new);
            stage.reads.push((repository.clone(), Ok(policy)));
        }
        if let Some(problem) = self.not_retained(repository, retained.contains(&contributor), None)
        {
            Err(problem)
        } else if left_out.contains(&contributor) {
            Err(does_not_fit(repository, full_percent(characters)))
        } else if is_pending {
            let message = "a change of its policy is pending";
            Err(Problem::new(Reason::Observing, message))
        } else {
            Ok(())
        }
    }

    /// Returns the problem of access that should stay and could not be put into a statement of its
    /// own.
    fn not_retained(
        &self,
        repository: &RepositoryKey,
        is_retained: bool,
        contested: Option<&Problem>,
    ) -> Option<Problem> {
        let retained = self.request.retained();
        let grant = retained.filter(|grant| grant.touches_repository_policies())?;
        let concerned = grant.reaches(&repository.region, &repository.name);
        (concerned && !is_retained).then(|| cannot_stay(repository, contested))
    }

    /// Returns the outcome of a sync for this grant.
    fn of_this_grant(
        &self,
        grant: &Grant,
        repository: &RepositoryKey,
        Standings {
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
        }: Standings,
    ) -> RepositoryOutcome {
        let contributor = self.contributor();
        let full_percent = full_percent(characters);
        let result = if let Some(problem) = contested.or_else(|| refused.get(&contributor).cloned())
        {
            Err(problem)
        } else if granted.contains(&contributor) {
            Ok(())
        } else if left_out.contains(&contributor) {
            Err(does_not_fit(repository, full_percent))
        } else {
            Err(not_in_yet(repository))
        };
        RepositoryOutcome {
            result,
            full_percent: Some(full_percent),
            replaced: replaced
                .into_iter()
                .filter(|sid| grant.replaces.contains(sid))
                .collect(),
            kept: kept
                .into_iter()
                .filter(|(sid, _)| grant.replaces.contains(sid))
                .collect(),
        }
    }

    /// Returns the repositories of the claims. A named one is included without a search, so that a
    /// missing one is noticed.
    async fn repositories(&self, account: &Account) -> Listed {
        let mut listed = Listed::default();
        let claims = self.request.claims;
        for region in claims.repositories.iter().map(|claimed| &claimed.region) {
            let patterns: Vec<RepositoryPattern> = claims.patterns(region).collect();
            let mut has_prefix = false;
            for pattern in &patterns {
                match pattern {
                    RepositoryPattern::Name(name) => {
                        let named = RepositoryKey::new(&account.id, region, name);
                        listed.repositories.insert(named);
                    }
                    RepositoryPattern::Prefix(_) => has_prefix = true,
                }
            }
            if !has_prefix {
                continue;
            }
            let names = match self.probed.listed.get(region) {
                Some(names) => Ok(names.clone()),
                None => {
                    let _turn = self.cloud.turn(account.id.as_str()).await;
                    account.repositories(region).await
                }
            };
            match names {
                Ok(names) => {
                    let matching = names
                        .into_iter()
                        .filter(|name| patterns.iter().any(|pattern| pattern.matches(name)));
                    let found = matching.map(|name| RepositoryKey::new(&account.id, region, name));
                    listed.repositories.extend(found);
                }
                Err(fault) => listed.failed.push((region.clone(), fault.into())),
            }
        }
        listed
    }
}

impl Log {
    /// Notes what the sync of a repository policy did.
    fn note(&mut self, repository: &RepositoryKey, standings: &Standings) {
        if standings.put_back {
            self.put_back.push(format!(
                "restore this operator's statements in the policy of {repository}"
            ));
        }
        self.changes.extend(standings.changed.clone());
        self.notices.extend(standings.notices.iter().cloned());
    }
}
