//! Computes when the next reconcile is due: after the resync interval if all is well, else after a
//! pause that grows. No state causes a hot loop. Also limits the reconciles that annotations
//! request, and the restarts of a broken watch.

use crate::api::conditions::Reason;
use crate::clock::Random;
use crate::grant::Problem;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_secs(1);

/// Result of a reconcile, and the time until the next one is due. `None`: only a change triggers
/// it.
pub struct Ended {
    pub result: &'static str,
    pub again: Option<Duration>,
}

impl Ended {
    /// Returns the result for a grant that is in place, or has nothing to enforce.
    pub fn ready(again: Duration) -> Self {
        Self {
            result: "ready",
            again: Some(again),
        }
    }

    /// Returns the result for a grant with a problem.
    pub fn not_ready(again: Duration) -> Self {
        Self {
            result: "not_ready",
            again: Some(again),
        }
    }

    /// Returns the result for a suspended grant.
    pub fn suspended(again: Duration) -> Self {
        Self {
            result: "suspended",
            again: Some(again),
        }
    }

    /// Returns the result for a grant of which nothing is left.
    pub fn gone() -> Self {
        Self {
            result: "gone",
            again: None,
        }
    }
}

/// Number of consecutive failures of each resource, by UID. A new generation resets it.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, (Option<i64>, u32)>>);

impl Backoff {
    /// Counts one more failure, and returns the number of failures before it.
    pub fn failed(&self, uid: &str, generation: Option<i64>) -> u32 {
        let mut failures = self.0.lock().expect("no panic while held");
        let (of, count) = failures.entry(uid.to_owned()).or_default();
        if *of != generation {
            (*of, *count) = (generation, 0);
        }
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    /// Returns the number of consecutive failures.
    pub fn count(&self, uid: &str) -> u32 {
        self.0
            .lock()
            .expect("no panic while held")
            .get(uid)
            .map_or(0, |(_, count)| *count)
    }

    /// Resets the count.
    pub fn reset(&self, uid: &str) {
        self.0.lock().expect("no panic while held").remove(uid);
    }
}

/// Number of reconciles in a row that the annotations and the finalizer of one grant may trigger,
/// and the interval between further ones.
const ASKED_AT_ONCE: u32 = 6;
const ASKED_EVERY: Duration = Duration::from_secs(30);

/// Cause of a grant's reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The generation, which changes with the spec and with a deletion.
    pub generation: Option<i64>,
    /// Whether access must be revoked, because of the spec or of the accounts' rules.
    pub revokes: bool,
    /// Hash of all triggers, which include the annotations and the loss of the finalizer.
    pub all: Option<u64>,
}

/// Limit for reconciles that are triggered by anything but a change, for each grant by its UID. A
/// requested reconcile reads everything from AWS again. A grant that is annotated all the time, or
/// whose deletion cannot end and is requested again and again, would use up the calls of its
/// accounts.
#[derive(Default)]
pub struct ReconcileLimiter(Mutex<HashMap<String, Begun>>);

struct Begun {
    cause: Cause,
    at: Instant,
    /// The end of the time that requested reconciles have used up; each takes its share.
    taken_until: Instant,
}

impl ReconcileLimiter {
    /// Admits a reconcile, or returns how long it has to wait.
    pub fn may_begin(&self, uid: &str, cause: Cause) -> Result<(), Duration> {
        let now = Instant::now();
        let mut asked = self.0.lock().expect("no panic while held");
        // Requests that are less frequent need no limit.
        asked.retain(|_, begun| begun.taken_until > now || begun.at + ASKED_EVERY > now);
        let before = asked.get(uid);
        let taken_until = before.map_or(now, |begun| begun.taken_until.max(now));
        // An unchanged cause is a resync, or a retry.
        let Cause {
            generation,
            revokes,
            all,
        } = cause;
        let is_asked_for = before.is_some_and(|Begun { cause: before, .. }| {
            (before.generation, before.revokes) == (generation, revokes) && before.all != all
        });
        if !is_asked_for {
            asked.insert(
                uid.to_owned(),
                Begun {
                    cause,
                    at: now,
                    taken_until,
                },
            );
            return Ok(());
        }
        let ahead = (taken_until + ASKED_EVERY).saturating_duration_since(now);
        match ahead.checked_sub(ASKED_EVERY * ASKED_AT_ONCE) {
            Some(wait) if !wait.is_zero() => Err(wait),
            Some(_) | None => {
                asked.insert(
                    uid.to_owned(),
                    Begun {
                        cause,
                        at: now,
                        taken_until: taken_until + ASKED_EVERY,
                    },
                );
                Ok(())
            }
        }
    }
}

/// The longest pause between two attempts to restart a watch. Edits are noticed within twice this
/// time once the API server is back.
pub const LONGEST_RECONNECT: Duration = Duration::from_secs(4);
const FIRST_RECONNECT: Duration = Duration::from_millis(250);
/// After so long without a failure, the next one counts as the first.
const RECONNECTED_FOR: Duration = Duration::from_secs(60);

/// Pauses of a watch that cannot be started. They are reset by a time without failures, and not by
/// an event, for every failed list begins with one.
pub struct Reconnect {
    random: Random,
    failures: u32,
    last: Option<Instant>,
}

impl Reconnect {
    pub fn new(random: Random) -> Self {
        Self {
            random,
            failures: 0,
            last: None,
        }
    }
}

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self
            .last
            .is_none_or(|last| last.elapsed() > RECONNECTED_FOR)
        {
            self.failures = 0;
        }
        let grown = FIRST_RECONNECT.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        (self.failures, self.last) = (self.failures.saturating_add(1), Some(Instant::now()));
        Some(self.random.jitter(grown.min(LONGEST_RECONNECT), 0.5, 1.0))
    }
}

impl kube::runtime::utils::Backoff for Reconnect {
    fn reset(&mut self) {}
}

/// No pause. A controller merges watches, and each of them has its own pauses. A pause of the
/// merged stream would hold up the watches that work.
pub struct NoPause;

impl Iterator for NoPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl kube::runtime::utils::Backoff for NoPause {
    fn reset(&mut self) {}
}

/// Returns the longest pause after a failure with this reason.
fn longest(reason: Reason) -> Duration {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    match reason {
        Reason::Settling => minutes(2),
        Reason::Throttled
        | Reason::Unavailable
        | Reason::HostNotResolved
        | Reason::CredentialsUnavailable => minutes(5),
        Reason::AccessDenied
        | Reason::RegionNotEnabled
        | Reason::RegionNotFound
        | Reason::RepositoryNotFound
        | Reason::RoleNotFound
        | Reason::ConsentMissing
        | Reason::WrongAccount
        | Reason::AccountNotFound
        | Reason::PathDenied
        | Reason::Conflict
        | Reason::UnreadablePolicy
        | Reason::ContestedPolicy
        | Reason::SecondWriter
        | Reason::BlockedPolicy
        | Reason::PolicyTooLarge
        | Reason::QuotaExceeded
        | Reason::StillInUse => minutes(10),
        // Only a change of the resource or of the account helps, and that triggers a reconcile at
        // once.
        Reason::Invalid | Reason::NotAdmitted | Reason::Rejected => minutes(60),
        Reason::Granted
        | Reason::RegistrySideReady
        | Reason::InPlace
        | Reason::NotRequested
        | Reason::NotManaged
        | Reason::CredentialsVerified
        | Reason::Progressing
        | Reason::Suspended
        | Reason::Observing
        | Reason::Revoking => minutes(10),
    }
}

/// Pauses between the reconciles of one resource.
#[derive(Clone, Debug)]
pub struct Pauses {
    resync_interval: Duration,
    random: Random,
}

impl Pauses {
    pub fn new(resync_interval: Duration, random: Random) -> Self {
        Self {
            resync_interval,
            random,
        }
    }

    /// Returns the mean pause while all is well.
    pub fn resync_interval(&self) -> Duration {
        self.resync_interval
    }

    /// Returns the source of the jitter.
    pub fn random(&self) -> &Random {
        &self.random
    }

    /// Returns the pause after a failure. It doubles with each consecutive failure, up to the
    /// longest for the reason or the resync interval, whichever is shorter. Jitter shortens it by
    /// up to a half.
    pub fn after_failure(&self, reason: Reason, failures_before: u32) -> Duration {
        let exponent = failures_before.saturating_add(1).min(20);
        let grown = SHORTEST.saturating_mul(2_u32.saturating_pow(exponent));
        let ceiling = grown
            .min(longest(reason))
            .min(self.resync_interval.max(SHORTEST));
        self.random.jitter(ceiling, 0.5, 1.0).max(SHORTEST)
    }

    /// Returns the pause after several failures at once: that of the failure which may resolve
    /// itself soonest.
    pub fn after_failures(&self, problems: &[Problem], failures_before: u32) -> Duration {
        let soonest = problems
            .iter()
            .map(|problem| problem.reason)
            .min_by_key(|reason| longest(*reason));
        self.after_failure(soonest.unwrap_or(Reason::Unavailable), failures_before)
    }

    /// Returns the pause while all is well: the resync interval with a jitter of a fifth, so that
    /// many grants do not reconcile in step.
    pub fn after_success(&self) -> Duration {
        self.random.jitter(self.resync_interval, 0.8, 1.2)
    }

    /// Returns the pause before a throttled call is repeated.
    pub fn after_throttling(&self, pause: Duration) -> Duration {
        self.random.jitter(pause, 0.5, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESYNC: Duration = Duration::from_secs(600);

    fn reconnect() -> Reconnect {
        Reconnect::new(Random::from_entropy())
    }

    fn pauses(resync_interval: Duration) -> Pauses {
        Pauses::new(resync_interval, Random::from_entropy())
    }

    #[test]
    fn pauses_grow_and_never_vanish() {
        for failures in 0..100 {
            let pause = pauses(RESYNC).after_failure(Reason::Unavailable, failures);
            assert!(pause >= SHORTEST);
            assert!(pause <= longest(Reason::Unavailable));
        }
        assert!(
            pauses(RESYNC).after_failure(Reason::Unavailable, 6)
                > pauses(RESYNC).after_failure(Reason::Unavailable, 0) * 4
        );
    }

    #[test]
    fn pauses_never_exceed_the_resync_interval() {
        let short = Duration::from_secs(5);
        assert!(pauses(short).after_failure(Reason::NotAdmitted, 50) <= short);
    }

    #[test]
    fn success_starts_over() {
        let backoff = Backoff::default();
        let failed = |uid, generation| backoff.failed(uid, Some(generation));
        assert_eq!((failed("a", 1), failed("a", 1), failed("b", 1)), (0, 1, 0));
        backoff.reset("a");
        assert_eq!(failed("a", 1), 0);
    }

    #[test]
    fn changed_resource_starts_with_the_shortest_pause() {
        let backoff = Backoff::default();
        backoff.failed("a", Some(1));
        assert_eq!(backoff.failed("a", Some(2)), 0);
    }

    fn cause(generation: i64, all: u64) -> Cause {
        Cause {
            generation: Some(generation),
            revokes: false,
            all: Some(all),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_on_demand_are_limited_for_each_grant_and_none_is_lost() {
        let asked = ReconcileLimiter::default();
        let toggled = std::cell::Cell::new(0);
        // Simulates an annotation that is set and removed again.
        let may_begin = |uid| {
            let outcome = asked.may_begin(uid, cause(1, toggled.get() % 2));
            toggled.set(toggled.get() + u64::from(outcome.is_ok()));
            outcome
        };
        for _ in 0..=ASKED_AT_ONCE {
            assert_eq!(may_begin("a"), Ok(()));
        }
        let wait = may_begin("a").unwrap_err();
        assert!(wait <= ASKED_EVERY, "{wait:?}");
        assert_eq!(may_begin("a"), Err(wait), "asking again makes it no later");
        assert_eq!(
            asked.may_begin("b", cause(1, 7)),
            Ok(()),
            "another grant is not concerned"
        );
        tokio::time::advance(wait).await;
        assert_eq!(may_begin("a"), Ok(()));
        assert!(may_begin("a").is_err());
        let mut begun = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            begun += u32::from(may_begin("a").is_ok());
        }
        assert!((19..=21).contains(&begun), "{begun} in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_deletions_and_resyncs_are_not_limited() {
        let asked = ReconcileLimiter::default();
        let mut all = 0;
        while asked.may_begin("a", cause(1, all)).is_ok() {
            all += 1;
        }
        assert_eq!(asked.may_begin("a", cause(1, all - 1)), Ok(()), "a resync");
        let revokes = Cause {
            revokes: true,
            ..cause(1, all)
        };
        assert_eq!(asked.may_begin("a", revokes), Ok(()), "a rule that is gone");
        assert_eq!(
            asked.may_begin("a", cause(2, all)),
            Ok(()),
            "a change, or a deletion"
        );
        assert!(
            asked.may_begin("a", cause(2, all + 1)).is_err(),
            "it is no way around the limit"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn infrequent_requests_leave_no_entry() {
        let asked = ReconcileLimiter::default();
        for all in 0..100 {
            assert_eq!(asked.may_begin("a", cause(1, all)), Ok(()));
            tokio::time::advance(ASKED_EVERY).await;
        }
        assert_eq!(asked.may_begin("b", cause(1, 0)), Ok(()));
        assert_eq!(asked.0.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn broken_watch_restarts_within_seconds_after_any_outage() {
        let mut pauses = Reconnect::new(Random::from_entropy());
        for _ in 0..1_000 {
            let pause = pauses.next().unwrap();
            // Every failed list begins with an event.
            kube::runtime::utils::Backoff::reset(&mut pauses);
            assert!(
                pause <= LONGEST_RECONNECT && pause > Duration::ZERO,
                "{pause:?}"
            );
            tokio::time::advance(pause).await;
        }
        assert!(
            pauses.next().unwrap() >= LONGEST_RECONNECT / 2,
            "an API server that is down is not hammered"
        );
        tokio::time::advance(RECONNECTED_FOR * 2).await;
        assert!(pauses.next().unwrap() <= FIRST_RECONNECT);
    }

    /// Simulates a watch during an outage. It fails again and again, until the API server is back
    /// and an edit is seen. With `lists`, each attempt begins with an event.
    fn watch(
        back: Instant,
        lists: bool,
    ) -> impl futures::Stream<Item = Result<&'static str, std::io::Error>> {
        futures::stream::unfold(0_u64, move |step| async move {
            if step == u64::MAX {
                return None;
            }
            if Instant::now() >= back {
                return Some((Ok("edit"), u64::MAX));
            }
            let event = if lists && step % 2 == 0 {
                Ok("list")
            } else {
                Err(std::io::Error::other("refused"))
            };
            Some((event, step + 1))
        })
    }

    /// Returns how long after the API server's return an edit is noticed on every one of three
    /// watches, which are merged as in the controller.
    async fn noticed_after<B, M>(outage: Duration, each: impl Fn() -> B, merged: M) -> Duration
    where
        B: kube::runtime::utils::Backoff,
        M: kube::runtime::utils::Backoff,
    {
        use futures::StreamExt;
        use kube::runtime::WatchStreamExt;
        use kube::runtime::utils::StreamBackoff;
        let back = Instant::now() + outage;
        let watches = (0..3).map(|number| Box::pin(watch(back, number == 0).backoff(each())));
        let mut merged = Box::pin(StreamBackoff::new(
            futures::stream::select_all(watches),
            merged,
        ));
        let mut seen = 0;
        while seen < 3 {
            seen += usize::from(matches!(merged.next().await, Some(Ok("edit"))));
        }
        back.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn edits_are_noticed_within_ten_seconds_after_an_outage() {
        for minutes in 1..20 {
            let outage = Duration::from_secs(60 * minutes);
            let noticed = noticed_after(outage, reconnect, NoPause).await;
            assert!(
                noticed <= Duration::from_secs(10),
                "{noticed:?} after {minutes} minutes"
            );
        }
    }

    #[test]
    fn shortest_pause_applies_to_several_problems() {
        let problem = |reason| Problem::new(reason, "");
        let both = [
            problem(Reason::RepositoryNotFound),
            problem(Reason::Settling),
        ];
        assert!(pauses(RESYNC).after_failures(&both, 30) <= longest(Reason::Settling));
    }
}
