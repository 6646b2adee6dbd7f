//! One writer per repository. A repository policy is one document without a version, so two of our
//! own reconciles must never write it at once. One sync serves all callers that wait: a hundred
//! grants on one repository cost a few reads and writes, not a hundred.

use crate::controller::state::policy_memory::PolicyMemory;
use crate::controller::state::repository::{Freshness, RepositoryKey, SyncOutcome, SyncResult};
use crate::controller::state::second_writers::OwnAccess;
use crate::grant::{Contributor, Problem};
use crate::policy::repository::GrantContribution;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long further contributions are gathered into one write after a repository was written. A
/// single grant never waits. The time doubles with each write of a rush, so that a rush costs few
/// writes however fast the cluster delivers the grants.
const GATHER: Duration = Duration::from_millis(700);
const LONGEST_GATHER: Duration = Duration::from_secs(6);
/// A write so soon after another one belongs to the same rush.
const RUSH: Duration = Duration::from_secs(3);
/// How long after a write a repository is synced again even if no grant asks: somebody who had read
/// the policy before may write it back, and so restore access that we revoked.
const LOOKED_AFTER: Duration = Duration::from_secs(3600);

/// Writers of all repositories.
#[derive(Default)]
pub struct Coalescer(Mutex<HashMap<RepositoryKey, Arc<Slot>>>, RandomState);

/// Writer of one repository. Each caller takes a ticket, and a sync that begins after a ticket was
/// taken serves it.
#[derive(Default)]
struct Slot {
    tickets: AtomicU64,
    /// When the policy was last read successfully.
    read: Mutex<Option<Instant>>,
    own: Mutex<OwnAccess>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Pass>,
    memory: PolicyMemory,
    /// The number of writes in the rush that the last write belongs to.
    rush: u32,
}

impl State {
    fn in_a_rush(&self) -> bool {
        self.memory
            .written
            .is_some_and(|written| written.elapsed() < RUSH)
    }
}

/// Returns how long contributions are gathered after so many writes in a row.
fn gather_after(writes: u32) -> Duration {
    let doubled = writes.saturating_sub(1).min(16);
    GATHER
        .saturating_mul(2_u32.pow(doubled))
        .min(LONGEST_GATHER)
}

/// A sync of the policy, and its outcome.
struct Pass {
    serves_to: u64,
    ended: Instant,
    /// A hash of the contributions: with hundreds of grants on thousands of repositories the
    /// documents themselves take hundreds of megabytes.
    wanted: Option<u64>,
    outcome: SyncResult,
}

/// Writer that hashes a text as it is formatted.
struct Hashing<'a, H>(&'a mut H);

impl<H: Hasher> fmt::Write for Hashing<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Coalescer {
    fn slot(&self, key: &RepositoryKey) -> Arc<Slot> {
        self.0
            .lock()
            .expect("no panic while held")
            .entry(key.clone())
            .or_default()
            .clone()
    }

    /// Returns whether the repository policy was read successfully within this time.
    pub fn was_read(&self, key: &RepositoryKey, within: Duration) -> bool {
        let read = *self.slot(key).read.lock().expect("no panic while held");
        read.is_some_and(|read| read.elapsed() < within)
    }

    /// Passes the access that is this process' own in the repository policy to `look`.
    pub fn own_access<R>(&self, key: &RepositoryKey, look: impl FnOnce(&mut OwnAccess) -> R) -> R {
        look(&mut self.slot(key).own.lock().expect("no panic while held"))
    }

    /// Notes that the repository policy was just read.
    pub fn note_read(&self, key: &RepositoryKey) {
        *self.slot(key).read.lock().expect("no panic while held") = Some(Instant::now());
    }

    /// Computes a hash that nobody outside can foresee, because contributions contain tenants'
    /// text.
    fn hash(&self, wanted: &[GrantContribution<Contributor>]) -> Option<u64> {
        let mut hasher = self.1.build_hasher();
        fmt::Write::write_fmt(&mut Hashing(&mut hasher), format_args!("{wanted:?}")).ok()?;
        Some(hasher.finish())
    }

    /// Syncs the policy with `pass`, or returns the result of a sync that began after this call, or
    /// of one that is recent enough for `who` and had the same contributions. A shared result never
    /// reports drift: only the caller that ran the sync does.
    pub async fn serve(
        &self,
        key: &RepositoryKey,
        who: Freshness,
        wanted: impl Fn() -> Result<Vec<GrantContribution<Contributor>>, Problem>,
        pass: impl AsyncFnOnce(&mut PolicyMemory, &[GrantContribution<Contributor>]) -> SyncResult,
    ) -> SyncResult {
        let slot = self.slot(key);
        let ticket = slot.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut state = slot.state.lock().await;
        if let Some(last) = &state.last {
            let the_same = |last: &Pass| {
                let unchanged =
                    |wanted: Vec<GrantContribution<Contributor>>| self.hash(&wanted) == last.wanted;
                last.outcome.is_ok() && last.wanted.is_some() && wanted().is_ok_and(unchanged)
            };
            let good_enough = match who {
                Freshness::MaxAge(fresh) => last.ended.elapsed() < fresh && the_same(last),
                Freshness::Fresh | Freshness::VerifyWrite | Freshness::Background => false,
            };
            if last.serves_to >= ticket || good_enough {
                tracing::trace!(ticket, serves_to = last.serves_to, "served by another pass");
                return last.outcome.clone().map(SyncOutcome::of_another);
            }
        }
        let (in_a_rush, before) = (state.in_a_rush(), state.memory.written);
        if in_a_rush && who != Freshness::VerifyWrite {
            tokio::time::sleep(gather_after(state.rush)).await;
        }
        let serves_to = slot.tickets.load(Ordering::SeqCst);
        let (wanted, outcome) = match wanted() {
            Ok(wanted) => {
                let outcome = pass(&mut state.memory, &wanted).await;
                (self.hash(&wanted), outcome)
            }
            Err(problem) => (None, Err(problem)),
        };
        if matches!(outcome, Ok(SyncOutcome::UpToDate(_))) {
            *slot.read.lock().expect("no panic while held") = Some(Instant::now());
        }
        if state.memory.written != before {
            state.rush = if in_a_rush {
                state.rush.saturating_add(1)
            } else {
                1
            };
        }
        state.last = Some(Pass {
            serves_to,
            ended: Instant::now(),
            wanted,
            outcome: outcome.clone(),
        });
        outcome
    }

    /// Notes that an earlier process wrote a repository at this time, unless it was written since.
    pub async fn note_written(&self, key: &RepositoryKey, at: Instant) {
        self.slot(key)
            .state
            .lock()
            .await
            .memory
            .written
            .get_or_insert(at);
    }

    /// Returns the repositories that were written lately and were not synced for this long. Forgets
    /// entries that are no longer needed.
    pub async fn to_look_after(&self, unseen: Duration) -> Vec<RepositoryKey> {
        let slots: Vec<(RepositoryKey, Arc<Slot>)> = {
            let slots = self.0.lock().expect("no panic while held");
            slots
                .iter()
                .map(|(key, slot)| (key.clone(), slot.clone()))
                .collect()
        };
        let (mut found, mut idle) = (Vec::new(), Vec::new());
        for (key, slot) in slots {
            // A repository that is being synced needs no other sync.
            let Ok(state) = slot.state.try_lock() else {
                continue;
            };
            let since = state
                .last
                .as_ref()
                .map_or(Duration::MAX, |last| last.ended.elapsed());
            let written = state
                .memory
                .written
                .is_some_and(|written| written.elapsed() < LOOKED_AFTER);
            match (written, since > unseen) {
                (true, true) => found.push(key),
                (false, _) if since > LOOKED_AFTER => idle.push(key),
                (_, _) => {}
            }
        }
        let mut slots = self.0.lock().expect("no panic while held");
        for key in idle {
            // Another caller may have got hold of the slot in between.
            if slots
                .get(&key)
                .is_some_and(|slot| Arc::strong_count(slot) == 1)
            {
                slots.remove(&key);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Reason;
    use crate::grant::GrantName;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicUsize;

    async fn ask(coalescer: &Coalescer, who: Freshness, passes: &AtomicUsize) -> SyncResult {
        let pass = async |_: &mut PolicyMemory, _: &[GrantContribution<Contributor>]| {
            passes.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(SyncOutcome::NoRepository)
        };
        coalescer
            .serve(&RepositoryKey::example(), who, || Ok(Vec::new()), pass)
            .await
    }

    #[tokio::test]
    async fn many_callers_of_a_repository_share_few_syncs() {
        let (coalescer, passes) = (Coalescer::default(), AtomicUsize::new(0));
        let outcomes =
            futures::future::join_all((0..100).map(|_| ask(&coalescer, Freshness::Fresh, &passes)))
                .await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Ok(SyncOutcome::NoRepository))
        );
        assert!(passes.load(Ordering::SeqCst) <= 2, "{passes:?}");
    }

    #[tokio::test]
    async fn later_caller_is_not_served_by_an_earlier_read() {
        let (coalescer, passes) = (Coalescer::default(), AtomicUsize::new(0));
        for _ in 0..3 {
            ask(&coalescer, Freshness::Fresh, &passes).await.unwrap();
        }
        assert_eq!(passes.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn recent_sync_serves_callers_with_the_same_contributions() {
        let (coalescer, passes) = (Coalescer::default(), AtomicUsize::new(0));
        let hour = Freshness::MaxAge(Duration::from_secs(3600));
        for _ in 0..3 {
            ask(&coalescer, hour, &passes).await.unwrap();
        }
        assert_eq!(passes.load(Ordering::SeqCst), 1);
        let name = Contributor::Grant(GrantName {
            namespace: "n".into(),
            name: "g".into(),
        });
        let more = || {
            Ok(vec![GrantContribution {
                id: name.clone(),
                contributions: Vec::new(),
                replaces: BTreeSet::new(),
                stays_as: None,
                if_there: Vec::new(),
            }])
        };
        let pass = async |_: &mut PolicyMemory, _: &[GrantContribution<Contributor>]| {
            Ok(SyncOutcome::UpToDate(Box::default()))
        };
        assert_eq!(
            coalescer
                .serve(&RepositoryKey::example(), hour, more, pass)
                .await,
            Ok(SyncOutcome::UpToDate(Box::default()))
        );
    }

    #[test]
    fn slow_rush_causes_few_writes() {
        let (mut writes, mut waited) = (1, Duration::ZERO);
        while waited < Duration::from_secs(90) {
            waited += gather_after(writes);
            writes += 1;
        }
        assert!(writes <= 20, "{writes}");
        assert_eq!(gather_after(1), GATHER);
    }

    #[tokio::test]
    async fn failed_sync_serves_no_later_caller() {
        let (coalescer, passes) = (Coalescer::default(), AtomicUsize::new(0));
        let failing = async |_: &mut PolicyMemory, _: &[GrantContribution<Contributor>]| {
            Err(Problem::new(Reason::Unavailable, ""))
        };
        let _ = coalescer
            .serve(
                &RepositoryKey::example(),
                Freshness::Fresh,
                || Ok(Vec::new()),
                failing,
            )
            .await;
        ask(
            &coalescer,
            Freshness::MaxAge(Duration::from_secs(3600)),
            &passes,
        )
        .await
        .unwrap();
        assert_eq!(passes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    #[ignore = "a measurement: cargo test --lib -- --ignored --nocapture memory_of_a_thousand"]
    async fn memory_of_a_thousand_repositories_with_200_grants_each() {
        use crate::controller::state::repository::Standings;
        use crate::policy::principals::PrincipalSet;
        use crate::policy::repository::Contribution;
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let coalescer = Coalescer::default();
        let name = |number: usize| {
            Contributor::Grant(GrantName {
                namespace: format!("team-{number}"),
                name: format!("grant-{number}"),
            })
        };
        let wanted = || {
            let of = |number: usize| GrantContribution {
                id: name(number),
                contributions: vec![Contribution {
                    actions: crate::grant::actions::of(crate::api::grant::Access::PullPush),
                    callers: PrincipalSet::named([format!(
                        "arn:aws:iam::{:012}:root",
                        200_000_000_000_usize + number
                    )]),
                }],
                replaces: BTreeSet::new(),
                stays_as: None,
                if_there: Vec::new(),
            };
            Ok((0..200).map(of).collect())
        };
        let before = resident();
        for number in 0..1_000 {
            let key = RepositoryKey {
                name: format!("app-{number}"),
                ..RepositoryKey::example()
            };
            let pass = async |_: &mut PolicyMemory, _: &[GrantContribution<Contributor>]| {
                let granted = (0..200).map(name).collect();
                Ok(SyncOutcome::UpToDate(Box::new(Standings {
                    granted,
                    ..Standings::default()
                })))
            };
            coalescer
                .serve(&key, Freshness::Fresh, wanted, pass)
                .await
                .unwrap();
        }
        eprintln!("{} bytes a grant", (resident() - before) / 200_000);
    }

    #[tokio::test]
    async fn recently_written_policy_is_synced_without_a_caller() {
        let (coalescer, passes) = (Coalescer::default(), AtomicUsize::new(0));
        ask(&coalescer, Freshness::Fresh, &passes).await.unwrap();
        assert!(
            coalescer.to_look_after(Duration::ZERO).await.is_empty(),
            "nothing was written"
        );
        let writing = async |memory: &mut PolicyMemory, _: &[GrantContribution<Contributor>]| {
            memory.written = Some(Instant::now());
            Ok(SyncOutcome::NoRepository)
        };
        coalescer
            .serve(
                &RepositoryKey::example(),
                Freshness::VerifyWrite,
                || Ok(Vec::new()),
                writing,
            )
            .await
            .unwrap();
        assert_eq!(
            coalescer.to_look_after(Duration::ZERO).await,
            [RepositoryKey::example()]
        );
        assert!(
            coalescer
                .to_look_after(Duration::from_secs(3600))
                .await
                .is_empty(),
            "it was seen just now"
        );
    }
}
