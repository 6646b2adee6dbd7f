//! Syncs one repository policy: reads, merges and writes it, with nothing awaited between.
//! [`crate::controller::state::coalesce`] decides which caller may do so, and when.

use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::error::{AwsError, ErrorKind};
use crate::controller::instrument;
use crate::controller::repository_policy::contention::{ContentionAction, Contest};
use crate::controller::repository_policy::contributions::{self, Hypothesis};
use crate::controller::repository_policy::evidence;
use crate::controller::repository_policy::membership::{self, Standings};
use crate::controller::restored;
use crate::controller::second_writer;
use crate::controller::{Context, World};
use crate::grant::change::Change as Planned;
use crate::grant::{AccountId, AccountLookup, GrantName, Problem};
use crate::policy::Document;
use crate::policy::repository::keep::Checked;
use crate::policy::repository::search::{Next, Search};
use crate::policy::repository::{self, GrantContribution, Ours, Plan, PolicyUpdate};
use futures::FutureExt;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Identity of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryKey {
    pub account: AccountId,
    pub region: String,
    pub name: String,
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            region,
            name,
        } = self;
        write!(f, "repository {name} in account {account}, {region}")
    }
}

/// How fresh a view of the repository policy the caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// For a settled grant: a sync that is no older than this is good enough, as long as the
    /// contributions are the same.
    MaxAge(Duration),
    /// For a grant that waits for its access, or for its end.
    Fresh,
    /// For a caller that verifies its own write: it does not wait for other callers to join.
    VerifyWrite,
    /// For a policy that was written lately, without any grant that waits for it.
    Background,
}

/// Outcome of the sync of a repository policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// There is no such repository.
    NoRepository,
    /// The policy contains the contributions of all grants, as far as possible.
    UpToDate(Box<Standings>),
}

pub type SyncResult = Result<SyncOutcome, Problem>;

/// State of a repository that is kept from sync to sync.
pub struct Memory {
    /// The start of the times that the search uses.
    began: Instant,
    search: Search<AwsError>,
    /// Notices that were not published as Events yet.
    notices: Vec<String>,
    /// Contention about our statements.
    contest: Contest,
    /// Contention about foreign statements that ours replace.
    replacing: Contest,
    replaced: BTreeSet<String>,
    pub written: Option<Instant>,
    /// A sync that no grant had asked for restored something: the next grant that syncs reports it.
    untold: bool,
    /// The grants that were in the policy after the last sync, and those that were not, because
    /// they did not fit or AWS refused them.
    granted: BTreeSet<GrantName>,
    outside: BTreeSet<GrantName>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            search: Search::default(),
            notices: Vec::new(),
            contest: Contest::default(),
            replacing: Contest::default(),
            replaced: BTreeSet::new(),
            written: None,
            untold: false,
            granted: BTreeSet::new(),
            outside: BTreeSet::new(),
        }
    }
}

impl SyncOutcome {
    /// Returns the outcome for a caller that is served by it without having run the sync.
    pub fn of_another(self) -> Self {
        match self {
            Self::UpToDate(standings) => {
                let notices = Vec::new();
                Self::UpToDate(Box::new(Standings {
                    put_back: false,
                    changed: None,
                    notices,
                    ..*standings
                }))
            }
            Self::NoRepository => Self::NoRepository,
        }
    }
}

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
    world: &World,
    account: &Account,
    repository: &RepositoryKey,
    who: Freshness,
) -> SyncResult {
    for pause in THROTTLED {
        match attempt(world, account, repository, who).await {
            Err(problem) if problem.reason == Reason::Throttled => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            }
            outcome => return outcome,
        }
    }
    attempt(world, account, repository, who).await
}

async fn attempt(
    world: &World,
    account: &Account,
    repository: &RepositoryKey,
    who: Freshness,
) -> SyncResult {
    // Contributions depend on the grants' records, so those come first.
    restored::find_records(world, account, repository).await?;
    let wanted = || contributions::of(world, repository, Hypothesis::Stored);
    let pass = async |memory: &mut Memory, wanted: &[GrantContribution<GrantName>]| {
        let mut looked = look(world, account, repository, memory, wanted).await;
        if let Ok(SyncOutcome::UpToDate(standings)) = &mut looked {
            match who {
                Freshness::Background => memory.untold |= standings.put_back,
                Freshness::Fresh | Freshness::VerifyWrite | Freshness::MaxAge(_) => {
                    standings.put_back |= std::mem::take(&mut memory.untold);
                    standings.notices = std::mem::take(&mut memory.notices);
                }
            }
        }
        instrument::policy(&world.metrics, repository, &looked);
        if let Ok(SyncOutcome::UpToDate(standings)) = &looked {
            remember(world, memory, standings);
        }
        looked
    };
    world.coalescer.serve(repository, who, wanted, pass).await
}

/// Triggers reconciles of grants whose membership was changed by another grant's sync, so that
/// their status does not go stale.
fn remember(
    world: &World,
    memory: &mut Memory,
    Standings {
        granted,
        left_out,
        refused,
        ..
    }: &Standings,
) {
    let outside: BTreeSet<GrantName> = left_out.iter().chain(refused.keys()).cloned().collect();
    let pushed_out = memory.granted.intersection(&outside);
    let let_in = memory.outside.intersection(granted);
    for name in pushed_out.chain(let_in) {
        world.nudge(name);
    }
    (memory.granted, memory.outside) = (granted.clone(), outside);
}

/// State of a sync that has begun.
struct Begun {
    /// The policy as the sync found it.
    before: Option<Document>,
    verdict: ContentionAction,
    /// The verdict, until it is noted.
    unnoted: Option<ContentionAction>,
    replacing: ContentionAction,
    wrote: bool,
}

impl Begun {
    /// Notes our current statements in the policy.
    fn leave(&mut self, memory: &mut Memory, policy: Option<&Document>, world: &World) {
        let (ours, verdict) = (
            Ours::in_document(policy, &world.installation),
            self.unnoted.take(),
        );
        memory.contest.leave(
            ours,
            verdict.unwrap_or(ContentionAction::Free),
            Instant::now(),
        );
    }
}

/// Reads, writes and passes AWS's answers on, until the search has nothing more to write.
/// [`crate::policy::repository::search`] chooses each document.
async fn look(
    world: &World,
    account: &Account,
    repository: &RepositoryKey,
    memory: &mut Memory,
    grants: &[GrantContribution<GrantName>],
) -> SyncResult {
    let RepositoryKey {
        account: _,
        region,
        name,
    } = repository;
    let pause = world.resync_interval;
    let (mut grants, mut again, mut begun) = (grants.to_vec(), BTreeSet::new(), None::<Begun>);
    let mut replacing = None;
    memory.search.begin(memory.began.elapsed());
    let mut turn = Some(world.turn_for_all(repository.account.as_str()).await);
    let (plan, policy) = loop {
        // Nothing else is awaited from here to the write: other writers' changes in between
        // would be lost without a trace.
        let asked = Instant::now();
        let current = match account.repository_policy(region, name).await? {
            PolicyRead::NoRepository => return Ok(SyncOutcome::NoRepository),
            PolicyRead::NoPolicy => None,
            PolicyRead::Policy(text) => Some(text),
        };
        let unknown = contributions::of_unknown(world, repository, current.as_deref());
        if replacing.is_none() {
            let mut verdict = ContentionAction::Free;
            if !memory.replaced.is_empty() {
                let plan = planned(world, repository, current.as_deref(), &grants)?;
                again = plan
                    .replaced
                    .intersection(&memory.replaced)
                    .cloned()
                    .collect();
                let ours = Ours::default();
                verdict =
                    memory
                        .replacing
                        .judge(&ours, &ours, !again.is_empty(), pause, Instant::now());
                if verdict == ContentionAction::Wait {
                    grants
                        .iter_mut()
                        .for_each(|grant| grant.replaces.retain(|sid| !again.contains(sid)));
                }
            }
            replacing = Some(verdict);
        }
        let all: Cow<'_, [GrantContribution<GrantName>]> = match unknown {
            Some(unknown) => [unknown]
                .into_iter()
                .chain(grants.iter().cloned())
                .collect(),
            None => Cow::Borrowed(&grants),
        };
        let next = memory.search.next(
            current.as_deref(),
            &all,
            &world.installation,
            memory.began.elapsed(),
        );
        let (plan, write) = match next.map_err(|stop| membership::stopped(repository, stop))? {
            Next::Done(plan) => (*plan, None),
            Next::Write(step) => (step.plan, Some(step.write)),
            Next::Ask(principals) => {
                // Other accounts are read, each with its own slot.
                drop(turn.take());
                memory
                    .search
                    .learn(&evidence::of(world, account, principals).await);
                turn = Some(world.turn_for_all(repository.account.as_str()).await);
                continue;
            }
        };
        let begun = begun.get_or_insert_with(|| {
            second_writer::look_at_policy(world, repository, plan.current.as_ref());
            let verdict =
                memory
                    .contest
                    .judge(&plan.found, &plan.wanted, false, pause, Instant::now());
            let replacing = replacing.unwrap_or(ContentionAction::Free);
            Begun {
                before: plan.current.clone(),
                verdict,
                unnoted: Some(verdict),
                replacing,
                wrote: false,
            }
        });
        let Some(write) = write.filter(|_| begun.verdict != ContentionAction::Wait) else {
            break (plan, None);
        };
        let permit = world.leadership.may_write()?;
        second_writer::write_policy(world, repository, write.document());
        // Noted before the answer, which may be lost.
        memory.written = Some(Instant::now());
        match permit.carry(self::write(account, repository, &write)).await {
            Ok(()) => {
                let window = asked.elapsed();
                world.metrics.write_window.observe(window.as_secs_f64());
                tracing::info!(account = %repository.account, region, repository = name, grants = grants.len(), characters = plan.characters, replaced = ?plan.replaced, ?window, "repository policy written");
                begun.wrote = true;
                // Noted at once: if the next call fails, our own writes must not be taken for
                // somebody else's.
                begun.leave(memory, write.document(), world);
                memory.replaced.extend(plan.replaced.iter().cloned());
                let ended = memory.search.accepted();
                let news = memory.search.news();
                memory.notices.extend(
                    news.iter()
                        .map(|news| membership::announce(&world.metrics, repository, news)),
                );
                if ended {
                    break (plan, Some(write));
                }
            }
            // ECR has more than one error text for a principal that it does not know.
            Err(fault)
                if fault.class == ErrorKind::Settling
                    || fault.code == "InvalidParameterException" =>
            {
                memory.search.was_refused(fault, memory.began.elapsed());
            }
            Err(fault) => return Err(fault.into()),
        }
    };
    drop(turn);
    let policy = match policy {
        Some(written) => written.document().cloned(),
        None => plan.current.clone(),
    };
    let Some(mut begun) = begun else {
        return Ok(SyncOutcome::NoRepository);
    };
    let waits = begun.verdict == ContentionAction::Wait;
    let now = Instant::now();
    if !waits {
        begun.leave(memory, policy.as_ref(), world);
        second_writer::leave_policy(world, repository, policy.as_ref());
        memory
            .replacing
            .leave(Ours::default(), begun.replacing, now);
    }
    // A statement that is there again stays remembered, or it would count as new the next time.
    memory
        .replaced
        .retain(|sid| again.contains(sid) || !plan.kept.contains_key(sid));
    let is_contested = memory.contest.is_on(pause, now);
    if world
        .contested
        .note(repository, is_contested.then_some(&plan.foreign_sids))
    {
        world.look_at_account(&repository.account);
    }
    let contested = is_contested.then(|| membership::contested(repository, &plan));
    let mut standings = Standings::of(
        world,
        repository,
        &memory.search,
        &grants,
        plan,
        policy,
        waits,
    );
    let why = "somebody else puts it there again and again; find who calls ecr:SetRepositoryPolicy in CloudTrail";
    if begun.replacing == ContentionAction::Wait {
        standings
            .kept
            .extend(again.into_iter().map(|sid| (sid, why.to_owned())));
    }
    standings.replaced = memory.replaced.clone();
    standings.contested = contested;
    standings.put_back = begun.verdict == ContentionAction::PutBack;
    standings.changed = begun
        .wrote
        .then(|| change(repository, begun.before, standings.policy.as_deref()))
        .flatten();
    Ok(SyncOutcome::UpToDate(Box::new(standings)))
}

/// Writes a checked document. Repository policies are written nowhere else.
async fn write(
    account: &Account,
    repository: &RepositoryKey,
    write: &Checked,
) -> Result<(), AwsError> {
    let RepositoryKey {
        account: _,
        region,
        name,
    } = repository;
    match write.document() {
        Some(document) => account.set_repository_policy(region, name, document).await,
        None => account.delete_repository_policy(region, name).await,
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
    plan: &Plan<GrantName>,
) -> Option<Planned> {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    Planned::of_repository(account, region, name, plan.current.as_ref(), &plan.change)
}

pub(in crate::controller) fn planned(
    world: &World,
    repository: &RepositoryKey,
    current: Option<&str>,
    grants: &[GrantContribution<GrantName>],
) -> Result<Plan<GrantName>, Problem> {
    repository::plan(current, grants, &world.installation)
        .map_err(|error| membership::unreadable(repository, &error))
}

/// Syncs repositories again that were written lately, until a stop signal. A slow account does not
/// hold up the others.
pub async fn look_after(context: Arc<Context>) {
    let context = &*context;
    loop {
        tokio::select! {
            () = tokio::time::sleep(crate::controller::requeue::after_success(context.world.resync_interval)) => {}
            () = context.stop.clone() => return,
        }
        let mut by_account: BTreeMap<AccountId, Vec<RepositoryKey>> = BTreeMap::new();
        for repository in context
            .world
            .coalescer
            .to_look_after(context.world.resync_interval)
            .await
        {
            by_account
                .entry(repository.account.clone())
                .or_default()
                .push(repository);
        }
        let accounts = by_account
            .into_iter()
            .map(|(id, repositories)| look_again(context, id, repositories));
        futures::future::join_all(accounts).await;
    }
}

async fn look_again(context: &Context, id: AccountId, repositories: Vec<RepositoryKey>) {
    for repository in repositories {
        if context.stop.clone().now_or_never().is_some() {
            return;
        }
        let Some(known) = context.world.watch_caches.account(&id) else {
            return;
        };
        let looked = match context.world.aws.account(&id, &known.spec, None).await {
            Ok(account) => {
                bring_up_to_date(&context.world, &account, &repository, Freshness::Background).await
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = looked {
            tracing::warn!(reason = %problem.reason, "{repository} could not be looked at again: {}", problem.message);
        }
    }
}
