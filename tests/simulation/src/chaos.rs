//! Random faults of AWS and of the API server, until they are switched off.

use crate::api_server::observe::{self as api, Disturbance, Fault, Phase, WatchFault};
use crate::api_server::request::{self, Verb};
use crate::api_server::store;
use crate::aws::{After, Before, Call, Delivery, Faults, Instead, Odds, Outcome, RandomFaults};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often something goes wrong, each from 0 to 1 for one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Calls to AWS.
    pub aws: f64,
    /// Requests to the API server.
    pub api: f64,
    /// Events of a watch.
    pub watch: f64,
}

/// Source of faults. Clones are the same source.
#[derive(Clone, Debug)]
pub struct Chaos(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None`: AWS has no faults any more.
    aws: Option<RandomFaults>,
    rates: Rates,
    random: fastrand::Rng,
    caused: BTreeMap<String, u64>,
}

impl Chaos {
    /// Creates a source whose faults this seed determines.
    pub fn new(seed: u64, rates: Rates) -> Self {
        Self(Arc::new(Mutex::new(State {
            aws: Some(RandomFaults::new(seed, odds(rates.aws))),
            rates,
            random: fastrand::Rng::with_seed(seed),
            caused: BTreeMap::new(),
        })))
    }

    /// Ends all faults.
    pub fn stop(&self) {
        let mut state = self.state();
        state.aws = None;
        state.rates = Rates::default();
    }

    /// Returns how often each kind of fault was caused.
    pub fn caused(&self) -> BTreeMap<String, u64> {
        self.state().caused.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }
}

impl State {
    /// Draws whether something goes wrong, and then which of `kinds` things.
    fn draw(&mut self, rate: f64, kinds: usize) -> Option<usize> {
        if self.random.f64() < rate {
            Some(self.random.usize(..kinds))
        } else {
            None
        }
    }

    fn count(&mut self, what: String) {
        *self.caused.entry(what).or_default() += 1;
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(1..=most))
    }
}

impl Faults for Chaos {
    fn before(&self, call: &Call) -> Before {
        let mut state = self.state();
        let Some(faults) = &state.aws else {
            return Before::default();
        };
        let before = faults.before(call);
        let name = match &before {
            Before {
                instead: Some(instead),
                ..
            } => Some(name_of(instead)),
            Before { lag, .. } if !lag.is_zero() => Some("late visibility"),
            Before { delay, .. } if !delay.is_zero() => Some("delayed"),
            Before { .. } => None,
        };
        if let Some(name) = name {
            state.count(format!("{}: {name}", call.action()));
        }
        before
    }

    fn after(&self, call: &Call, outcome: &Outcome) -> After {
        let mut state = self.state();
        let Some(faults) = &state.aws else {
            return After::default();
        };
        let after = faults.after(call, outcome);
        let name = match &after.delivery {
            Delivery::Whole => None,
            Delivery::Lost => Some("answer lost"),
            Delivery::Silence => Some("answer silent"),
            Delivery::Truncated(_) => Some("answer truncated"),
            Delivery::Replaced(_, _) => Some("answer replaced"),
        };
        if let Some(name) = name {
            state.count(format!("{}: {name}", call.action()));
        }
        after
    }
}

fn name_of(instead: &Instead) -> &str {
    match instead {
        Instead::Error(error) => &error.code,
        Instead::Reset => "reset",
        Instead::Unresolved => "unresolved",
        Instead::Silence => "silent",
        Instead::Answer(_, _) => "answer of a proxy",
    }
}

/// Returns odds with which something goes wrong before or with about this share of all calls.
fn odds(rate: f64) -> Odds {
    let each = rate / 9.0;
    Odds {
        throttled: each,
        failed: each * 2.0,
        reset: each,
        lost: each,
        silent: each,
        cut: each,
        replaced: each,
        delayed: each,
        longest_delay: Duration::from_secs(15),
        lagging: each,
        longest_lag: Duration::from_secs(10),
    }
}

impl api::Faults for Chaos {
    fn on_request(&mut self, call: &request::Call, phase: Phase) -> Disturbance {
        let mut state = self.state();
        let rate = match phase {
            Phase::Before => state.rates.api,
            Phase::After => state.rates.api / 2.0,
        };
        let Some(kind) = state.draw(rate, 6) else {
            return Disturbance::default();
        };
        let status = |code, retry_after| Fault::Status { code, retry_after };
        let (name, fault) = match (kind, phase) {
            (0, Phase::Before) => ("throttled", Some(status(429, Some(1)))),
            (1, _) => ("internal error", Some(status(500, None))),
            (2, _) => ("disconnected", Some(Fault::Disconnect)),
            (3, Phase::Before) if call.verb == Verb::Watch => ("deaf", Some(Fault::Deaf)),
            (3, Phase::Before) if call.verb.writes() => ("conflict", Some(status(409, None))),
            (4, _) => ("hanging", Some(Fault::Hang)),
            _ => ("delayed", None),
        };
        let delay = if fault.is_none() {
            state.millis(5_000)
        } else {
            Duration::ZERO
        };
        let when = if phase == Phase::After { "answer " } else { "" };
        state.count(format!("{} {:?}: {when}{name}", call.verb, call.kind));
        Disturbance { delay, fault }
    }

    fn on_event(&mut self, watch: &request::Call, _: &store::Change) -> Option<WatchFault> {
        let mut state = self.state();
        let rate = state.rates.watch;
        let kind = state.draw(rate, 5)?;
        let (name, fault) = match kind {
            0 => ("disconnected", WatchFault::Disconnect),
            1 => ("ended", WatchFault::End),
            2 => ("silent", WatchFault::Silence),
            3 => ("delayed", WatchFault::Delay(state.millis(20_000))),
            _ => ("expired", WatchFault::Expire),
        };
        state.count(format!("events of {:?}: {name}", watch.kind));
        Some(fault)
    }
}
