//! The repositories of one grant: their policies are brought up to date, and what came of it is told of this grant.

use super::{Enforcement, Session};
use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::pace::{Urgency, Work};
use crate::controller::World;
use crate::controller::foresee::{Foreseen, foresee};
use crate::controller::repositories::{Look, Outcome, Repository, Standings, Written, bring_up_to_date};
use crate::grant::status::{Part, RepositoryOutcome};
use crate::grant::{Grant, Problem, RepositoryPattern};
use crate::policy::repository::MAX_CHARACTERS;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many repositories of one grant are looked at at a time.
const AT_A_TIME: usize = 4;

type Each = BTreeMap<(String, String), RepositoryOutcome>;

impl Enforcement<'_> {
    /// Brings every repository's policy up to date that the grant reaches, or reached. Only those it should reach count for it.
    pub(super) async fn keep_repositories(&mut self, session: &Session) -> (Part, Each) {
        let wanted = self.grant.filter(|grant| grant.touches_repository_policies());
        if self.claims.repositories.is_empty() && wanted.is_none() {
            return (Part::NotRequested("path Direct was not asked for".into()), Each::new());
        }
        let account = match session {
            Ok(account) => account,
            Err(problem) => return (Part::Blocked(problem.clone()), Each::new()),
        };
        let _revoking = match Work::current().urgency {
            Urgency::Revocation => Some(self.world.slots.revoking(account.id.as_str())),
            Urgency::Change | Urgency::Retry | Urgency::Resync => None,
        };
        let (found, unlisted) = self.repositories(account).await;
        let (world, look) = (self.world, self.look);
        if self.observes {
            return self.foresee_repositories(account, found, &unlisted).await;
        }
        let looked: Vec<_> = futures::stream::iter(found)
            .map(|repository| async move {
                let reached = wanted.filter(|grant| grant.reaches(&repository.region, &repository.name));
                if reached.is_some() {
                    return (brought_up_to_date(world, account, &repository, look).await, reached, repository);
                }
                let mut outcome = brought_up_to_date(world, account, &repository, Look::Now).await;
                if outcome.is_ok() {
                    // What was taken back is read back before the claim on it goes: nobody would look again.
                    outcome = brought_up_to_date(world, account, &repository, Look::ReadBack).await;
                }
                (outcome, reached, repository)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        let mut each = Each::new();
        for (outcome, reached, repository) in looked {
            if let Ok(Written::UpToDate(standings)) = &outcome {
                if standings.put_back {
                    let what = format!("put this operator's statements back into the policy of {repository}");
                    self.put_back.push(what);
                }
                self.changes.extend(standings.changed.clone());
                if reached.is_some() {
                    let policy = standings.policy.as_deref().cloned();
                    self.read.repositories.push((repository.clone(), Ok(policy)));
                }
            }
            if let (Err(problem), Some(_)) = (&outcome, reached) {
                self.read.repositories.push((repository.clone(), Err(problem.message.clone())));
            }
            match (outcome, reached) {
                (Ok(written), Some(grant)) => {
                    let told = self.of_this_grant(grant, &repository, written);
                    each.extend(told.map(|told| ((repository.region, repository.name), told)));
                }
                (Err(problem), Some(_)) => {
                    drop(each.insert((repository.region, repository.name), RepositoryOutcome::failed(problem)));
                }
                (Ok(Written::UpToDate(standings)), None) => {
                    self.left.extend(self.not_handed_over(&repository, &standings));
                }
                (Ok(Written::NoRepository), None) => {}
                (Err(problem), None) => self.left.push(problem),
            }
        }
        let part = match (Problem::join(&unlisted), wanted) {
            (Some(problem), _) => Part::Failed(problem),
            (None, None) => Part::NotRequested("nothing is asked of the repository policies".into()),
            (None, Some(_)) => Part::InPlace(summary(&each)),
        };
        (part, each)
    }

    /// What would become of the repositories' policies, and what they are now.
    async fn foresee_repositories(
        &mut self,
        account: &Account,
        found: BTreeSet<Repository>,
        unlisted: &[Problem],
    ) -> (Part, Each) {
        let (world, grant, name) = (self.world, self.grant, &self.owner.grant);
        let foreseen: Vec<_> = futures::stream::iter(found)
            .map(|repository| async move {
                let _turn = world.turn(repository.account.as_str()).await;
                (foresee(world, account, &repository, (name, grant)).await, repository)
            })
            .buffered(AT_A_TIME)
            .collect()
            .await;
        let mut each = Each::new();
        for (foreseen, repository) in foreseen {
            let reached = grant.filter(|grant| grant.reaches(&repository.region, &repository.name));
            let result = match foreseen {
                Ok(Some(Foreseen { change, left_out, characters, policy })) => {
                    let full_percent = full_percent(characters);
                    let pending = change.is_some();
                    self.changes.extend(change);
                    if reached.is_some() {
                        self.read.repositories.push((repository.clone(), Ok(policy)));
                    }
                    match (left_out, pending) {
                        (true, _) => Err(does_not_fit(&repository, full_percent)),
                        (false, true) => Err(Problem::new(Reason::Observing, "its policy would be changed")),
                        (false, false) => Ok(()),
                    }
                }
                Ok(None) => match reached.filter(|grant| grant.names(&repository.name)) {
                    Some(_) => Err(no_repository(&repository)),
                    None => continue,
                },
                Err(problem) => {
                    if reached.is_some() {
                        self.read.repositories.push((repository.clone(), Err(problem.message.clone())));
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
                self.left.extend((problem.reason != Reason::Observing).then_some(problem));
            }
        }
        let part = match Problem::join(unlisted) {
            Some(problem) => Part::Failed(problem),
            None => Part::InPlace(summary(&each)),
        };
        (part, each)
    }

    /// That access which was to stay could not be put into a statement of its own.
    fn not_handed_over(&self, repository: &Repository, standings: &Standings) -> Option<Problem> {
        let grant = self.handed_over.filter(|grant| grant.touches_repository_policies())?;
        let concerned = grant.reaches(&repository.region, &repository.name);
        let done = standings.handed_over.contains(&self.owner.grant);
        (concerned && !done).then(|| cannot_stay(repository, standings))
    }

    /// What a look at a repository's policy means for this grant; nothing where there is nothing to tell.
    fn of_this_grant(&self, grant: &Grant, repository: &Repository, written: Written) -> Option<RepositoryOutcome> {
        let Written::UpToDate(standings) = written else {
            // A prefix reaches what there is; only a name can be missing.
            return grant.names(&repository.name).then(|| RepositoryOutcome::failed(no_repository(repository)));
        };
        let Standings {
            granted,
            left_out,
            characters,
            replaced,
            kept,
            refused,
            contested,
            handed_over: _,
            put_back: _,
            changed: _,
            policy: _,
        } = *standings;
        let name = &self.owner.grant;
        let full_percent = full_percent(characters);
        let result =
            match (contested.or_else(|| refused.get(name).cloned()), granted.contains(name), left_out.contains(name)) {
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

    /// The repositories that the claims mean. A name is looked up as it is, so that one that is missing is noticed.
    async fn repositories(&self, account: &Account) -> (BTreeSet<Repository>, Vec<Problem>) {
        let (mut found, mut problems) = (BTreeSet::new(), Vec::new());
        for claimed in &self.claims.repositories {
            let region = &claimed.region;
            let repository = |name| Repository { account: account.id.clone(), region: region.clone(), name };
            let patterns: Vec<RepositoryPattern> = self.claims.patterns(region).collect();
            found.extend(patterns.iter().filter_map(|pattern| match pattern {
                RepositoryPattern::Name(name) => Some(repository(name.clone())),
                RepositoryPattern::Prefix(_) => None,
            }));
            if !patterns.iter().any(|pattern| matches!(pattern, RepositoryPattern::Prefix(_))) {
                continue;
            }
            let turn = self.world.turn(account.id.as_str()).await;
            let listed = account.repositories(region).await;
            drop(turn);
            match listed {
                Ok(names) => {
                    let matching =
                        names.into_iter().filter(|name| patterns.iter().any(|pattern| pattern.matches(name)));
                    found.extend(matching.map(repository));
                }
                Err(fault) => problems.push(fault.into()),
            }
        }
        (found, problems)
    }
}

/// The pauses between the attempts at a policy while AWS throttles. Each attempt reads again, for a policy must be read right before it is written; what
/// the grant has in place elsewhere need not be read again for that.
const THROTTLED: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Brings a repository's policy up to date, again if AWS throttles it. Between the attempts it holds no work slot.
async fn brought_up_to_date(world: &World, account: &Account, repository: &Repository, look: Look) -> Outcome {
    for pause in THROTTLED {
        match bring_up_to_date(world, account, repository, look).await {
            Err(problem) if problem.reason == Reason::Throttled => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            }
            outcome => return outcome,
        }
    }
    bring_up_to_date(world, account, repository, look).await
}

fn summary(each: &Each) -> String {
    let kept: usize = each.values().map(|outcome| outcome.kept.len()).sum();
    let stays = match kept {
        0 => String::new(),
        1 => "; a statement that it was to take the place of stays, see status.replacements".into(),
        many => format!("; {many} statements that it was to take the place of stay, see status.replacements"),
    };
    match each.len() {
        0 => "no repository matches yet".into(),
        1 => format!("the repository's policy grants the access{stays}"),
        many => format!("the policies of {many} repositories grant the access{stays}"),
    }
}

/// How full a policy is, rounded up to the next ten percent: told so, it does not change with every other grant.
fn full_percent(characters: usize) -> i32 {
    let tens = (characters * 10).div_ceil(MAX_CHARACTERS);
    i32::try_from(tens.min(10) * 10).unwrap_or(100)
}

fn no_repository(repository: &Repository) -> Problem {
    Problem::new(
        Reason::RepositoryNotFound,
        format!("{repository} does not exist. Create it, or correct spec.registry; it is looked for again"),
    )
}

/// The rules or the role changed while the policy was being written.
fn not_in_yet(repository: &Repository) -> Problem {
    Problem::new(
        Reason::Settling,
        format!("the policy of {repository} does not carry this grant yet; it is looked at again"),
    )
}

fn cannot_stay(repository: &Repository, standings: &Standings) -> Problem {
    match &standings.contested {
        Some(problem) => problem.clone(),
        None => Problem::new(
            Reason::PolicyTooLarge,
            format!(
                "access cannot stay in the policy of {repository}: a statement of its own does not fit within ECR's 10,240 characters without pushing other grants out. Make room there, or set spec.deletionPolicy to Delete"
            ),
        ),
    }
}

fn does_not_fit(repository: &Repository, full_percent: i32) -> Problem {
    Problem::new(
        Reason::PolicyTooLarge,
        format!(
            "the policy of {repository} has no room for this grant within ECR's 10,240 characters: it is {full_percent} % full (rounded up), and older grants keep their place. What takes less: wholeAccount instead of roles, or one grant for the whole organization (spec.consumer.organization). What takes nothing there: path AssumeRole alone, or the registry's own policy in ECR, which holds for all repositories"
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
