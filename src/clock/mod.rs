//! Wall time and randomness, passed in from the outside, so that a test can set both.
//!
//! - [`WallClock`]: the time of day. Durations are measured with `tokio::time::Instant` instead,
//!   which a test can pause.
//! - [`Random`]: jitter, and suffixes that must differ.
//!
//! Both are created where the process starts. No other part reads the system's time or a global
//! random number generator.

mod random;

pub use random::Random;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The time of day. Clones show the same time.
#[derive(Clone, Debug)]
pub struct WallClock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    /// This time at this moment, and from then on as tokio's time goes on.
    Set {
        time: Timestamp,
        at: Instant,
    },
}

impl WallClock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Returns a clock that shows this time now, and goes on with tokio's time: a test that pauses
    /// tokio's time pauses this clock, too.
    pub fn starting_at(time: Timestamp) -> Self {
        let at = Instant::now();
        Self(Source::Set { time, at })
    }

    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => Timestamp::now(),
            Source::Set { time, at } => later(time, at),
        }
    }
}

/// Returns the time now if it was `time` at this moment. Beyond the range of a timestamp, it stops.
pub fn later(time: Timestamp, at: Instant) -> Timestamp {
    let elapsed = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::ZERO);
    time.checked_add(elapsed).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn set_clock_moves_with_tokios_time() {
        let clock = WallClock::starting_at("2026-01-01T12:00:00Z".parse().unwrap());
        let clone = clock.clone();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T12:01:30Z");
        assert_eq!(clone.now(), clock.now());
    }

    #[test]
    fn system_clock_shows_the_systems_time() {
        let before = Timestamp::now();
        let shown = WallClock::system().now();
        assert!(before <= shown && shown <= Timestamp::now());
    }
}
