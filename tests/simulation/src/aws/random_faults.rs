//! Faults by chance, from a seed.

use super::answer::ApiError;
use super::faults::{After, Before, Delivery, Faults, Instead};
use super::observe::{Call, Outcome};
use std::sync::Mutex;
use std::time::Duration;

/// How likely each fault is, from 0 to 1. The default is that none ever happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Odds {
    /// AWS throttles the call.
    pub throttled: f64,
    /// AWS fails, with status 500 or 503.
    pub failed: f64,
    /// The connection is reset before the call takes effect.
    pub reset: f64,
    /// The connection is reset after the call took effect.
    pub lost: f64,
    /// The connection stays open without an answer, before or after the call took effect.
    pub silent: f64,
    /// The answer is cut off.
    pub cut: f64,
    /// Something else answers in AWS's place, before or after the call took effect.
    pub replaced: f64,
    /// The call, or its answer, is on its way for a while.
    pub delayed: f64,
    /// The longest delay of a call, and of an answer.
    pub longest_delay: Duration,
    /// The call sees an earlier state.
    pub lagging: f64,
    /// The longest lag.
    pub longest_lag: Duration,
}

/// Faults by chance. The same seed and the same calls give the same faults.
#[derive(Debug)]
pub struct RandomFaults {
    odds: Odds,
    rng: Mutex<fastrand::Rng>,
}

impl RandomFaults {
    /// Creates faults with these odds.
    pub fn new(seed: u64, odds: Odds) -> Self {
        Self {
            odds,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }
}

fn happens(rng: &mut fastrand::Rng, odds: f64) -> bool {
    odds > 0.0 && rng.f64() < odds
}

fn part_of(rng: &mut fastrand::Rng, odds: f64, longest: Duration) -> Duration {
    if happens(rng, odds) {
        longest.mul_f64(rng.f64())
    } else {
        Duration::ZERO
    }
}

/// Returns the status and body of an answer that is not AWS's.
fn of_another(rng: &mut fastrand::Rng) -> (u16, String) {
    let status = *rng.choice(&[200, 403, 429, 502]).unwrap_or(&502);
    let bodies = ["", "<html>proxy</html>", "{}"];
    (status, (*rng.choice(&bodies).unwrap_or(&"")).into())
}

impl Faults for RandomFaults {
    fn before(&self, call: &Call) -> Before {
        let odds = &self.odds;
        let rng = &mut *self.rng.lock().expect("no panic while held");
        let instead = if happens(rng, odds.throttled) {
            Some(Instead::Error(ApiError::throttled(call.service)))
        } else if happens(rng, odds.failed) {
            let error = match rng.bool() {
                true => ApiError::internal(call.service),
                false => ApiError::unavailable(),
            };
            Some(Instead::Error(error))
        } else if happens(rng, odds.reset) {
            Some(Instead::Reset)
        } else if happens(rng, odds.silent) {
            Some(Instead::Silence)
        } else if happens(rng, odds.replaced) {
            let (status, body) = of_another(rng);
            Some(Instead::Answer(status, body))
        } else {
            None
        };
        Before {
            delay: part_of(rng, odds.delayed, odds.longest_delay),
            lag: part_of(rng, odds.lagging, odds.longest_lag),
            instead,
        }
    }

    fn after(&self, _: &Call, _: &Outcome) -> After {
        let odds = &self.odds;
        let rng = &mut *self.rng.lock().expect("no panic while held");
        let delivery = if happens(rng, odds.lost) {
            Delivery::Lost
        } else if happens(rng, odds.cut) {
            Delivery::Truncated(rng.usize(..400))
        } else if happens(rng, odds.silent) {
            Delivery::Silence
        } else if happens(rng, odds.replaced) {
            let (status, body) = of_another(rng);
            Delivery::Replaced(status, body)
        } else {
            Delivery::Whole
        };
        After {
            delay: part_of(rng, odds.delayed, odds.longest_delay),
            delivery,
        }
    }
}
