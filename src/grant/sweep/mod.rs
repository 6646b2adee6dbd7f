//! Finds orphans, and decides whether they may be removed.
//!
//! - `claimed`: what the grants of a cluster claim in one account.
//! - `refused`: what no rule of an account admits for anybody.
//! - `removal`: the steps that remove an orphan entirely, or not at all.
//! - `status`: the sweep's part of an account's status.
//!
//! An orphan is a resource of this installation in AWS that no grant claims. Removing somebody's
//! access by mistake is an outage: every doubt is a reason to leave an orphan and to report it.

mod claimed;
mod refused;
mod removal;
mod status;

pub use claimed::{Claimed, KnownGrants};
pub use refused::no_rule_admits;
pub use removal::{Leftover, leftovers};
pub use status::{status, unclaimed};

use super::Problem;
use super::ownership::Owner;
use crate::api::sweep::SweepMode;
use crate::policy::installation::hex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Maximum number of orphans that are removed without confirmation.
const MOST_AT_ONCE: usize = 5;
/// Minimum number of our resources in the account for each orphan that is removed without
/// confirmation.
const ONE_IN: usize = 10;

/// Resource of this installation that no grant claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its ARN; for statements in a policy, that of the repository.
    pub arn: String,
    /// Its former owner, if its tags name one.
    pub owner: Option<Owner>,
    /// The reason why it is never removed, if there is one.
    pub kept: Option<String>,
}

/// Observed state of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The resources that no grant claims, by ARN.
    pub findings: Vec<Finding>,
    /// The number of resources that grants claim.
    pub claimed: usize,
    /// The regions whose repositories were read.
    pub regions: BTreeSet<String>,
    /// The number of repositories whose policies the operator may not read.
    pub denied: usize,
    /// Whether all roles and instance profiles could be read.
    pub identities_complete: bool,
    /// Problems that prevented reads.
    pub problems: Vec<Problem>,
}

impl Seen {
    /// Returns the findings that could be removed.
    pub fn removable(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.kept.is_none())
    }
}

/// Time since which each finding has been in every pass. It is kept in memory alone, so a restart
/// resets it.
#[derive(Clone, Debug, Default)]
pub struct Sightings(BTreeMap<(String, Option<String>), Duration>);

impl Sightings {
    /// Records a pass at this time (counted from any beginning). Findings that are not in `seen`
    /// are dropped.
    pub fn note(&mut self, seen: &Seen, now: Duration) {
        let mut since = BTreeMap::new();
        for finding in seen.removable() {
            let key = Self::key(finding);
            let first = self.0.get(&key).copied().unwrap_or(now);
            since.insert(key, first);
        }
        self.0 = since;
    }

    fn age(&self, finding: &Finding, now: Duration) -> Duration {
        self.0
            .get(&Self::key(finding))
            .map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    /// Returns the key of a finding. The same ARN with another grant's tag is a different finding.
    fn key(
        Finding {
            arn,
            owner,
            kept: _,
        }: &Finding,
    ) -> (String, Option<String>) {
        (
            arn.clone(),
            owner.as_ref().map(|owner| owner.grant.to_string()),
        )
    }
}

/// Inputs of the decision other than the findings.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Whether anything should be removed at all.
    pub mode: SweepMode,
    /// The number of grants that the operator knows.
    pub grants: usize,
    /// The number of grants in the cluster that the operator does not know, because it cannot read
    /// them or has not seen them yet.
    pub unknown_grants: usize,
    /// The admin's confirmation.
    pub confirmed: Option<&'a str>,
    /// How long a finding must have been there without a claim.
    pub unclaimed_for: Duration,
    /// The current time, counted as in [`Sightings`].
    pub now: Duration,
}

/// Decision on the findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepDecision {
    /// There is nothing to remove.
    Nothing,
    /// The findings are only reported.
    Report(Brake),
    /// Findings are removed.
    Remove {
        /// The ARNs of the findings that were there long enough.
        now: BTreeSet<String>,
        /// The time until the next removal is due.
        later: Option<Duration>,
    },
}

/// Reason why nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// Removal is not enabled.
    Mode,
    /// There are no grants at all. A problem with the cluster is more likely than that all access
    /// is obsolete.
    NoGrants,
    /// There are grants that the operator does not know. It cannot tell what they claim.
    UnknownGrants(usize),
    /// Not all roles and instance profiles could be read, and they depend on each other.
    Incomplete,
    /// There are too many findings to remove without confirmation.
    TooMuch {
        /// The confirmation that an admin must give.
        confirm: String,
    },
}

/// Returns whether so many grants vanished at once that they may have been lost with their cluster:
/// several, and more than five or more than a tenth of all.
pub fn too_many_at_once(vanished: usize, left: usize) -> bool {
    vanished > 1 && (vanished > MOST_AT_ONCE || vanished * ONE_IN > vanished + left)
}

/// Decides which findings may be removed. The caller reads each of them again right before it
/// removes it.
pub fn verdict(
    seen: &Seen,
    sightings: &Sightings,
    circumstances: &Circumstances<'_>,
) -> SweepDecision {
    let Circumstances {
        mode,
        grants,
        unknown_grants,
        confirmed,
        unclaimed_for,
        now,
    } = *circumstances;
    let count = seen.removable().count();
    if count == 0 {
        return SweepDecision::Nothing;
    }
    let too_much = count > MOST_AT_ONCE || count * ONE_IN > count + seen.claimed;
    let confirm = confirmation(seen);
    let brake = match mode {
        SweepMode::Report => Some(Brake::Mode),
        SweepMode::Remove if grants == 0 => Some(Brake::NoGrants),
        SweepMode::Remove if unknown_grants > 0 => Some(Brake::UnknownGrants(unknown_grants)),
        SweepMode::Remove if !seen.identities_complete => Some(Brake::Incomplete),
        SweepMode::Remove if too_much && confirmed != Some(confirm.as_str()) => {
            Some(Brake::TooMuch { confirm })
        }
        SweepMode::Remove => None,
    };
    if let Some(brake) = brake {
        return SweepDecision::Report(brake);
    }
    let mut ripe = BTreeSet::new();
    let mut waits = Vec::new();
    for finding in seen.removable() {
        let wait = unclaimed_for.saturating_sub(sightings.age(finding, now));
        if wait.is_zero() {
            ripe.insert(finding.arn.clone());
        } else {
            waits.push(wait);
        }
    }
    // A confirmation covers the findings as one unit: if a part of them were removed, the rest
    // would need another confirmation.
    if too_much && !waits.is_empty() {
        ripe.clear();
    }
    let later = if too_much {
        waits.into_iter().max()
    } else {
        waits.into_iter().min()
    };
    SweepDecision::Remove { now: ripe, later }
}

/// Returns the confirmation that an admin must give to remove exactly these findings. It consists
/// of their number, for people, and of a hash that identifies them, so that a confirmation never
/// applies to other findings later.
fn confirmation(seen: &Seen) -> String {
    let marks: Vec<String> = seen
        .removable()
        .map(
            |Finding {
                 arn,
                 owner,
                 kept: _,
             }| {
                format!(
                    "{arn} {}",
                    owner
                        .as_ref()
                        .map(|owner| owner.grant.to_string())
                        .unwrap_or_default()
                )
            },
        )
        .collect();
    format!("{}-{}", marks.len(), hex(&marks.join("\n"), 8))
}
