//! One replica's part in the election. The leader renews the Lease well before it runs out. Each
//! replica measures on its own clock how long a Lease is still valid, from its own observations, so
//! that clocks need not agree.

use crate::aws::write_permit::Leadership;
use crate::clock::WallClock;
use crate::telemetry::health::{Pulse, Readiness};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Error};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long returning the Lease may take; afterwards it runs out by itself.
const RELEASE: Duration = Duration::from_secs(3);

/// The Lease's name, in the operator's own namespace.
pub const LEASE: &str = "registry-grants";

/// The name that readiness uses for the connection on which the Lease is renewed.
const CONNECTION: &str = "the Lease";

/// Storage of the Lease.
pub trait Leases: Send + Sync + 'static {
    /// Reads it; `None`: there is none.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, Error>> + Send;
    /// Creates it.
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Error>> + Send;
    /// Replaces it, if its version is still the one that was read.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Error>> + Send;
}

impl Leases for Api<Lease> {
    async fn read(&self) -> Result<Option<Lease>, Error> {
        self.get_opt(LEASE).await
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Error> {
        self.create(&PostParams::default(), lease).await
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        self.replace(LEASE, &PostParams::default(), lease).await
    }
}

/// One replica's part in the election.
pub struct Election<L> {
    leases: L,
    identity: String,
    duration: Duration,
    /// The Lease as last seen, and since when it has not changed.
    seen: Option<(Option<LeaseSpec>, Instant)>,
    /// Whether another replica was ever seen to hold it: after the Lease is deleted, its holder may
    /// work on for a while.
    others_seen: bool,
    /// The proof that the Lease is read regularly.
    pulse: Pulse,
    clock: WallClock,
}

/// Next action on the Lease.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// There is none: create it.
    Create,
    /// It is free, or its holder has not renewed it for its entire duration: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another replica holds it.
    Wait,
}

/// Result of one round of the election.
enum Round {
    /// It is ours, until this time.
    Ours(Instant),
    /// Another replica holds it.
    Anothers,
    /// Somebody wrote it between our read and our write; the next round shows its holder.
    Changed,
}

impl<L: Leases> Election<L> {
    /// Creates a candidate with this identity.
    pub fn new(
        leases: L,
        identity: String,
        duration: Duration,
        pulse: Pulse,
        clock: WallClock,
    ) -> Self {
        Self {
            leases,
            identity,
            duration,
            seen: None,
            others_seen: false,
            pulse,
            clock,
        }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self, leadership: &Leadership, readiness: &Readiness) {
        let mut told = false;
        loop {
            match self.timed_round(readiness).await {
                Ok(Round::Ours(until)) => {
                    leadership.extend(until);
                    tracing::info!(identity = self.identity, "leading");
                    return;
                }
                Ok(Round::Anothers) if !told => {
                    told = true;
                    tracing::info!(
                        identity = self.identity,
                        "standing by: another replica leads"
                    );
                }
                Ok(Round::Anothers | Round::Changed) => {}
                Err(error) => {
                    tracing::warn!("failed to read or write the Lease, retrying: {error}")
                }
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Renews the Lease until it is lost, and returns how it was lost.
    pub async fn hold(&mut self, leadership: &Leadership, readiness: &Readiness) -> String {
        loop {
            tokio::time::sleep(self.pause()).await;
            let failed = match self.timed_round(readiness).await {
                Ok(Round::Ours(until)) => {
                    leadership.extend(until);
                    continue;
                }
                Ok(Round::Anothers) => return "another replica has taken the Lease".into(),
                Ok(Round::Changed) => {
                    "another client updated the Lease at the same time".to_owned()
                }
                Err(error) => error,
            };
            if leadership.has_run_out() {
                return format!("failed to renew the Lease in time: {failed}");
            }
            tracing::warn!("failed to renew the Lease, retrying: {failed}");
        }
    }

    /// Returns the Lease, so that the next replica need not wait for its end. Call it only after
    /// the last write has ended.
    pub async fn release(&mut self) {
        let released = async {
            let Some(lease) = self.leases.read().await? else {
                return Ok(());
            };
            let held = lease
                .spec
                .as_ref()
                .and_then(|spec| spec.holder_identity.as_ref())
                == Some(&self.identity);
            if held {
                let spec = LeaseSpec {
                    holder_identity: None,
                    ..lease.spec.clone().unwrap_or_default()
                };
                self.leases
                    .replace(&Lease {
                        spec: Some(spec),
                        ..lease
                    })
                    .await?;
            }
            Ok::<_, Error>(())
        };
        let failed = match timeout(RELEASE, released).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "the API server did not answer within {} s",
                RELEASE.as_secs()
            ),
        };
        tracing::warn!("failed to release the Lease, which will expire: {failed}");
    }

    /// Runs a round with a time limit: a connection that died silently must not hide that the Lease
    /// has run out.
    async fn timed_round(&mut self, readiness: &Readiness) -> Result<Round, String> {
        self.pulse.beat();
        let limit = self.pause();
        let round = match timeout(limit, self.round()).await {
            Ok(round) => round.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "the API server did not answer within {} ms",
                limit.as_millis()
            )),
        };
        match &round {
            Ok(_) => readiness.works(CONNECTION),
            Err(error) => readiness.fails(CONNECTION, error),
        }
        round
    }

    /// Reads the Lease and takes one action.
    async fn round(&mut self) -> Result<Round, Error> {
        let lease = self.leases.read().await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let unchanged_for = self.observe(spec.clone());
        let holder = spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        self.others_seen |= !holder.is_empty() && holder != self.identity;
        let until = Instant::now() + self.duration;
        let missing_long_enough = !self.others_seen || unchanged_for > self.duration;
        let written = match decide(
            lease.is_some(),
            spec.as_ref(),
            &self.identity,
            unchanged_for,
        ) {
            Move::Create if !missing_long_enough => return Ok(Round::Anothers),
            Move::Wait => return Ok(Round::Anothers),
            Move::Create => {
                let metadata = ObjectMeta {
                    name: Some(LEASE.into()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(self.spec(None)),
                };
                self.leases.create(&lease).await
            }
            Move::Take | Move::Renew => {
                let lease = Lease {
                    spec: Some(self.spec(spec)),
                    ..lease.unwrap_or_default()
                };
                // Replaced with the version that was read: of two replicas that try at once, one
                // succeeds.
                self.leases.replace(&lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.observe(lease.spec);
                Ok(Round::Ours(until))
            }
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Round::Changed)
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(self.clock.now()));
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let changes = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            renew_time: now.clone(),
            acquire_time: if ours { before.acquire_time } else { now },
            lease_transitions: Some(if ours {
                changes
            } else {
                changes.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }

    /// Returns how long the Lease has been in this state.
    fn observe(&mut self, spec: Option<LeaseSpec>) -> Duration {
        match &self.seen {
            Some((seen, since)) if *seen == spec => since.elapsed(),
            Some(_) | None => {
                self.seen = Some((spec, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Returns the pause between rounds. There are six in a Lease's duration, of which five may
    /// fail.
    fn pause(&self) -> Duration {
        self.duration / 6
    }
}

fn decide(exists: bool, spec: Option<&LeaseSpec>, identity: &str, unchanged_for: Duration) -> Move {
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .filter(|holder| !holder.is_empty());
    let promised = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok());
    match holder {
        _ if !exists => Move::Create,
        None => Move::Take,
        Some(holder) if holder == identity => Move::Renew,
        Some(_) if unchanged_for > Duration::from_secs(promised.unwrap_or_default()) => Move::Take,
        Some(_) => Move::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(30),
            ..LeaseSpec::default()
        }
    }

    #[rstest]
    #[case::none_yet(false, None, 0, Move::Create)]
    #[case::given_back(true, Some(LeaseSpec::default()), 0, Move::Take)]
    #[case::given_back_by_others(true, Some(held_by("")), 0, Move::Take)]
    #[case::mine(true, Some(held_by("me")), 100, Move::Renew)]
    #[case::anothers(true, Some(held_by("other")), 29, Move::Wait)]
    #[case::anothers_to_the_second(true, Some(held_by("other")), 30, Move::Wait)]
    #[case::not_renewed(true, Some(held_by("other")), 31, Move::Take)]
    fn lease_is_taken_only_if_free_or_expired(
        #[case] exists: bool,
        #[case] spec: Option<LeaseSpec>,
        #[case] unchanged_for: u64,
        #[case] wanted: Move,
    ) {
        assert_eq!(
            decide(
                exists,
                spec.as_ref(),
                "me",
                Duration::from_secs(unchanged_for)
            ),
            wanted
        );
    }
}
