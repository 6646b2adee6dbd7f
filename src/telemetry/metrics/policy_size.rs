//! The use of ECR's size limit by repository policies, summarized for each region of an account:
//! the number of series for single repositories would be unbounded.

use super::labels::OfRegion;
use super::reference::Makes;
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
struct RegionSummary {
    read: u32,
    nearly_full: u32,
    fullest: f64,
}

impl PolicySizes {
    /// Registers the metrics of the policies that will be recorded.
    pub(super) fn in_registry(all: &mut Makes) -> Self {
        let policies = Self::default();
        all.add(
            "repository_policies",
            &["account", "region"],
            "Repositories whose policy was read within the last four hours",
            PolicyMetric::Read(policies.clone()),
        );
        all.add(
            "repository_policies_nearly_full",
            &["account", "region"],
            "Repositories among them whose policy takes more than 80 % of ECR's 10,240 characters",
            PolicyMetric::NearlyFull(policies.clone()),
        );
        all.add(
            "repository_policy_full_ratio_max",
            &["account", "region"],
            "The highest share of ECR's 10,240 characters that a policy among them takes",
            PolicyMetric::Fullest(policies.clone()),
        );
        policies
    }

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

    fn summaries(&self) -> HashMap<OfRegion, RegionSummary> {
        let mut seen = self.lock();
        seen.retain(|_, (_, at)| at.elapsed() < COUNTS_FOR);
        let mut summaries: HashMap<OfRegion, RegionSummary> = HashMap::new();
        for ((of, _), (full, _)) in &*seen {
            let summary = summaries.entry(of.clone()).or_default();
            summary.read += 1;
            summary.nearly_full += u32::from(*full > NEARLY_FULL);
            summary.fullest = summary.fullest.max(*full);
        }
        summaries
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

/// A metric of the policies of each region.
#[derive(Clone, Debug)]
enum PolicyMetric {
    Read(PolicySizes),
    NearlyFull(PolicySizes),
    Fullest(PolicySizes),
}

impl EncodeMetric for PolicyMetric {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let (Self::Read(policies) | Self::NearlyFull(policies) | Self::Fullest(policies)) = self;
        for (of, summary) in policies.summaries() {
            let value = match self {
                Self::Read(_) => f64::from(summary.read),
                Self::NearlyFull(_) => f64::from(summary.nearly_full),
                Self::Fullest(_) => summary.fullest,
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
    async fn region_shows_its_fullest_policy_until_reads_stop() {
        let policies = PolicySizes::default();
        policies.seen("111111111111", "us-east-1", "a", 0.5);
        policies.seen("111111111111", "us-east-1", "b", 0.9);
        policies.seen("111111111111", "us-east-1", "c", 0.9);
        policies.gone("111111111111", "us-east-1", "c");
        let of = OfRegion {
            account: "111111111111".into(),
            region: "us-east-1".into(),
        };
        let summary = RegionSummary {
            read: 2,
            nearly_full: 1,
            fullest: 0.9,
        };
        assert_eq!(policies.summaries(), HashMap::from([(of.clone(), summary)]));
        tokio::time::advance(COUNTS_FOR / 2).await;
        policies.seen("111111111111", "us-east-1", "a", 0.5);
        tokio::time::advance(COUNTS_FOR / 2).await;
        assert_eq!(
            policies.summaries()[&of],
            RegionSummary {
                read: 1,
                nearly_full: 0,
                fullest: 0.5
            }
        );
        policies.retain(|account| account != "111111111111");
        assert!(policies.summaries().is_empty());
    }
}
