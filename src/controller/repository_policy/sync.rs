//! Syncs one repository policy: reads, merges and writes it, with nothing awaited between.
//! [`crate::controller::state::coalesce`] decides which caller may do so, and when.

use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::error::{AwsError, ErrorCode, ErrorKind};
use crate::aws::write_permit::WritePermit;
use crate::controller::Context;
use crate::controller::repository_policy::contributions::{self, Hypothesis};
use crate::controller::repository_policy::evidence;
use crate::controller::repository_policy::membership::{self, SyncEnd};
use crate::controller::restored;
use crate::controller::second_writer;
use crate::controller::state::contention::ContentionAction;
use crate::controller::state::policy_memory::PolicyMemory;
use crate::controller::state::repository::{
    Freshness, RepositoryKey, Standings, SyncOutcome, SyncResult,
};
use crate::grant::change::Change as Planned;
use crate::grant::{Contributor, Problem};
use crate::policy::repository::keep::Checked;
use crate::policy::repository::search::Next;
use crate::policy::repository::{
    self, GrantContribution, MAX_CHARACTERS, Ours, Plan, PolicyUpdate,
};
use crate::policy::{Document, Installation};
use crate::telemetry::metrics::Metrics;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Pauses between the attempts to sync a policy while AWS throttles. Each attempt reads again,
/// because a policy must be read right before it is written. The rest of the grant need not be read
/// again for that.
const THROTTLED: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Syncs a repository policy with the contributions of all grants. Retries while AWS throttles,
/// without a work slot between the attempts.
pub async fn bring_up_to_date(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
    who: Freshness,
) -> SyncResult {
    for pause in THROTTLED {
        match attempt(context, account, repository, who).await {
            Err(problem) if problem.reason == Reason::Throttled => {
                tokio::time::sleep(context.runtime.pauses.after_throttling(pause)).await;
            }
            outcome => return outcome,
        }
    }
    attempt(context, account, repository, who).await
}

async fn attempt(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
    who: Freshness,
) -> SyncResult {
    // Contributions depend on the grants' records, so those come first.
    restored::find_records(context, account, repository).await?;
    let wanted = || contributions::of(&context.cluster, repository, Hypothesis::Stored);
    let pass = async |memory: &mut PolicyMemory, wanted: &[GrantContribution<Contributor>]| {
        let mut looked = look(context, account, repository, memory, wanted).await;
        if let Ok(SyncOutcome::UpToDate(standings)) = &mut looked {
            match who {
                Freshness::Background => memory.untold |= standings.put_back,
                Freshness::Fresh | Freshness::VerifyWrite | Freshness::MaxAge(_) => {
                    standings.put_back |= std::mem::take(&mut memory.untold);
                    standings.notices = std::mem::take(&mut memory.notices);
                }
            }
        }
        note_size(&context.cloud.metrics, repository, &looked);
        if let Ok(SyncOutcome::UpToDate(standings)) = &looked {
            remember(context, memory, standings);
        }
        looked
    };
    context
        .cloud
        .coalescer
        .serve(repository, who, wanted, pass)
        .await
}

/// Updates the metrics of a policy's size.
fn note_size(metrics: &Metrics, repository: &RepositoryKey, outcome: &SyncResult) {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let policies = &metrics.policies;
    match outcome {
        Ok(SyncOutcome::NoRepository) => policies.gone(account.as_str(), region, name),
        Ok(SyncOutcome::UpToDate(standings)) => {
            let full = standings.characters as f64 / MAX_CHARACTERS as f64;
            policies.seen(account.as_str(), region, name, full);
        }
        Err(_) => {}
    }
}

/// Triggers reconciles of grants whose membership was changed by another grant's sync, so that
/// their status does not go stale.
fn remember(
    context: &Context,
    memory: &mut PolicyMemory,
    Standings {
        granted,
        left_out,
        refused,
        ..
    }: &Standings,
) {
    let outside: BTreeSet<Contributor> = left_out.iter().chain(refused.keys()).cloned().collect();
    let pushed_out = memory.granted.intersection(&outside);
    let let_in = memory.outside.intersection(granted);
    for contributor in pushed_out.chain(let_in) {
        if let Contributor::Grant(name) = contributor {
            context.cluster.requests.reconcile(name);
        }
    }
    (memory.granted, memory.outside) = (granted.clone(), outside);
}

/// One sync of a repository policy, from its first read to its last write.
struct Pass<'a> {
    context: &'a Context,
    account: &'a Account,
    repository: &'a RepositoryKey,
    memory: &'a mut PolicyMemory,
    grants: Vec<GrantContribution<Contributor>>,
    /// Foreign statements that ours have replaced before, and that are there again.
    again: BTreeSet<String>,
    /// What to do about them. `None`: the policy was not read yet.
    replacing: Option<ContentionAction>,
    begun: Option<Begun>,
}

/// State of a sync that has read the policy.
struct Begun {
    /// The policy as the sync found it.
    before: Option<Document>,
    /// What to do about changes that somebody else made to our statements.
    action: ContentionAction,
    /// The action, until it is noted.
    unnoted: Option<ContentionAction>,
    wrote: bool,
}

/// Reads, writes and passes AWS's answers on, until the search has nothing more to write.
/// [`crate::policy::repository::search`] chooses each document.
async fn look(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
    memory: &mut PolicyMemory,
    grants: &[GrantContribution<Contributor>],
) -> SyncResult {
    let mut pass = Pass {
        context,
        account,
        repository,
        memory,
        grants: grants.to_vec(),
        again: BTreeSet::new(),
        replacing: None,
        begun: None,
    };
    let memory = &mut *pass.memory;
    memory.search.begin(memory.began.elapsed());
    let account_id = repository.account.as_str();
    let mut turn = Some(context.cloud.turn_for_all(account_id).await);
    let (plan, policy) = loop {
        // Nothing else is awaited from here to the write: other writers' changes in between
        // would be lost without a trace.
        let asked = Instant::now();
        let current = match account
            .repository_policy(&repository.region, &repository.name)
            .await?
        {
            PolicyRead::NoRepository => return Ok(SyncOutcome::NoRepository),
            PolicyRead::NoPolicy => None,
            PolicyRead::Policy(text) => Some(text),
        };
        let (plan, write) = match pass.next(current.as_deref())? {
            Next::Done(plan) => (*plan, None),
            Next::Write(step) => (step.plan, Some(step.write)),
            Next::Ask(principals) => {
                // Other accounts are read, each with its own slot.
                drop(turn.take());
                let evidence = evidence::of(context, account, principals).await;
                pass.memory.search.learn(&evidence);
                turn = Some(context.cloud.turn_for_all(account_id).await);
                continue;
            }
        };
        let waits = pass.begin(&plan) == ContentionAction::Wait;
        match write.filter(|_| !waits) {
            None => {
                let policy = plan.current.clone();
                break (plan, policy);
            }
            Some(write) => {
                if pass.write(&plan, &write, asked).await? {
                    break (plan, write.document().cloned());
                }
            }
        }
    };
    drop(turn);
    Ok(pass.finish(plan, policy))
}

impl Pass<'_> {
    /// Computes the next document, given the policy as it was just read.
    fn next(&mut self, current: Option<&str>) -> Result<Next<Contributor>, Problem> {
        let Context { cluster, cloud, .. } = self.context;
        let unknown = contributions::of_unknown(cluster, cloud, self.repository, current);
        if self.replacing.is_none() {
            self.replacing = Some(self.judge_replacing(current)?);
        }
        let all: Cow<'_, [GrantContribution<Contributor>]> = match unknown {
            Some(unknown) => [unknown]
                .into_iter()
                .chain(self.grants.iter().cloned())
                .collect(),
            None => Cow::Borrowed(&self.grants),
        };
        let installation = &cluster.installation;
        let PolicyMemory { search, began, .. } = &mut *self.memory;
        search
            .next(current, &all, installation, began.elapsed())
            .map_err(|stop| membership::stopped(self.repository, stop))
    }

    /// Decides whether another tool keeps restoring foreign statements that ours replace. If so,
    /// they are not replaced for a while.
    fn judge_replacing(&mut self, current: Option<&str>) -> Result<ContentionAction, Problem> {
        if self.memory.replaced.is_empty() {
            return Ok(ContentionAction::Free);
        }
        let installation = &self.context.cluster.installation;
        let plan = planned(installation, self.repository, current, &self.grants)?;
        self.again = plan
            .replaced
            .intersection(&self.memory.replaced)
            .cloned()
            .collect();
        if self.again.is_empty() {
            return Ok(ContentionAction::Free);
        }
        let pause = self.context.runtime.pauses.resync_interval();
        let contest = &self.memory.replacing;
        let action = contest.judge_replaced_again(pause, Instant::now());
        if action == ContentionAction::Wait {
            for grant in &mut self.grants {
                grant.replaces.retain(|sid| !self.again.contains(sid));
            }
        }
        Ok(action)
    }

    /// Notes the policy as the sync found it, once. Returns what to do about changes that somebody
    /// else made to our statements.
    fn begin(&mut self, plan: &Plan<Contributor>) -> ContentionAction {
        if let Some(begun) = &self.begun {
            return begun.action;
        }
        second_writer::look_at_policy(self.context, self.repository, plan.current.as_ref());
        let pause = self.context.runtime.pauses.resync_interval();
        let contest = &mut self.memory.contest;
        let action = contest.judge(&plan.found, &plan.wanted, pause, Instant::now());
        self.begun = Some(Begun {
            before: plan.current.clone(),
            action,
            unnoted: Some(action),
            wrote: false,
        });
        action
    }

    /// Writes a document. Returns whether the search has ended with it.
    async fn write(
        &mut self,
        plan: &Plan<Contributor>,
        write: &Checked,
        asked: Instant,
    ) -> Result<bool, Problem> {
        let RepositoryKey {
            account,
            region,
            name,
        } = self.repository;
        let permit = self.context.runtime.leadership.write_permit()?;
        second_writer::write_policy(self.context, self.repository, write.document());
        // Noted before the answer, which may be lost.
        self.memory.written = Some(Instant::now());
        let written = self::write(self.account, self.repository, write, permit);
        match written.await {
            Ok(()) => {}
            // ECR has more than one error text for a principal that it does not know.
            Err(fault)
                if fault.class == ErrorKind::Settling
                    || fault.code() == ErrorCode::InvalidParameter =>
            {
                let elapsed = self.memory.began.elapsed();
                self.memory.search.was_refused(fault, elapsed);
                return Ok(false);
            }
            Err(fault) => return Err(fault.into()),
        }
        let window = asked.elapsed();
        let metrics = &self.context.cloud.metrics;
        metrics.write_window.observe(window.as_secs_f64());
        let grants = self.grants.len();
        tracing::info!(%account, region, repository = name, grants, characters = plan.characters, replaced = ?plan.replaced, ?window, "repository policy written");
        if let Some(begun) = &mut self.begun {
            begun.wrote = true;
        }
        // Noted at once: if the next call fails, our own writes must not count as those of
        // another tool.
        self.leave(write.document());
        let memory = &mut *self.memory;
        memory.replaced.extend(plan.replaced.iter().cloned());
        let has_ended = memory.search.accepted();
        for news in memory.search.news() {
            let notice = membership::announce(metrics, self.repository, &news);
            memory.notices.push(notice);
        }
        Ok(has_ended)
    }

    /// Notes our current statements in the policy.
    fn leave(&mut self, policy: Option<&Document>) {
        let ours = Ours::in_document(policy, &self.context.cluster.installation);
        let unnoted = self.begun.as_mut().and_then(|begun| begun.unnoted.take());
        let action = unnoted.unwrap_or(ContentionAction::Free);
        self.memory.contest.leave(ours, action, Instant::now());
    }

    /// Notes the result of the sync, and returns it. `policy` is the current policy.
    fn finish(mut self, plan: Plan<Contributor>, policy: Option<Document>) -> SyncOutcome {
        let (context, repository) = (self.context, self.repository);
        let now = Instant::now();
        let action = self.begin(&plan);
        let waits = action == ContentionAction::Wait;
        let replacing = self.replacing.unwrap_or(ContentionAction::Free);
        if !waits {
            self.leave(policy.as_ref());
            second_writer::leave_policy(context, repository, policy.as_ref());
            let none = Ours::default();
            self.memory.replacing.leave(none, replacing, now);
        }
        let Self {
            memory,
            grants,
            again,
            begun,
            ..
        } = self;
        // A statement that is there again stays remembered, or it would count as new the next time.
        memory
            .replaced
            .retain(|sid| again.contains(sid) || !plan.kept.contains_key(sid));
        let pause = context.runtime.pauses.resync_interval();
        let is_contested = memory.contest.is_on(pause, now);
        let contested_sids = is_contested.then_some(&plan.foreign_sids);
        if context.cloud.contested.note(repository, contested_sids) {
            let requests = &context.cluster.requests;
            requests.update_account(&repository.account);
        }
        let contested = is_contested.then(|| membership::contested(repository, &plan));
        let mut standings = Standings::of(SyncEnd {
            installation: &context.cluster.installation,
            repository,
            search: &memory.search,
            grants: &grants,
            plan,
            policy,
            waits,
        });
        if replacing == ContentionAction::Wait {
            let why = "another tool keeps restoring it; find who calls ecr:SetRepositoryPolicy in CloudTrail";
            let kept = again.into_iter().map(|sid| (sid, why.to_owned()));
            standings.kept.extend(kept);
        }
        standings.replaced = memory.replaced.clone();
        standings.contested = contested;
        standings.put_back = action == ContentionAction::PutBack;
        standings.changed = begun
            .filter(|begun| begun.wrote)
            .and_then(|begun| change(repository, begun.before, standings.policy.as_deref()));
        SyncOutcome::UpToDate(Box::new(standings))
    }
}

/// Writes a checked document. Repository policies are written nowhere else.
async fn write(
    account: &Account,
    repository: &RepositoryKey,
    write: &Checked,
    permit: WritePermit,
) -> Result<(), AwsError> {
    let RepositoryKey {
        account: _,
        region,
        name,
    } = repository;
    match write.document() {
        Some(document) => {
            account
                .set_repository_policy(region, name, document, permit)
                .await
        }
        None => account.delete_repository_policy(region, name, permit).await,
    }
}

/// Returns the change that a sync has made from its beginning to its end.
fn change(
    repository: &RepositoryKey,
    before: Option<Document>,
    after: Option<&Document>,
) -> Option<Planned> {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let change = match (&before, after) {
        (Some(before), Some(after)) if before == after => PolicyUpdate::None,
        (None, None) => PolicyUpdate::None,
        (_, Some(after)) => PolicyUpdate::Set(after.clone()),
        (Some(_), None) => PolicyUpdate::Delete,
    };
    Planned::of_repository(account, region, name, before.as_ref(), &change)
}

pub(in crate::controller) fn changes(
    repository: &RepositoryKey,
    plan: &Plan<Contributor>,
) -> Option<Planned> {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    Planned::of_repository(account, region, name, plan.current.as_ref(), &plan.change)
}

pub(in crate::controller) fn planned(
    installation: &Installation,
    repository: &RepositoryKey,
    current: Option<&str>,
    grants: &[GrantContribution<Contributor>],
) -> Result<Plan<Contributor>, Problem> {
    repository::plan(current, grants, installation)
        .map_err(|error| membership::unreadable(repository, &error))
}
