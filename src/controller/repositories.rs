//! A repository's policy, looked at and brought up to date: read, merged, written, with nothing awaited between. Who may do so, and when,
//! is decided in [`super::writers`].

use super::contest::{Contest, Verdict};
use super::{Context, World, observed, wanted};
use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::fault::{Class, Fault};
use crate::grant::plan::Change as Planned;
use crate::grant::{AccountId, Directory, GrantName, Problem};
use crate::policy::Document;
use crate::policy::repository::{self, Change, Ours, Plan, Wanted};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Who looks, and so how old what he learns may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A grant that is settled: a look no older than this is good enough, as long as the same is wanted.
    Settled(Duration),
    /// One that waits for its access, or for its end.
    Now,
    /// Who makes sure of what he has just written: there is nothing to gather.
    ReadBack,
    /// Looks again at what was written lately, for no grant in particular.
    After,
}

/// What came of bringing a repository's policy up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There is no such repository.
    NoRepository,
    /// The policy is as all grants on it want it, as far as that can be.
    UpToDate(Box<Standings>),
}

/// How a repository's policy stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Whom it grants access.
    pub granted: BTreeSet<GrantName>,
    /// Who did not fit.
    pub left_out: BTreeSet<GrantName>,
    /// Whose access was moved into statements that are not ours, as he asked.
    pub handed_over: BTreeSet<GrantName>,
    /// Its length, in characters.
    pub characters: usize,
    /// Other people's statements that ours have taken the place of since the start.
    pub replaced: BTreeSet<String>,
    /// Those that were to be replaced and were not, with the reason.
    pub kept: BTreeMap<String, String>,
    /// Who could not be let in, because AWS refuses a policy that names him.
    pub refused: BTreeMap<GrantName, Problem>,
    /// That somebody else undoes it again and again.
    pub contested: Option<Problem>,
    /// Whether this look put back what somebody had undone.
    pub put_back: bool,
    /// What this look has changed.
    pub changed: Option<Planned>,
    /// The policy as it is; `None` where there is none.
    pub policy: Option<Arc<Document>>,
}

pub type Outcome = Result<Written, Problem>;

/// What is remembered of a repository from look to look.
#[derive(Default)]
pub struct Memory {
    /// About our statements.
    contest: Contest,
    /// About other people's, which ours take the place of.
    replacing: Contest,
    replaced: BTreeSet<String>,
    pub written: Option<Instant>,
    /// Something was put back by a look that was no grant's: the next grant that looks tells it.
    untold: bool,
    /// Who was in the policy at the last look, and who was not for want of room.
    granted: BTreeSet<GrantName>,
    left_out: BTreeSet<GrantName>,
}

impl Written {
    /// The same for whoever is served by it without having looked himself.
    pub fn of_another(self) -> Self {
        match self {
            Self::UpToDate(standings) => {
                Self::UpToDate(Box::new(Standings { put_back: false, changed: None, ..*standings }))
            }
            Self::NoRepository => Self::NoRepository,
        }
    }
}

/// Makes a repository's policy what all grants together want.
pub async fn bring_up_to_date(world: &World, account: &Account, repository: &Repository, who: Look) -> Outcome {
    let wanted = || wanted::of(world, repository, None);
    let pass = async |memory: &mut Memory, wanted: &[Wanted<GrantName>]| {
        let _turn = world.turn_for_all(repository.account.as_str()).await;
        let mut looked = let_in(world, account, repository, memory, wanted).await;
        if let Ok(Written::UpToDate(standings)) = &mut looked {
            match who {
                Look::After => memory.untold |= standings.put_back,
                Look::Now | Look::ReadBack | Look::Settled(_) => {
                    standings.put_back |= std::mem::take(&mut memory.untold);
                }
            }
        }
        observed::policy(&world.metrics, repository, &looked);
        if let Ok(Written::UpToDate(standings)) = &looked {
            remember(world, memory, standings);
        }
        looked
    };
    world.writers.serve(repository, who, wanted, pass).await
}

/// Whose place has changed without his doing looks for himself: else he would go on saying what was.
fn remember(world: &World, memory: &mut Memory, Standings { granted, left_out, .. }: &Standings) {
    let pushed_out = memory.granted.intersection(left_out);
    let let_in = memory.left_out.intersection(granted);
    for name in pushed_out.chain(let_in) {
        world.nudge(name);
    }
    (memory.granted, memory.left_out) = (granted.clone(), left_out.clone());
}

/// Looks, with as many of the grants as AWS takes. It refuses a document whole for one principal that does not exist, and one grant's
/// mistake must not keep out the others, nor keep in what is to go: so those that were in before are tried by themselves, and the others in halves.
async fn let_in(
    world: &World,
    account: &Account,
    repository: &Repository,
    memory: &mut Memory,
    grants: &[Wanted<GrantName>],
) -> Outcome {
    let problem = match look(world, account, repository, memory, grants).await {
        Err(Refused { problem, by_principal: true }) => problem,
        other => return other.map_err(|refused| refused.problem),
    };
    let (mut taken, newcomers): (Vec<_>, Vec<_>) =
        grants.iter().cloned().partition(|grant| memory.granted.contains(&grant.id));
    if newcomers.is_empty() || (taken.is_empty() && newcomers.len() == 1) {
        return Err(problem);
    }
    let mut written = look(world, account, repository, memory, &taken).await.map_err(|refused| refused.problem)?;
    let mut refused = BTreeMap::new();
    let mut untried = vec![newcomers];
    while let Some(some) = untried.pop() {
        let with: Vec<_> =
            grants.iter().filter(|grant| taken.contains(grant) || some.contains(grant)).cloned().collect();
        match look(world, account, repository, memory, &with).await {
            Ok(looked) => (written, taken) = (looked, with),
            Err(Refused { problem, by_principal: true }) => match some.split_at(some.len() / 2) {
                ([], one) => refused.extend(one.iter().map(|grant| (grant.id.clone(), problem.clone()))),
                (one, other) => untried.extend([other.to_vec(), one.to_vec()]),
            },
            Err(Refused { problem, by_principal: false }) => return Err(problem),
        }
    }
    Ok(match written {
        Written::UpToDate(standings) => Written::UpToDate(Box::new(Standings { refused, ..*standings })),
        Written::NoRepository => Written::NoRepository,
    })
}

/// Why a look came to nothing.
struct Refused {
    problem: Problem,
    /// Whether it was that the document names a principal which AWS does not know.
    by_principal: bool,
}

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Self { problem: problem.into(), by_principal: false }
    }
}

async fn look(
    world: &World,
    account: &Account,
    repository: &Repository,
    memory: &mut Memory,
    grants: &[Wanted<GrantName>],
) -> Result<Written, Refused> {
    let Repository { account: _, region, name } = repository;
    // From here to the write nothing else is awaited: what others write in between is lost, and nobody could see it.
    let asked = Instant::now();
    let current = match account.repository_policy(region, name).await? {
        PolicyRead::NoRepository => return Ok(Written::NoRepository),
        PolicyRead::NoPolicy => None,
        PolicyRead::Policy(text) => Some(text),
    };
    let mut plan = planned(world, repository, current.as_deref(), grants)?;
    let pause = world.resync_interval;
    let again: BTreeSet<String> = plan.replaced.intersection(&memory.replaced).cloned().collect();
    let replacing =
        memory.replacing.judge(&Ours::default(), &Ours::default(), !again.is_empty(), pause, Instant::now());
    if replacing == Verdict::Wait {
        let mut without = grants.to_vec();
        without.iter_mut().for_each(|grant| grant.replaces.retain(|sid| !again.contains(sid)));
        plan = planned(world, repository, current.as_deref(), &without)?;
        let why = "somebody else puts it there again and again; find who calls ecr:SetRepositoryPolicy in CloudTrail";
        plan.kept.extend(again.iter().map(|sid| (sid.clone(), why.to_owned())));
    }
    let verdict = memory.contest.judge(&plan.found, &plan.wanted, false, pause, Instant::now());
    let waits = verdict == Verdict::Wait;
    let mut changed = None;
    if plan.change != Change::None && !waits {
        let permit = world.leadership.may_write()?;
        // Whatever becomes of the answer.
        memory.written = Some(Instant::now());
        match &plan.change {
            Change::None => {}
            Change::Set(document) => {
                let set = permit.carry(account.set_repository_policy(region, name, document)).await;
                set.map_err(|fault| refused(repository, &plan, fault))?;
                let window = asked.elapsed();
                world.metrics.write_window.observe(window.as_secs_f64());
                tracing::info!(account = %repository.account, region, repository = name, grants = grants.len(), characters = plan.characters, replaced = ?plan.replaced, ?window, "repository policy set");
            }
            Change::Delete => {
                permit.carry(account.delete_repository_policy(region, name)).await?;
                tracing::info!(account = %repository.account, region, repository = name, "repository policy deleted");
            }
        }
        changed = changes(repository, &plan);
    }
    let policy = match &plan.change {
        Change::Set(document) if !waits => Some(Arc::new(document.clone())),
        Change::Delete if !waits => None,
        Change::None | Change::Set(_) | Change::Delete => plan.current.clone().map(Arc::new),
    };
    let now = Instant::now();
    let stands = !waits || plan.found == plan.wanted;
    if !waits {
        memory.contest.leave(plan.wanted.clone(), verdict, now);
        memory.replacing.leave(Ours::default(), replacing, now);
        memory.replaced.extend(plan.replaced.iter().cloned());
    }
    // What is there again stays remembered, or it would be taken for new the next time.
    memory.replaced.retain(|sid| again.contains(sid) || !plan.kept.contains_key(sid));
    let contested = memory.contest.is_on(pause, now).then(|| contested(repository, &plan));
    let Plan { left_out, handed_over, characters, found_characters, kept, .. } = plan;
    let known = grants.iter().filter(|grant| !grant.contributions.is_empty()).map(|grant| grant.id.clone());
    let granted = known.filter(|id| stands && !left_out.contains(id)).collect();
    Ok(Written::UpToDate(Box::new(Standings {
        granted,
        left_out,
        handed_over: if waits { BTreeSet::new() } else { handed_over },
        characters: if waits { found_characters } else { characters },
        replaced: memory.replaced.clone(),
        kept,
        refused: BTreeMap::new(),
        contested,
        put_back: verdict == Verdict::PutBack,
        changed,
        policy,
    })))
}

pub(super) fn changes(repository: &Repository, plan: &Plan<GrantName>) -> Option<Planned> {
    let Repository { account, region, name } = repository;
    Planned::of_repository(account, region, name, plan.current.as_ref(), &plan.change)
}

pub(super) fn planned(
    world: &World,
    repository: &Repository,
    current: Option<&str>,
    grants: &[Wanted<GrantName>],
) -> Result<Plan<GrantName>, Problem> {
    repository::plan(current, grants, &world.installation).map_err(|error| {
        let told = format!("the policy of {repository} cannot be read ({error}); it is left alone. Correct it in ECR");
        Problem::new(Reason::UnreadablePolicy, told)
    })
}

/// Looks again at repositories that were written lately, until the operator is told to stop.
pub async fn look_after(context: Arc<Context>) {
    let stopping = || context.stop.clone().now_or_never().is_some();
    loop {
        tokio::select! {
            () = tokio::time::sleep(super::requeue::after_success(context.world.resync_interval)) => {}
            () = context.stop.clone() => return,
        }
        for repository in context.world.writers.to_look_after(context.world.resync_interval).await {
            if stopping() {
                return;
            }
            let Some(known) = context.world.directory.account(&repository.account) else { continue };
            let looked = match context.world.aws.account(&repository.account, &known.spec, None).await {
                Ok(account) => bring_up_to_date(&context.world, &account, &repository, Look::After).await,
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

/// A write was refused. If somebody else's statement names a principal that is gone, that is why: ECR checks the whole document, and
/// has more than one text for it.
fn refused(repository: &Repository, plan: &Plan<GrantName>, fault: Fault) -> Refused {
    let by_document = fault.class == Class::Settling || fault.code == "InvalidParameterException";
    match plan.gone.first() {
        Some((statement, id)) if by_document => Refused {
            problem: Problem::new(
                Reason::BlockedPolicy,
                format!(
                    "the policy of {repository} cannot be written, because {statement}, which is not this operator's, names {id}, a principal that was deleted: ECR refuses the whole document. Take that principal or that statement out, in ECR ({fault})"
                ),
            ),
            by_principal: false,
        },
        Some(_) | None => Refused { by_principal: by_document, problem: fault.into() },
    }
}
