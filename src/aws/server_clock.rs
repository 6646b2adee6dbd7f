//! AWS's time, from the `Date` header of its answers. A policy that ends sessions contains a date,
//! which AWS compares with the time at which it issued them; the operator's own clock may differ.

use crate::clock::{self, WallClock};
use aws_sdk_iam::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_iam::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// The time in one account, from AWS's last answer. Clones share it.
#[derive(Clone, Debug)]
pub struct ServerClock {
    /// The operator's own clock, which counts until AWS has answered.
    own: WallClock,
    last: Arc<Mutex<Option<Answered>>>,
}

/// The date of an answer, and the moment at which it arrived.
#[derive(Clone, Copy, Debug)]
struct Answered {
    date: Timestamp,
    at: Instant,
}

impl ServerClock {
    /// Creates a clock that shows the operator's own time until AWS has answered.
    pub fn new(own: WallClock) -> Self {
        Self {
            own,
            last: Arc::default(),
        }
    }

    /// Returns a client whose answers set this clock.
    pub fn set_by(&self, client: &aws_sdk_iam::Client) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::from_conf(
            client
                .config()
                .to_builder()
                .interceptor(self.clone())
                .build(),
        )
    }

    /// Returns AWS's time, at most a second late, or the operator's own time before the first
    /// answer with a date.
    pub fn now(&self) -> Timestamp {
        match *self.last.lock().expect("no panic while held") {
            Some(Answered { date, at }) => clock::later(date, at),
            None => self.own.now(),
        }
    }

    fn set(&self, date: &str) {
        match rfc2822::parse(date) {
            Ok(parsed) => {
                *self.last.lock().expect("no panic while held") = Some(Answered {
                    date: parsed.timestamp(),
                    at: Instant::now(),
                });
            }
            Err(error) => {
                tracing::debug!(date, %error, "failed to parse the date of an AWS response");
            }
        }
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context
            .response()
            .and_then(|response| response.headers().get("date"))
        {
            self.set(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at_midnight() -> ServerClock {
        let midnight = "2026-01-01T00:00:00Z".parse().unwrap();
        ServerClock::new(WallClock::starting_at(midnight))
    }

    #[tokio::test(start_paused = true)]
    async fn server_clock_moves_on_from_awss_last_answer() {
        let clock = at_midnight();
        clock.set("Thu, 01 Jan 2026 12:00:00 GMT");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T12:01:30Z");
        clock.set("Thu, 01 Jan 2026 11:00:00 GMT");
        assert_eq!(clock.now().to_string(), "2026-01-01T11:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn server_clock_ignores_an_unreadable_date() {
        let clock = at_midnight();
        for date in [
            "",
            "yesterday",
            "2026-01-01T12:00:00Z",
            "Thu, 99 Jan 2026 12:00:00 GMT",
        ] {
            clock.set(date);
        }
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00Z");
    }
}
