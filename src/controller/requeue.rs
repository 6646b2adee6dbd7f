//! When to look again: after the resync interval if all is well, else after a pause that grows. No state makes a hot loop.

use crate::api::conditions::Reason;
use crate::grant::Problem;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);

/// How many times each resource has failed in a row, by UID; a new generation starts over.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, (Option<i64>, u32)>>);

impl Backoff {
    /// Counts one more failure, and says how many there were before it.
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

    /// How many failures there were in a row.
    pub fn count(&self, uid: &str) -> u32 {
        self.0.lock().expect("no panic while held").get(uid).map_or(0, |(_, count)| *count)
    }

    /// Starts over.
    pub fn reset(&self, uid: &str) {
        self.0.lock().expect("no panic while held").remove(uid);
    }
}

/// The longest pause after a failure of this kind.
fn longest(reason: Reason) -> Duration {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    match reason {
        Reason::Settling => minutes(2),
        Reason::Throttled | Reason::Unavailable | Reason::HostNotResolved | Reason::CredentialsUnavailable => {
            minutes(5)
        }
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
        | Reason::BlockedPolicy
        | Reason::PolicyTooLarge
        | Reason::QuotaExceeded
        | Reason::StillInUse => minutes(10),
        // Only a change of the resource or of the account helps, and that wakes us at once.
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

/// The pause after a failure: it doubles with each in a row, up to the longest for its kind or the resync interval, whichever is
/// shorter, with jitter down to half.
pub fn after_failure(reason: Reason, failures_before: u32, resync: Duration) -> Duration {
    let grown = SHORTEST.saturating_mul(2_u32.saturating_pow(failures_before.saturating_add(1).min(20)));
    let ceiling = grown.min(longest(reason)).min(resync.max(SHORTEST));
    jittered(ceiling, 0.5, 1.0).max(SHORTEST)
}

/// The pause after several failures at once: that of the one which may mend itself soonest.
pub fn after_failures(problems: &[Problem], failures_before: u32, resync: Duration) -> Duration {
    let soonest = problems.iter().map(|problem| problem.reason).min_by_key(|reason| longest(*reason));
    after_failure(soonest.unwrap_or(Reason::Unavailable), failures_before, resync)
}

/// The pause while all is well: the resync interval, give or take a fifth, so that many grants do not march in step.
pub fn after_success(resync: Duration) -> Duration {
    jittered(resync, 0.8, 1.2)
}

fn jittered(duration: Duration, from: f64, to: f64) -> Duration {
    duration.mul_f64(from + (to - from) * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESYNC: Duration = Duration::from_secs(600);

    #[test]
    fn pauses_grow_and_never_vanish() {
        for failures in 0..100 {
            let pause = after_failure(Reason::Unavailable, failures, RESYNC);
            assert!(pause >= SHORTEST);
            assert!(pause <= longest(Reason::Unavailable));
        }
        assert!(after_failure(Reason::Unavailable, 6, RESYNC) > after_failure(Reason::Unavailable, 0, RESYNC) * 4);
    }

    #[test]
    fn nothing_waits_longer_than_the_resync_interval() {
        let short = Duration::from_secs(5);
        assert!(after_failure(Reason::NotAdmitted, 50, short) <= short);
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
    fn a_changed_resource_starts_over() {
        let backoff = Backoff::default();
        backoff.failed("a", Some(1));
        assert_eq!(backoff.failed("a", Some(2)), 0);
    }

    #[test]
    fn what_mends_itself_soonest_decides_how_long_several_problems_wait() {
        let problem = |reason| Problem::new(reason, "");
        let both = [problem(Reason::RepositoryNotFound), problem(Reason::Settling)];
        assert!(after_failures(&both, 30, RESYNC) <= longest(Reason::Settling));
    }
}
