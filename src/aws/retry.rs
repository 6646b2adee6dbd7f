//! The retries of calls, within a call's own timeout. The SDK carries them out.

use super::rate_limit::Bucket;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};
use aws_smithy_types::retry::{self, RetryConfig};
use std::sync::Arc;

/// How many times a call is sent at most if AWS throttles it, within its timeout.
const ATTEMPTS: u32 = 4;

/// Returns the SDK's retry configuration. With [`OnlyThrottled`], the SDK retries only throttled
/// calls, so that a grant that has made ten calls need not repeat them because of the eleventh. The
/// reconciler decides about all other failures.
pub fn retry_config() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

/// Retry classifier that allows only the retry of a throttled call, and slows the service down at
/// once.
#[derive(Debug)]
pub struct OnlyThrottled(pub Arc<Bucket>);

impl ClassifyRetry for OnlyThrottled {
    fn classify_retry(&self, _: &InterceptorContext) -> RetryAction {
        RetryAction::RetryForbidden
    }

    fn classify_retry_v2(&self, _: &InterceptorContext, previous: &RetryAction) -> RetryAction {
        match previous {
            RetryAction::RetryIndicated(RetryReason::RetryableError {
                kind: retry::ErrorKind::ThrottlingError,
                ..
            }) => {
                self.0.throttled();
                RetryAction::NoActionIndicated
            }
            _ => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "OnlyThrottled"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}
