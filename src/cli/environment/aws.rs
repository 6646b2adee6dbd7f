//! The SDK's configuration, from the environment.

use super::ca_bundle;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_smithy_http_client::proxy::ProxyConfig;
use std::path::PathBuf;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the CA bundle if the environment names one.
///
/// # Errors
/// When the file cannot be read, or a certificate in it cannot be used.
pub fn check_ca_bundle() -> Result<(), String> {
    match ca_bundle_path() {
        Some(path) => ca_bundle::certificates(&path).map(drop),
        None => Ok(()),
    }
}

/// Loads the configuration with the ambient credentials: environment, IRSA, Pod Identity, profile,
/// instance profile. Honours `AWS_ENDPOINT_URL`. Turns the SDK's own retries off: of the failed
/// calls, the clients of `aws::Account` retry only throttled ones, and the reconciler decides about
/// the others. `call_timeout` bounds an entire call, including its wait for the rate limit.
pub async fn load(call_timeout: Duration) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(call_timeout)
        .operation_attempt_timeout(call_timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .build();
    let app_name = AppName::new("registry-grants").expect("only letters and a hyphen");
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // Only the environment sets the region: asking the instance metadata would be slow where
        // there is none, and each account's own home region serves as well.
        .region(EnvironmentVariableRegionProvider::new())
        .app_name(app_name);
    match ca_bundle::http_client(ca_bundle_path().as_deref(), ProxyConfig::from_env()) {
        Ok(client) => loader = loader.http_client(client),
        Err(error) => {
            tracing::error!(
                error,
                "failed to load the CA bundle, using the system's certificates"
            );
        }
    }
    loader.load().await
}

fn ca_bundle_path() -> Option<PathBuf> {
    let path = std::env::var_os(ca_bundle::VARIABLE)?;
    if path.is_empty() {
        None
    } else {
        Some(path.into())
    }
}
