//! One writer per repository. A repository's policy is one document without version, so that two of our own reconciliations must
//! never write it at once; and what one of them writes serves all that were waiting: a hundred grants on one
//! repository cost a few reads and writes, not a hundred.

use super::contest::{Contest, Verdict};
use super::{Context, wanted};
use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::fault::{Class, Fault};
use crate::grant::{AccountId, Directory, GrantName, Problem};
use crate::policy::repository::{self, Change, Plan, Wanted};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A repository that was just looked at has more to come: how long what comes is gathered into one write. A grant by itself never waits.
const GATHER: Duration = Duration::from_millis(200);
/// How soon after a look another one is of the same rush.
const RUSH: Duration = Duration::from_secs(1);
/// For how long after a write a repository is looked at again even if no grant asks: somebody who had read the policy before may write what he
/// read, and so bring back what we took out.
const LOOKED_AFTER: Duration = Duration::from_secs(3600);
/// The first of the pauses between our writes to a policy that somebody else keeps undoing.
const CONTEST_PAUSE: Duration = Duration::from_secs(60);

/// Which repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    pub account: AccountId,
    pub region: String,
    pub name: String,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, region, name } = self;
        write!(f, "repository {name} in account {account}, {region}")
    }
}

/// What came of bringing a repository's policy up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There is no such repository.
    NoRepository,
    /// The policy is as all grants on it want it, as far as that can be.
    UpToDate(Standings),
}

/// How a repository's policy stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Whom it grants access.
    pub granted: BTreeSet<GrantName>,
    /// Who did not fit.
    pub left_out: BTreeSet<GrantName>,
    /// Its length, in characters.
    pub characters: usize,
    /// Other people's statements that ours have taken the place of since the start.
    pub replaced: BTreeSet<String>,
    /// Those that were to be replaced and were not, with the reason.
    pub kept: BTreeMap<String, String>,
    /// That somebody else undoes it again and again.
    pub contested: Option<Problem>,
    /// Whether this look put back what somebody had undone.
    pub put_back: bool,
}

type Outcome = Result<Written, Problem>;

/// The writers of all repositories.
#[derive(Default)]
pub struct Writers(Mutex<HashMap<Repository, Arc<Slot>>>);

/// One repository's writer. Who comes takes a ticket; a pass that begins after a ticket was taken serves it.
#[derive(Default)]
struct Slot {
    tickets: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Pass>,
    memory: Memory,
}

/// A look at the policy, and what came of it.
struct Pass {
    serves_to: u64,
    ended: Instant,
    wanted: Vec<Wanted<GrantName>>,
    outcome: Outcome,
}

/// What is remembered of a repository from look to look.
#[derive(Default)]
struct Memory {
    contest: Contest,
    replaced: BTreeSet<String>,
    written: Option<Instant>,
}

impl Writers {
    fn slot(&self, key: &Repository) -> Arc<Slot> {
        self.0.lock().expect("no panic while held").entry(key.clone()).or_default().clone()
    }

    /// Runs `pass` on what is `wanted`, unless one that began after this call serves it, too, or one that is no older than `fresh` wanted
    /// just the same. (Whoever is served by another's pass has put nothing back himself.)
    async fn serve(
        &self,
        key: &Repository,
        fresh: Duration,
        wanted: impl Fn() -> Result<Vec<Wanted<GrantName>>, Problem>,
        pass: impl AsyncFnOnce(&mut Memory, &[Wanted<GrantName>]) -> Outcome,
    ) -> Outcome {
        let slot = self.slot(key);
        let ticket = slot.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut state = slot.state.lock().await;
        if let Some(last) = &state.last {
            let the_same = |last: &Pass| wanted().is_ok_and(|wanted| wanted == last.wanted);
            if last.serves_to >= ticket || (last.ended.elapsed() < fresh && last.outcome.is_ok() && the_same(last)) {
                tracing::trace!(ticket, serves_to = last.serves_to, "served by another pass");
                return last.outcome.clone().map(Written::of_another);
            }
            if last.ended.elapsed() < RUSH {
                tokio::time::sleep(GATHER).await;
            }
        }
        let serves_to = slot.tickets.load(Ordering::SeqCst);
        let (wanted, outcome) = match wanted() {
            Ok(wanted) => {
                let outcome = pass(&mut state.memory, &wanted).await;
                (wanted, outcome)
            }
            Err(problem) => (Vec::new(), Err(problem)),
        };
        state.last = Some(Pass { serves_to, ended: Instant::now(), wanted, outcome: outcome.clone() });
        outcome
    }

    /// The repositories that were written lately and that nobody has looked at for this long. What is of no use any more is forgotten.
    async fn to_look_after(&self, unseen: Duration) -> Vec<Repository> {
        let slots: Vec<(Repository, Arc<Slot>)> = {
            let slots = self.0.lock().expect("no panic while held");
            slots.iter().map(|(key, slot)| (key.clone(), slot.clone())).collect()
        };
        let (mut found, mut idle) = (Vec::new(), Vec::new());
        for (key, slot) in slots {
            // One that is being looked at needs nobody else.
            let Ok(state) = slot.state.try_lock() else { continue };
            let since = state.last.as_ref().map_or(Duration::MAX, |last| last.ended.elapsed());
            let written = state.memory.written.is_some_and(|written| written.elapsed() < LOOKED_AFTER);
            match (written, since > unseen) {
                (true, true) => found.push(key),
                (false, _) if since > LOOKED_AFTER => idle.push(key),
                (_, _) => {}
            }
        }
        let mut slots = self.0.lock().expect("no panic while held");
        for key in idle {
            // Somebody who holds it has come in between.
            if slots.get(&key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
                slots.remove(&key);
            }
        }
        found
    }
}

impl Written {
    fn of_another(self) -> Self {
        match self {
            Self::UpToDate(standings) => Self::UpToDate(Standings { put_back: false, ..standings }),
            Self::NoRepository => Self::NoRepository,
        }
    }
}

/// Makes a repository's policy what all grants together want. A look that is no older than `fresh` is good enough, as long as the same is
/// wanted; zero: it is read now.
pub async fn bring_up_to_date(
    context: &Context,
    account: &Account,
    repository: &Repository,
    fresh: Duration,
) -> Outcome {
    let wanted = || wanted::of(context, repository);
    let pass = async |memory: &mut Memory, wanted: &[Wanted<GrantName>]| {
        look(context, account, repository, memory, wanted).await
    };
    context.writers.serve(repository, fresh, wanted, pass).await
}

async fn look(
    context: &Context,
    account: &Account,
    repository: &Repository,
    memory: &mut Memory,
    grants: &[Wanted<GrantName>],
) -> Outcome {
    let Repository { account: _, region, name } = repository;
    // From here to the write nothing else is awaited: what others write in between is lost, and nobody could see it.
    let current = match account.repository_policy(region, name).await? {
        PolicyRead::NoRepository => return Ok(Written::NoRepository),
        PolicyRead::NoPolicy => None,
        PolicyRead::Policy(text) => Some(text),
    };
    let read = Instant::now();
    let planned = repository::plan(current.as_deref(), grants, &context.installation);
    let plan = planned.map_err(|error| {
        let told = format!("the policy of {repository} cannot be read ({error}); it is left alone. Correct it in ECR");
        Problem::new(Reason::UnreadablePolicy, told)
    })?;
    let again = plan.replaced.iter().any(|sid| memory.replaced.contains(sid));
    let pause = CONTEST_PAUSE.min(context.resync_interval);
    let verdict = memory.contest.judge(&plan.found, &plan.wanted, again, pause, Instant::now());
    if verdict == Verdict::Wait {
        let standings =
            Standings { kept: plan.kept.clone(), replaced: memory.replaced.clone(), ..Standings::default() };
        return Ok(Written::UpToDate(Standings { contested: Some(contested(repository, &plan)), ..standings }));
    }
    if plan.change != Change::None {
        context.leadership.may_write()?;
    }
    let window = read.elapsed();
    match &plan.change {
        Change::None => {}
        Change::Set(document) => {
            let set = account.set_repository_policy(region, name, document).await;
            set.map_err(|fault| blocked(repository, &plan, fault))?;
            tracing::info!(account = %repository.account, region, repository = name, grants = grants.len(), characters = plan.characters, replaced = ?plan.replaced, ?window, "repository policy set");
        }
        Change::Delete => {
            account.delete_repository_policy(region, name).await?;
            tracing::info!(account = %repository.account, region, repository = name, "repository policy deleted");
        }
    }
    let now = Instant::now();
    if plan.change != Change::None {
        memory.written = Some(now);
    }
    memory.contest.leave(plan.wanted.clone(), verdict, now);
    memory.replaced.extend(plan.replaced.iter().cloned());
    let contested = memory.contest.is_on(verdict).then(|| contested(repository, &plan));
    let granted = grants.iter().map(|grant| grant.id.clone()).filter(|id| !plan.left_out.contains(id)).collect();
    let Plan { left_out, characters, kept, .. } = plan;
    let put_back = verdict == Verdict::PutBack;
    let replaced = memory.replaced.clone();
    Ok(Written::UpToDate(Standings { granted, left_out, characters, replaced, kept, contested, put_back }))
}

/// Looks again at repositories that were written lately, until the operator is told to stop.
pub async fn look_after(context: Arc<Context>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(super::requeue::after_success(context.resync_interval)) => {}
            () = context.stop.clone() => return,
        }
        for repository in context.writers.to_look_after(context.resync_interval).await {
            let Some(known) = context.directory.account(&repository.account) else { continue };
            let looked = match context.aws.account(&repository.account, &known.spec).await {
                Ok(account) => bring_up_to_date(&context, &account, &repository, Duration::ZERO).await,
                Err(problem) => Err(problem),
            };
            if let Err(problem) = looked {
                tracing::warn!(reason = %problem.reason, "{repository} could not be looked at again: {}", problem.message);
            }
        }
    }
}

fn contested(repository: &Repository, plan: &Plan<GrantName>) -> Problem {
    let others: Vec<String> = plan.foreign_sids.iter().take(10).map(|sid| format!("`{sid}`")).collect();
    let others = if others.is_empty() { "no other statements with a Sid".into() } else { others.join(", ") };
    Problem::new(
        Reason::ContestedPolicy,
        format!(
            "somebody else keeps replacing the policy of {repository}, and with it undoes what is granted here; beside this operator's statements it has {others}. Find who calls ecr:SetRepositoryPolicy there in CloudTrail (a Terraform aws_ecr_repository_policy, a stack, another controller), and let it keep the statements whose Sid begins with RegistryGrants. Until then this operator puts them back ever more rarely"
        ),
    )
}

/// A write was refused. If somebody else's statement names a principal that is gone, that is why: ECR checks the whole document.
fn blocked(repository: &Repository, plan: &Plan<GrantName>, fault: Fault) -> Problem {
    match plan.gone.first() {
        Some((statement, id)) if fault.class == Class::Settling => Problem::new(
            Reason::BlockedPolicy,
            format!(
                "the policy of {repository} cannot be written, because {statement}, which is not this operator's, names {id}, a principal that was deleted: ECR refuses the whole document. Take that principal or that statement out, in ECR ({fault})"
            ),
        ),
        Some(_) | None => fault.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn key() -> Repository {
        Repository { account: "111111111111".parse().unwrap(), region: "us-east-1".into(), name: "r".into() }
    }

    async fn ask(writers: &Writers, fresh: Duration, passes: &AtomicUsize) -> Outcome {
        let pass = async |_: &mut Memory, _: &[Wanted<GrantName>]| {
            passes.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Written::NoRepository)
        };
        writers.serve(&key(), fresh, || Ok(Vec::new()), pass).await
    }

    #[tokio::test]
    async fn many_who_wait_for_one_repository_are_served_by_few_passes() {
        let (writers, passes) = (Writers::default(), AtomicUsize::new(0));
        let outcomes = futures::future::join_all((0..100).map(|_| ask(&writers, Duration::ZERO, &passes))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(Written::NoRepository)));
        assert!(passes.load(Ordering::SeqCst) <= 2, "{passes:?}");
    }

    #[tokio::test]
    async fn who_comes_later_is_not_served_by_what_was_read_before() {
        let (writers, passes) = (Writers::default(), AtomicUsize::new(0));
        for _ in 0..3 {
            ask(&writers, Duration::ZERO, &passes).await.unwrap();
        }
        assert_eq!(passes.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_is_content_with_a_recent_look_is_served_by_it_as_long_as_the_same_is_wanted() {
        let (writers, passes) = (Writers::default(), AtomicUsize::new(0));
        let hour = Duration::from_secs(3600);
        for _ in 0..3 {
            ask(&writers, hour, &passes).await.unwrap();
        }
        assert_eq!(passes.load(Ordering::SeqCst), 1);
        let name = GrantName { namespace: "n".into(), name: "g".into() };
        let more = || Ok(vec![Wanted { id: name.clone(), contributions: Vec::new(), replaces: BTreeSet::new() }]);
        let pass = async |_: &mut Memory, _: &[Wanted<GrantName>]| Ok(Written::UpToDate(Standings::default()));
        assert_eq!(writers.serve(&key(), hour, more, pass).await, Ok(Written::UpToDate(Standings::default())));
    }

    #[tokio::test]
    async fn a_failed_look_serves_nobody_who_comes_later() {
        let (writers, passes) = (Writers::default(), AtomicUsize::new(0));
        let failing = async |_: &mut Memory, _: &[Wanted<GrantName>]| Err(Problem::new(Reason::Unavailable, ""));
        let _ = writers.serve(&key(), Duration::ZERO, || Ok(Vec::new()), failing).await;
        ask(&writers, Duration::from_secs(3600), &passes).await.unwrap();
        assert_eq!(passes.load(Ordering::SeqCst), 1);
    }
}
