//! AWS clients of the SDK, for the identity of given credentials: an account's root, or a role's
//! session.

use crate::wait::BOUND;
use anyhow::{Error, Result, anyhow};
use aws_credential_types::Credentials;
use aws_sdk_ecr as ecr;
use aws_sdk_iam as iam;
use aws_sdk_sts as sts;
use iam::config::SharedHttpClient;
use iam::error::{DisplayErrorContext, ProvideErrorMetadata};

/// The region of IAM and STS, and the default region of repositories.
pub const REGION: &str = "us-east-1";
/// The name that identifies our own calls in the call log.
pub(crate) const APP_NAME: &str = "local-stack";

/// The clients of one identity. They belong to one async runtime: each test creates its own, and
/// does not share them with other tests.
#[derive(Clone, Debug)]
pub struct Aws {
    http: SharedHttpClient,
    endpoint: String,
    credentials: Credentials,
    /// IAM.
    pub iam: iam::Client,
    /// STS.
    pub sts: sts::Client,
    /// ECR in us-east-1; other regions by [`Aws::ecr_in`].
    pub ecr: ecr::Client,
}

macro_rules! client {
    ($service:ident, $http:expr, $endpoint:expr, $credentials:expr, $region:expr) => {{
        let timeouts = $service::config::timeout::TimeoutConfig::builder()
            .operation_timeout(BOUND)
            .build();
        let name = $service::config::AppName::new(APP_NAME).expect("letters and a hyphen");
        $service::Client::from_conf(
            $service::Config::builder()
                .behavior_version_latest()
                .http_client($http.clone())
                .endpoint_url($endpoint)
                .credentials_provider($credentials.clone())
                .region($service::config::Region::new(String::from($region)))
                .timeout_config(timeouts)
                .app_name(name)
                .build(),
        )
    }};
}

impl Aws {
    pub(crate) fn new(endpoint: &str, credentials: Credentials) -> Self {
        // The SDK's own client would use a proxy from the developer's environment, even for our
        // loopback address.
        let http = aws_smithy_http_client::Builder::new().build_http();
        Self {
            iam: client!(iam, http, endpoint, credentials, REGION),
            sts: client!(sts, http, endpoint, credentials, REGION),
            ecr: client!(ecr, http, endpoint, credentials, REGION),
            http,
            endpoint: endpoint.to_owned(),
            credentials,
        }
    }

    /// Creates the clients of the account's root: the emulation accepts the account ID as the
    /// root's access key. The root may do everything in the account.
    pub(crate) fn root(endpoint: &str, account: &str) -> Self {
        Self::new(
            endpoint,
            Credentials::new(account, "root", None, None, "the account's root"),
        )
    }

    /// Creates the ECR client of a region.
    pub fn ecr_in(&self, region: &str) -> ecr::Client {
        client!(
            ecr,
            self.http,
            self.endpoint.as_str(),
            self.credentials,
            region
        )
    }

    /// Returns the credentials of the clients.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// Returns the error code of AWS; `None` if AWS did not answer.
pub(crate) fn code<E>(error: &iam::error::SdkError<E>) -> Option<&str>
where
    iam::error::SdkError<E>: ProvideErrorMetadata,
{
    error.code()
}

/// Adds the action to an SDK error.
pub(crate) fn failed<E: std::error::Error>(
    what: impl std::fmt::Display,
) -> impl FnOnce(E) -> Error {
    move |error| anyhow!("{what}: {}", DisplayErrorContext(error))
}

/// Returns the error text if the call was refused for lack of permission; any other failure is an
/// error, not a denial.
pub(crate) fn denied<T, E>(
    result: std::result::Result<T, iam::error::SdkError<E>>,
    what: impl std::fmt::Display,
) -> Result<std::result::Result<T, String>>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match (code(&error), error.message()) {
            (Some(code @ ("AccessDenied" | "AccessDeniedException")), message) => Ok(Err(format!(
                "{what}: {code}: {}",
                message.unwrap_or_default()
            ))),
            _ => Err(failed(what)(error)),
        },
    }
}
