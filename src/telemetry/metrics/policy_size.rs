//! The use of ECR's size limit by repository policies, summarized for each region of an account:
//! the number of series for single repositories would be unbounded.

use super::labels::OfRegion;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// A policy that uses more of the limit than this counts as nearly full.
const NEARLY_FULL: f64 = 0.8;

/// How long a policy that is not read any more still counts: several times the longest usual resync
/// interval.
const COUNTS_FOR: Duration = Duration::from_secs(4 * 3600);

type Key = (OfRegion, String);

/// The result of the last read of each repository's policy. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PolicySizes(Arc<Mutex<HashMap<Key, (f64, Instant)>>>);

/// The summary of an account's region.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Whole {
    looked_at: u32,
    nearly_full: u32,
    fullest: f64,
}

impl PolicySizes {
    /// Records the part of the limit that a policy uses.
    pub fn seen(&self, account: &str, region: &str, repository: &str, full: f64) {
        self.lock()
            .insert(key(account, region, repository), (full, Instant::now()));
    }

    /// Records that the repository does not exist.
    pub fn gone(&self, account: &str, region: &str, repository: &str) {
        self.lock().remove(&key(account, region, repository));
    }

    /// Removes all accounts but those that `keep` accepts.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|(of, _), _| keep(&of.account));
    }

    fn wholes(&self) -> HashMap<OfRegion, Whole> {
        let mut seen = self.lock();
        seen.retain(|_, (_, at)| at.elapsed() < COUNTS_FOR);
        let mut wholes: HashMap<OfRegion, Whole> = HashMap::new();
        for ((of, _), (full, _)) in &*seen {
            let whole = wholes.entry(of.clone()).or_default();
            whole.looked_at += 1;
            whole.nearly_full += u32::from(*full > NEARLY_FULL);
            whole.fullest = whole.fullest.max(*full);
        }
        wholes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (f64, Instant)>> {
        self.0.lock().expect("no panic while held")
    }
}

fn key(account: &str, region: &str, repository: &str) -> Key {
    (
        OfRegion {
            account: account.into(),
            region: region.into(),
        },
        repository.into(),
    )
}

/// The metrics of each region.
#[derive(Clone, Debug)]
pub(super) enum Of {
    LookedAt(PolicySizes),
    NearlyFull(PolicySizes),
    Fullest(PolicySizes),
}

impl EncodeMetric for Of {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let (Self::LookedAt(policies) | Self::NearlyFull(policies) | Self::Fullest(policies)) =
            self;
        for (of, whole) in policies.wholes() {
            let value = match self {
                Self::LookedAt(_) => f64::from(whole.looked_at),
                Self::NearlyFull(_) => f64::from(whole.nearly_full),
                Self::Fullest(_) => whole.fullest,
            };
            encoder.encode_family(&of)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_region_is_told_by_its_fullest_policy_until_nobody_looks_at_it_any_more() {
        let policies = PolicySizes::default();
        policies.seen("111111111111", "us-east-1", "a", 0.5);
        policies.seen("111111111111", "us-east-1", "b", 0.9);
        policies.seen("111111111111", "us-east-1", "c", 0.9);
        policies.gone("111111111111", "us-east-1", "c");
        let of = OfRegion {
            account: "111111111111".into(),
            region: "us-east-1".into(),
        };
        let whole = Whole {
            looked_at: 2,
            nearly_full: 1,
            fullest: 0.9,
        };
        assert_eq!(policies.wholes(), HashMap::from([(of.clone(), whole)]));
        tokio::time::advance(COUNTS_FOR / 2).await;
        policies.seen("111111111111", "us-east-1", "a", 0.5);
        tokio::time::advance(COUNTS_FOR / 2).await;
        assert_eq!(
            policies.wholes()[&of],
            Whole {
                looked_at: 1,
                nearly_full: 0,
                fullest: 0.5
            }
        );
        policies.retain(|account| account != "111111111111");
        assert!(policies.wholes().is_empty());
    }
}
