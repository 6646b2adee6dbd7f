//! Token buckets: how many calls a service admits for an account.

use super::request::Service;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls a second in the long run.
    pub per_second: f64,
    /// Calls at once after a pause.
    pub burst: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Timestamp,
}

/// The buckets by account and service. Without a bucket, nothing is limited.
#[derive(Clone, Debug, Default)]
pub(super) struct Throttles(BTreeMap<(String, Service), Bucket>);

impl Throttles {
    /// Limits a service of an account from now on; `None` removes the limit.
    pub fn set(&mut self, account: &str, service: Service, rate: Option<Rate>, now: Timestamp) {
        let key = (account.to_owned(), service);
        match rate {
            None => drop(self.0.remove(&key)),
            Some(rate) => {
                let bucket = Bucket {
                    rate,
                    tokens: rate.burst,
                    at: now,
                };
                self.0.insert(key, bucket);
            }
        }
    }

    /// Takes a token; returns whether there was one.
    pub fn admit(&mut self, account: &str, service: Service, now: Timestamp) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(bucket) = self.0.get_mut(&(account.to_owned(), service)) else {
            return true;
        };
        let elapsed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = bucket
            .rate
            .per_second
            .mul_add(elapsed, bucket.tokens)
            .min(bucket.rate.burst);
        bucket.at = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn bucket_admits_its_burst_and_then_its_rate() {
        let mut throttles = Throttles::default();
        let start = Timestamp::UNIX_EPOCH;
        let rate = Rate {
            per_second: 2.0,
            burst: 3.0,
        };
        throttles.set("1", Service::Iam, Some(rate), start);
        let mut admitted = |milliseconds| {
            let now = start + SignedDuration::from_millis(milliseconds);
            (0..10)
                .filter(|_| throttles.admit("1", Service::Iam, now))
                .count()
        };
        assert_eq!(
            [0, 400, 500, 1500, 60_000].map(&mut admitted),
            [3, 0, 1, 2, 3]
        );
        assert!(throttles.admit("1", Service::Ecr, start));
        throttles.set("1", Service::Iam, None, start);
        assert!((0..10).all(|_| throttles.admit("1", Service::Iam, start)));
    }
}
