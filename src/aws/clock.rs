//! AWS's time, from the `Date` header of its answers. A policy that ends sessions contains a date,
//! which AWS compares with the time at which it issued them; the operator's own clock may differ.

use aws_sdk_iam::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_iam::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// The time in one account, from AWS's last answer.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl Clock {
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
        let Some((date, heard)) = *self.0.lock().expect("no panic while held") else {
            return Timestamp::now();
        };
        let since = SignedDuration::try_from(heard.elapsed()).unwrap_or(SignedDuration::ZERO);
        date.checked_add(since).unwrap_or(date)
    }

    fn hear(&self, date: &str) {
        match rfc2822::parse(date) {
            Ok(date) => {
                *self.0.lock().expect("no panic while held") =
                    Some((date.timestamp(), Instant::now()))
            }
            Err(error) => {
                tracing::debug!(date, %error, "AWS's answer has no date that can be read")
            }
        }
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
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
            self.hear(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_awss_last_answer_and_goes_on() {
        let clock = Clock::default();
        clock.hear("Thu, 01 Jan 2026 12:00:00 GMT");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T12:01:30Z");
        clock.hear("Thu, 01 Jan 2026 11:00:00 GMT");
        assert_eq!(clock.now().to_string(), "2026-01-01T11:00:00Z");
    }

    #[tokio::test]
    async fn an_unreadable_date_changes_nothing() {
        let clock = Clock::default();
        for date in [
            "",
            "yesterday",
            "2026-01-01T12:00:00Z",
            "Thu, 99 Jan 2026 12:00:00 GMT",
        ] {
            clock.hear(date);
        }
        assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(5));
    }
}
