//! Finds orphans, and decides whether they may be removed.
//!
//! - `claimed`: what the grants of a cluster claim in one account.
//! - `refused`: what no rule of an account admits for anybody.
//! - `removal`: the steps that remove an orphan entirely, or not at all.
//! - `status`: the sweep's part of an account's status.
//!
//! An orphan is what this installation has in AWS though no grant claims it. Removing somebody's
//! access wrongly is an outage: every doubt is a reason to leave it and to report it.

mod claimed;
mod refused;
mod removal;
mod status;

pub use claimed::{Claimed, KnownGrants};
pub use refused::no_rule_admits;
pub use removal::{Leftover, leftovers};
pub use status::{status, unclaimed};

use super::Problem;
use super::desired::Owner;
use crate::api::sweep::SweepMode;
use crate::policy::installation::hex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many at once are removed without being asked.
const MOST_AT_ONCE: usize = 5;
/// And no more than one in so many of what is ours in the account.
const ONE_IN: usize = 10;

/// Something of this installation's that no grant claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its ARN; for statements in a policy, that of the repository.
    pub arn: String,
    /// Whose it was, where its tags say so.
    pub owner: Option<Owner>,
    /// Why it is never removed.
    pub kept: Option<String>,
}

/// What was seen in one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What no grant claims, by ARN.
    pub findings: Vec<Finding>,
    /// How much is there that grants claim.
    pub claimed: usize,
    /// Where repositories were looked at.
    pub regions: BTreeSet<String>,
    /// How many repositories' policies may not be read.
    pub denied: usize,
    /// Whether all roles and instance profiles could be looked at.
    pub identities_complete: bool,
    /// What could not be looked at.
    pub problems: Vec<Problem>,
}

impl Seen {
    /// What could be removed.
    pub fn removable(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.kept.is_none())
    }
}

/// Since when each finding has been there at every look. In memory alone: after a restart all begin
/// anew.
#[derive(Clone, Debug, Default)]
pub struct Sightings(BTreeMap<(String, Option<String>), Duration>);

impl Sightings {
    /// Notes a look at this time (counted from any beginning). What was not seen is forgotten.
    pub fn note(&mut self, seen: &Seen, now: Duration) {
        let since = |finding: &Finding| {
            let key = Self::key(finding);
            let since = self.0.get(&key).copied().unwrap_or(now);
            (key, since)
        };
        self.0 = seen.removable().map(since).collect();
    }

    fn age(&self, finding: &Finding, now: Duration) -> Duration {
        self.0
            .get(&Self::key(finding))
            .map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    /// The same ARN with another grant's tag is another thing.
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

/// What decides beside the findings.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Whether anything is to be removed at all.
    pub mode: SweepMode,
    /// How many grants the operator knows.
    pub grants: usize,
    /// How many the cluster has that the operator does not know, because it cannot read them or has
    /// not seen them yet.
    pub unknown_grants: usize,
    /// What an admin confirmed.
    pub confirmed: Option<&'a str>,
    /// For how long something must have been there without a claim.
    pub unclaimed_for: Duration,
    /// Now, counted as in [`Sightings`].
    pub now: Duration,
}

/// What may be done about what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepDecision {
    /// There is nothing to remove.
    Nothing,
    /// It is only reported.
    Report(Brake),
    /// It is removed.
    Remove {
        /// What was there long enough, by ARN.
        now: BTreeSet<String>,
        /// In which time the next will have been.
        later: Option<Duration>,
    },
}

/// Why nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// It was not asked for.
    Mode,
    /// There is no grant at all: rather is something wrong with the cluster than that nobody has
    /// access any more.
    NoGrants,
    /// There are grants that the operator does not know: what they claim it cannot say.
    UnknownGrants(usize),
    /// Not all roles and instance profiles could be looked at, and they hang together.
    Incomplete,
    /// It is too much to be removed without being asked.
    TooMuch {
        /// What an admin has to say.
        confirm: String,
    },
}

/// Whether so many grants vanished at once that they may have been lost with their cluster:
/// several, and more than five or more than a tenth of all.
pub fn too_many_at_once(vanished: usize, left: usize) -> bool {
    vanished > 1 && (vanished > MOST_AT_ONCE || vanished * ONE_IN > vanished + left)
}

/// Decides what may be removed. Whoever carries it out reads each thing again right before.
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
    let missing = |finding: &Finding| unclaimed_for.saturating_sub(sightings.age(finding, now));
    let later = seen
        .removable()
        .map(missing)
        .filter(|missing| !missing.is_zero());
    // What was confirmed is one whole: when a part of it is gone the rest would have to be
    // confirmed again.
    let later = if too_much { later.max() } else { later.min() };
    let ripe = seen
        .removable()
        .filter(|finding| missing(finding).is_zero() && !(too_much && later.is_some()));
    SweepDecision::Remove {
        now: ripe.map(|finding| finding.arn.clone()).collect(),
        later,
    }
}

/// What an admin has to say to have just these removed: how many they are, for people, and a mark
/// of which, so that what was confirmed once holds for nothing else later.
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
