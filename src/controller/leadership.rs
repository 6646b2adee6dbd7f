//! Leadership: of several replicas one works, the others stand by. A Lease says which.
//!
//! The holder renews it well before it runs out, and no call that writes in AWS is begun unless the Lease outlives that call's whole
//! timeout: when another replica may take over, nothing of the old one's is on its way any more. How long a Lease still
//! holds is measured on each replica's own clock from what it saw itself, so that clocks need not agree.

use crate::api::conditions::Reason;
use crate::grant::Problem;
use crate::telemetry::health::Pulse;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The Lease's name, in the operator's own namespace.
pub const LEASE: &str = "registry-grants";

/// Until when this replica leads, as far as it knows.
#[derive(Debug)]
pub struct Leadership {
    until: Mutex<Option<Instant>>,
    call_timeout: Duration,
}

impl Leadership {
    /// Not yet.
    pub fn none(call_timeout: Duration) -> Self {
        Self { until: Mutex::new(None), call_timeout }
    }

    /// Without election: always. Far enough, for nothing runs a century.
    pub fn always(call_timeout: Duration) -> Self {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        Self { until: Mutex::new(Instant::now().checked_add(century)), call_timeout }
    }

    /// Whether a call may be begun: the lease outlives its timeout.
    ///
    /// # Errors
    /// When it does not, or there is none.
    pub fn may_write(&self) -> Result<(), Problem> {
        let until = *self.until.lock().expect("no panic while held");
        if until.is_some_and(|until| until > Instant::now() + self.call_timeout) {
            return Ok(());
        }
        Err(Problem::new(
            Reason::Unavailable,
            "the operator's lease is about to run out, so nothing more is begun; whoever leads next goes on",
        ))
    }

    fn extend(&self, until: Instant) {
        *self.until.lock().expect("no panic while held") = Some(until);
    }

    fn has_run_out(&self) -> bool {
        self.until.lock().expect("no panic while held").is_none_or(|until| until <= Instant::now())
    }
}

/// One replica's part in the election.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    duration: Duration,
    /// The Lease as last seen, and since when it has not changed.
    seen: Option<(Option<LeaseSpec>, Instant)>,
    /// Whether somebody else was ever seen to hold it: where the Lease is deleted, its holder may work on for a while.
    others_seen: bool,
    /// That the Lease is looked at again and again.
    pulse: Pulse,
}

/// What to do about the Lease.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// There is none: create it.
    Create,
    /// It is free, or its holder has not renewed it for its whole duration: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// How a look at the Lease went.
enum Round {
    /// It is ours, until then.
    Ours(Instant),
    /// Another replica holds it.
    Anothers,
    /// Somebody wrote it between our reading and our writing; the next look tells who has it.
    Changed,
}

impl Election {
    /// In this namespace, under this identity.
    pub fn new(client: Client, namespace: &str, identity: String, duration: Duration, pulse: Pulse) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, duration, seen: None, others_seen: false, pulse }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self, leadership: &Leadership) {
        let mut told = false;
        loop {
            match self.timed_round().await {
                Ok(Round::Ours(until)) => {
                    leadership.extend(until);
                    tracing::info!(identity = self.identity, "leading");
                    return;
                }
                Ok(Round::Anothers) if !told => {
                    told = true;
                    tracing::info!(identity = self.identity, "standing by: another replica leads");
                }
                Ok(Round::Anothers | Round::Changed) => {}
                Err(error) => tracing::warn!(%error, "the Lease cannot be read or written; trying again"),
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Renews the Lease until it is lost; says how.
    pub async fn hold(&mut self, leadership: &Leadership) -> String {
        loop {
            tokio::time::sleep(self.pause()).await;
            let failed = match self.timed_round().await {
                Ok(Round::Ours(until)) => {
                    leadership.extend(until);
                    continue;
                }
                Ok(Round::Anothers) => return "another replica has taken the Lease".into(),
                Ok(Round::Changed) => "somebody wrote the Lease at the same time".to_owned(),
                Err(error) => error,
            };
            if leadership.has_run_out() {
                return format!("the Lease could not be renewed in time: {failed}");
            }
            tracing::warn!("the Lease could not be renewed, trying again: {failed}");
        }
    }

    /// Gives the Lease back, so that the next replica need not wait for its end. Only after the last call has ended.
    pub async fn release(&mut self) {
        let released = async {
            let Some(lease) = self.leases.get_opt(LEASE).await? else { return Ok(()) };
            let held = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity);
            if held {
                let spec = LeaseSpec { holder_identity: None, ..lease.spec.clone().unwrap_or_default() };
                self.leases.replace(LEASE, &PostParams::default(), &Lease { spec: Some(spec), ..lease }).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "the Lease could not be given back; it runs out by itself");
        }
    }

    /// A look that ends: a connection that died without a word must not keep us from noticing that time is up.
    async fn timed_round(&mut self) -> Result<Round, String> {
        self.pulse.beat();
        let limit = self.pause();
        match tokio::time::timeout(limit, self.round()).await {
            Ok(round) => round.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the API server did not answer within {} ms", limit.as_millis())),
        }
    }

    /// Looks at the Lease and makes one move.
    async fn round(&mut self) -> Result<Round, Error> {
        let lease = self.leases.get_opt(LEASE).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let unchanged_for = self.observe(spec.clone());
        let holder = spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        self.others_seen |= !holder.is_empty() && holder != self.identity;
        let until = Instant::now() + self.duration;
        let missing_long_enough = !self.others_seen || unchanged_for > self.duration;
        let written = match decide(lease.is_some(), spec.as_ref(), &self.identity, unchanged_for) {
            Move::Create if !missing_long_enough => return Ok(Round::Anothers),
            Move::Wait => return Ok(Round::Anothers),
            Move::Create => {
                let metadata = ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(None)) };
                self.leases.create(&PostParams::default(), &lease).await
            }
            Move::Take | Move::Renew => {
                let lease = Lease { spec: Some(self.spec(spec)), ..lease.unwrap_or_default() };
                // With the version that was read: of two replicas that try at once one gets it.
                self.leases.replace(LEASE, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.observe(lease.spec);
                Ok(Round::Ours(until))
            }
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(Round::Changed),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let changes = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            renew_time: now.clone(),
            acquire_time: if ours { before.acquire_time } else { now },
            lease_transitions: Some(if ours { changes } else { changes.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    /// For how long the Lease has looked like this.
    fn observe(&mut self, spec: Option<LeaseSpec>) -> Duration {
        match &self.seen {
            Some((seen, since)) if *seen == spec => since.elapsed(),
            Some(_) | None => {
                self.seen = Some((spec, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Six times in a Lease's life: five may fail.
    fn pause(&self) -> Duration {
        self.duration / 6
    }
}

fn decide(exists: bool, spec: Option<&LeaseSpec>, identity: &str, unchanged_for: Duration) -> Move {
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let promised = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
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
        LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(30), ..LeaseSpec::default() }
    }

    #[rstest]
    #[case::none_yet(false, None, 0, Move::Create)]
    #[case::given_back(true, Some(LeaseSpec::default()), 0, Move::Take)]
    #[case::given_back_by_others(true, Some(held_by("")), 0, Move::Take)]
    #[case::mine(true, Some(held_by("me")), 100, Move::Renew)]
    #[case::anothers(true, Some(held_by("other")), 29, Move::Wait)]
    #[case::anothers_to_the_second(true, Some(held_by("other")), 30, Move::Wait)]
    #[case::not_renewed(true, Some(held_by("other")), 31, Move::Take)]
    fn a_lease_is_taken_only_when_it_is_free_or_was_not_renewed_for_its_whole_duration(
        #[case] exists: bool,
        #[case] spec: Option<LeaseSpec>,
        #[case] unchanged_for: u64,
        #[case] wanted: Move,
    ) {
        assert_eq!(decide(exists, spec.as_ref(), "me", Duration::from_secs(unchanged_for)), wanted);
    }

    #[test]
    fn no_call_is_begun_that_the_lease_may_not_outlive() {
        let leadership = Leadership::none(Duration::from_secs(10));
        assert!(leadership.may_write().is_err());
        leadership.extend(Instant::now() + Duration::from_secs(9));
        assert!(leadership.may_write().is_err());
        leadership.extend(Instant::now() + Duration::from_secs(60));
        assert!(leadership.may_write().is_ok());
        assert!(Leadership::always(Duration::from_secs(10)).may_write().is_ok());
    }
}
