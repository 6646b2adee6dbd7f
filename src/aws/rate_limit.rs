//! The rate limit for AWS calls: a token bucket for each service of each account. Its rate halves
//! when AWS throttles, and recovers within two minutes.
//!
//! A call waits for a token for at most the time that its caller allows, and fails if it gets none.
//! A write may also have a deadline, so that it does not outlive the Lease: see [`not_after`].
//!
//! Which calls may overdraw the bucket, and by how much:
//!
//! - A write to a document that others write, too, goes `ahead`: it may overdraw the bucket by its
//!   burst. It follows a read of the document, and a pause between the two would widen the window
//!   in which another writer's change is lost.
//! - A call for a revocation may overdraw it by half of that.
//! - No other call may overdraw it. Retries leave a few tokens in the bucket, resyncs twice as
//!   many.
//!
//! Later calls repay the overdraft. While the service is slowed down, the overdraft is limited to
//! the tokens of two seconds, because larger ones would overrun the service. These differences
//! decide which calls go first: revocations before changes, and changes before retries and resyncs.
//! Calls of the same priority go first come, first served.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The part of the burst that a resync leaves in the bucket, but at most the tokens of one second.
/// A retry leaves half of that.
const RESERVE: f64 = 0.25;
/// The limit of the overdraft while a service is slowed down, in seconds of its present rate.
const OWED_WHEN_SLOW: f64 = 2.0;
/// The lowest rate to which throttling slows a service down, as a part of its full rate. At that
/// rate, the calls of an account's work slots still get tokens within their timeouts.
const SLOWEST: f64 = 1.0 / 16.0;
/// The time to recover from the lowest rate to the full rate.
const RECOVERS_IN: Duration = Duration::from_secs(120);
/// Throttled calls within this time of one that counted were in flight with it, and do not count.
pub(super) const VOLLEY: Duration = Duration::from_secs(1);

tokio::task_local! {
    static WORK: Work;
    static DEADLINE: Instant;
}

/// The urgency of work, most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Access is revoked.
    Revocation,
    /// A resource was changed.
    #[default]
    Change,
    /// Work that failed before, or that an annotation requested.
    Retry,
    /// A grant that was applied before is compared with AWS.
    Resync,
}

/// The beneficiary of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tenant {
    /// The operator itself.
    #[default]
    Operator,
    /// The owners of this namespace.
    Namespace(Arc<str>),
}

impl From<&str> for Tenant {
    fn from(namespace: &str) -> Self {
        Self::Namespace(namespace.into())
    }
}

/// The purpose of work, which determines the order of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The urgency.
    pub urgency: Priority,
    /// The beneficiary, which determines the order among work of one priority.
    pub tenant: Tenant,
}

impl Work {
    /// Returns the operator's own background work, for which no user waits.
    pub fn background() -> Self {
        Self {
            urgency: Priority::Resync,
            tenant: Tenant::Operator,
        }
    }

    /// Returns the work of the current task. Outside of [`with`] it counts as a change.
    pub fn current() -> Self {
        WORK.try_with(Clone::clone).unwrap_or_default()
    }
}

/// Runs a future whose calls all count as part of this work.
pub async fn with<F: Future>(work: Work, future: F) -> F::Output {
    WORK.scope(work, future).await
}

/// Runs a future that sends no call after this moment.
pub async fn not_after<F: Future>(deadline: Instant, future: F) -> F::Output {
    DEADLINE.scope(deadline, future).await
}

/// Checks that a call may still be sent: it has no deadline, or the deadline has not passed.
///
/// # Errors
/// When the deadline has passed, for instance because the process was paused.
pub fn in_time() -> Result<(), TooLate> {
    match DEADLINE.try_with(|deadline| *deadline <= Instant::now()) {
        Ok(true) => Err(TooLate),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// The error of a call that was not sent because its deadline had passed.
#[derive(Debug, thiserror::Error)]
#[error("not sent: this replica's permission to write has expired")]
pub struct TooLate;

/// The rate limit of a service while AWS does not throttle it. AWS publishes no limits for most of
/// these calls, so the numbers are a choice: they are enough for a resync of a thousand grants in
/// an account within the default interval of ten minutes. Throttled calls lower the limit.
#[derive(Clone, Copy, Debug)]
struct Limit {
    per_second: f64,
    /// The number of calls that can be made at once after a pause.
    burst: f64,
}

fn limit(service: &str) -> Limit {
    match service {
        // All clients of the account share one limit in all regions: the console and Terraform need
        // a part of it, too.
        "iam" => Limit {
            per_second: 20.0,
            burst: 100.0,
        },
        // The limit is for all regions of the account together; calls for a repository's policy are
        // quick.
        "ecr" => Limit {
            per_second: 40.0,
            burst: 200.0,
        },
        // AWS allows hundreds a second, and one call serves an account for an hour.
        _ => Limit {
            per_second: 40.0,
            burst: 100.0,
        },
    }
}

/// The error of a call that was not sent because it got no token in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "not sent: the operator's own rate limit for this account and service delayed it for too long"
)]
pub struct RateLimited;

/// The buckets of all accounts.
#[derive(Debug, Default)]
pub struct Buckets(Mutex<BTreeMap<(String, &'static str), Arc<Bucket>>>);

impl Buckets {
    /// Returns the bucket of an account's service.
    pub fn of(&self, account: &str, service: &'static str) -> Arc<Bucket> {
        let mut buckets = self.0.lock().expect("no panic while held");
        buckets
            .entry((account.to_owned(), service))
            .or_insert_with(|| Arc::new(Bucket::new(limit(service))))
            .clone()
    }
}

/// The token bucket of one service of one account.
#[derive(Debug)]
pub struct Bucket {
    limit: Limit,
    level: Mutex<Level>,
    /// The lock that the first waiting call that goes `ahead` holds: the others queue up for it.
    ahead: tokio::sync::Mutex<()>,
    /// The same for all other calls, by [`Priority`].
    reads: [tokio::sync::Mutex<()>; 4],
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    per_second: f64,
    at: Instant,
    throttled: Option<Instant>,
}

impl Bucket {
    fn new(limit: Limit) -> Self {
        let level = Level {
            tokens: limit.burst,
            per_second: limit.per_second,
            at: Instant::now(),
            throttled: None,
        };
        Self {
            limit,
            level: Mutex::new(level),
            ahead: Default::default(),
            reads: Default::default(),
        }
    }

    /// Waits for a token for the current task's [`Work`], and returns how long that took. A call
    /// that goes `ahead` waits only while the bucket is overdrawn as far as possible.
    ///
    /// # Errors
    /// When the call has waited for `longest` and got no token.
    pub async fn turn(&self, ahead: bool, longest: Duration) -> Result<Duration, RateLimited> {
        let begun = Instant::now();
        let urgency = Work::current().urgency;
        let queue = if ahead {
            &self.ahead
        } else {
            &self.reads[urgency as usize]
        };
        let turn = async {
            let _first = queue.lock().await;
            while let Some(wait) = self.take(ahead, urgency) {
                tokio::time::sleep(wait).await;
            }
        };
        tokio::time::timeout(longest, turn)
            .await
            .map_err(|_| RateLimited)?;
        Ok(begun.elapsed())
    }

    /// Halves the rate because AWS has throttled a call, and takes the saved tokens away.
    pub fn throttled(&self) {
        let slowest = self.limit.per_second * SLOWEST;
        let mut level = self.level();
        if level.throttled.is_none_or(|last| last.elapsed() >= VOLLEY) {
            level.throttled = Some(Instant::now());
            level.per_second = (level.per_second / 2.0).max(slowest);
            // Saved tokens would only lead to more throttled calls. A large overdraft is reduced,
            // because at the new rate it would delay reads for longer than they can wait.
            level.tokens = level.tokens.clamp(-level.per_second * OWED_WHEN_SLOW, 0.0);
        }
    }

    /// Returns the present limit, in calls per second.
    pub fn per_second(&self) -> f64 {
        self.level().per_second
    }

    /// Takes a token, or returns the time after which there may be one.
    fn take(&self, ahead: bool, urgency: Priority) -> Option<Duration> {
        let mut level = self.level();
        let missing = 1.0 + self.leaves(ahead, urgency, level.per_second) - level.tokens;
        if missing <= 0.0 {
            level.tokens -= 1.0;
            return None;
        }
        // At least the resolution of the timer.
        Some(Duration::from_secs_f64(missing / level.per_second).max(Duration::from_millis(1)))
    }

    /// Returns how many tokens a call must leave in the bucket; negative if it may overdraw it.
    fn leaves(&self, ahead: bool, urgency: Priority, per_second: f64) -> f64 {
        let Limit {
            per_second: full,
            burst,
        } = self.limit;
        let slowed = per_second < full;
        let owed = if slowed {
            burst.min(per_second * OWED_WHEN_SLOW)
        } else {
            burst
        };
        let reserve = (burst * RESERVE).min(per_second);
        match urgency {
            _ if ahead => -owed,
            Priority::Revocation => -owed / 2.0,
            Priority::Change => 0.0,
            Priority::Retry => reserve / 2.0,
            Priority::Resync => reserve,
        }
    }

    /// Refills the bucket and raises the rate for the time that has passed, and returns the level.
    fn level(&self) -> std::sync::MutexGuard<'_, Level> {
        let mut level = self.level.lock().expect("no panic while held");
        let elapsed = level.at.elapsed().as_secs_f64();
        let Limit { per_second, burst } = self.limit;
        level.tokens = (level.tokens + elapsed * level.per_second).min(burst);
        // The rate grows in proportion to itself, so that a service that admits few calls is not
        // overrun again and again.
        let grown = (elapsed / RECOVERS_IN.as_secs_f64() * -SLOWEST.ln()).exp();
        level.per_second = (level.per_second * grown).min(per_second);
        level.at = Instant::now();
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        per_second: 10.0,
        burst: 20.0,
    };
    const LONG: Duration = Duration::from_secs(3600);

    async fn reads(bucket: &Bucket, count: usize) {
        for _ in 0..count {
            bucket.turn(false, LONG).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn burst_goes_at_once_and_later_calls_at_the_rate() {
        let (bucket, begun) = (Bucket::new(LIMIT), Instant::now());
        reads(&bucket, 20).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        reads(&bucket, 10).await;
        let took = begun.elapsed().as_secs_f64();
        assert!((0.9..1.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn writes_overdraw_the_bucket_and_reads_repay_it() {
        let bucket = Bucket::new(LIMIT);
        for _ in 0..40 {
            assert_eq!(bucket.turn(true, LONG).await.unwrap(), Duration::ZERO);
        }
        assert!(bucket.turn(true, LONG).await.unwrap() > Duration::ZERO);
        assert!(bucket.turn(false, LONG).await.unwrap() >= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_of_calls_in_flight_halves_the_rate_once() {
        let bucket = Bucket::new(LIMIT);
        for _ in 0..5 {
            bucket.throttled();
        }
        assert!(
            (bucket.per_second() - 5.0).abs() < 0.1,
            "{}",
            bucket.per_second()
        );
        for _ in 0..100 {
            tokio::time::advance(VOLLEY).await;
            bucket.throttled();
        }
        assert!(
            bucket.per_second() > LIMIT.per_second * SLOWEST * 0.9,
            "it continues, however slowly"
        );
        tokio::time::advance(RECOVERS_IN).await;
        assert!(
            (bucket.per_second() - 10.0).abs() < 0.1,
            "{}",
            bucket.per_second()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_in_the_order_of_their_priority() {
        let bucket = Arc::new(Bucket::new(LIMIT));
        reads(&bucket, 20).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let call = |urgency, name| {
            let (bucket, order) = (bucket.clone(), order.clone());
            tokio::spawn(with(
                Work {
                    urgency,
                    tenant: Tenant::Operator,
                },
                async move {
                    bucket.turn(false, LONG).await.unwrap();
                    order.lock().unwrap().push(name);
                },
            ))
        };
        let resyncs = [
            call(Priority::Resync, "resync"),
            call(Priority::Resync, "resync"),
        ];
        tokio::task::yield_now().await;
        let others = [
            call(Priority::Retry, "retry"),
            call(Priority::Change, "change"),
        ];
        let revocations = [
            call(Priority::Revocation, "revocation"),
            call(Priority::Revocation, "revocation"),
        ];
        for task in resyncs.into_iter().chain(others).chain(revocations) {
            task.await.unwrap();
        }
        assert_eq!(
            *order.lock().unwrap(),
            [
                "revocation",
                "revocation",
                "change",
                "retry",
                "resync",
                "resync"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn resync_after_throttling_gets_a_token_within_its_timeout() {
        let bucket = Bucket::new(limit("iam"));
        for _ in 0..10 {
            tokio::time::advance(VOLLEY).await;
            bucket.throttled();
        }
        // The reads are as many as an account has work slots, after writes that overdraw the bucket
        // as far as they may.
        for _ in 0..2 {
            bucket.turn(true, LONG).await.unwrap();
        }
        let call = || {
            with(
                Work::background(),
                bucket.turn(false, Duration::from_millis(7_500)),
            )
        };
        let waited = futures::future::join_all((0..4).map(|_| call())).await;
        assert!(waited.iter().all(Result::is_ok), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn call_is_too_late_after_its_deadline() {
        assert!(in_time().is_ok(), "a read needs none");
        let deadline = Instant::now() + Duration::from_secs(10);
        let late = not_after(deadline, async {
            assert!(in_time().is_ok());
            tokio::time::advance(Duration::from_secs(10)).await;
            in_time()
        });
        assert!(late.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn call_without_a_token_in_time_fails_and_delays_no_other() {
        let bucket = Bucket::new(LIMIT);
        for _ in 0..100 {
            bucket.turn(true, LONG).await.unwrap();
        }
        assert!(bucket.turn(false, Duration::from_secs(1)).await.is_err());
        assert!(bucket.turn(false, LONG).await.is_ok());
    }

    #[test]
    fn each_account_and_service_has_its_own_bucket() {
        let buckets = Buckets::default();
        let iam = buckets.of("111111111111", "iam");
        assert!(Arc::ptr_eq(&iam, &buckets.of("111111111111", "iam")));
        assert!(!Arc::ptr_eq(&iam, &buckets.of("222222222222", "iam")));
        assert!(!Arc::ptr_eq(&iam, &buckets.of("111111111111", "ecr")));
    }
}
