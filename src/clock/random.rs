//! A source of random numbers that a test can seed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A source of random numbers, which are not secret. Clones draw from one sequence.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// Returns a source that differs in every process.
    pub fn from_entropy() -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// Returns a source whose sequence this seed determines.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Returns a number of at least 0 and less than 1.
    pub fn fraction(&self) -> f64 {
        self.lock().f64()
    }

    /// Returns any number.
    pub fn number(&self) -> u32 {
        self.lock().u32(..)
    }

    /// Returns a duration between `from` times and `to` times this one.
    pub fn jitter(&self, duration: Duration, from: f64, to: f64) -> Duration {
        duration.mul_f64(from + (to - from) * self.fraction())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.0.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let first = Random::seeded(7);
        let second = Random::seeded(7);
        let other = Random::seeded(8);
        let numbers = [first.number(), first.number()];
        assert_eq!([second.number(), second.number()], numbers);
        assert_ne!([other.number(), other.number()], numbers);
    }

    #[test]
    fn clones_draw_from_one_sequence() {
        let shared = Random::seeded(7);
        let alone = Random::seeded(7);
        let drawn = [shared.number(), shared.clone().number()];
        assert_eq!([alone.number(), alone.number()], drawn);
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let random = Random::seeded(7);
        let pause = Duration::from_secs(10);
        for _ in 0..1000 {
            let jittered = random.jitter(pause, 0.8, 1.2);
            assert!((pause.mul_f64(0.8)..=pause.mul_f64(1.2)).contains(&jittered));
        }
        assert_eq!(random.jitter(Duration::ZERO, 0.8, 1.2), Duration::ZERO);
    }
}
