//! Host names that do not resolve: either the region is mistyped, or name resolution fails where
//! the operator runs.

use super::causes::causes;
use std::error::Error;

/// Returns whether a call failed because its host name did not resolve. The client's error shows
/// that only in its text.
pub(super) fn is_unresolved(error: &(dyn Error + 'static)) -> bool {
    let mut words = causes(error).map(ToString::to_string);
    words.any(|cause| cause.contains("dns error") || cause.contains("failed to lookup address"))
}

#[cfg(test)]
mod tests {
    use super::super::error::{AwsError, CallSite, ErrorKind};
    use super::*;
    use crate::api::conditions::Reason;
    use crate::grant::Problem;

    fn unresolved_in(region: &str) -> Problem {
        let at = CallSite {
            account: "111111111111".parse().unwrap(),
            region: Some(region.into()),
            action: "ecr:GetRepositoryPolicy",
            resource: "repository app".into(),
        };
        let detail = "dispatch failure: io error: client error (Connect): dns error".into();
        AwsError {
            class: ErrorKind::Unresolved,
            code: "NoConnection".into(),
            at,
            detail,
        }
        .into()
    }

    #[test]
    fn mistyped_region_differs_from_failing_name_resolution() {
        let mistyped = unresolved_in("us-esat-1");
        assert_eq!(mistyped.reason, Reason::RegionNotFound);
        assert!(
            mistyped.message.contains("the closest name is `us-east-1`"),
            "{}",
            mistyped.message
        );
        let outage = unresolved_in("us-east-1");
        assert_eq!(outage.reason, Reason::HostNotResolved);
        assert!(!outage.message.contains("nearest"), "{}", outage.message);
    }

    #[tokio::test]
    async fn unresolved_host_is_recognised_by_the_clients_error() {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_sts::config::Region::new("us-east-1"))
            .endpoint_url("http://no-such-host.invalid")
            .retry_config(aws_sdk_sts::config::retry::RetryConfig::disabled())
            .credentials_provider(aws_sdk_sts::config::Credentials::new(
                "a", "b", None, None, "test",
            ))
            .build();
        let error = aws_sdk_sts::Client::from_conf(config)
            .get_caller_identity()
            .send()
            .await
            .unwrap_err();
        assert!(is_unresolved(&error), "{error:?}");
    }
}
