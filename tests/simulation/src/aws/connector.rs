//! The HTTP connector of the SDK: it carries requests to a world instead of a network.

use super::faults::{Before, Delivery, Instead};
use super::observe::Outcome;
use super::regions;
use super::request::{Arrived, Headers, Service};
use super::world::{Answered, World};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use registry_grants::clock::WallClock;
use std::io;
use std::time::{Duration, SystemTime};

impl World {
    /// Returns an HTTP client whose requests reach this world.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// Returns a configuration with these credentials, as the operator's own would be: without
    /// retries, with a bound on each call, and with `clock` as the time of the caller, which may
    /// differ from AWS's.
    pub fn sdk_config(
        &self,
        credentials: Credentials,
        call_timeout: Duration,
        clock: WallClock,
    ) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(call_timeout)
            .operation_attempt_timeout(call_timeout)
            .build();
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http_client())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .region(Region::new("us-east-1"))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(CallersTime(clock)))
            .build()
    }
}

/// The time of the SDK's caller.
#[derive(Debug)]
struct CallersTime(WallClock);

impl TimeSource for CallersTime {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

impl HttpClient for World {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for World {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.clone();
        HttpConnectorFuture::new(async move { world.answer(request).await })
    }
}

impl World {
    async fn answer(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        // The SDK takes a request whose body is not read for one that stalls.
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let body = ByteStream::new(body)
            .collect()
            .await
            .map_err(|error| ConnectorError::io(error.into()))?
            .into_bytes();
        let headers = Headers {
            authorization: request.headers().get("authorization").unwrap_or_default(),
            token: request.headers().get("x-amz-security-token"),
            target: request.headers().get("x-amz-target"),
        };
        let arrived = Arrived::read(&headers, &body)
            .map_err(|what| ConnectorError::user(format!("the simulated AWS: {what}").into()))?;
        if regions::named(&arrived.region).is_none() {
            return Err(unresolved());
        }
        self.carry(&arrived).await
    }

    async fn carry(&self, arrived: &Arrived) -> Result<HttpResponse, ConnectorError> {
        let call = self.core().arrive(arrived);
        let faults = self.faults();
        let before = faults
            .as_ref()
            .map(|faults| faults.before(&call))
            .unwrap_or_default();
        let Before {
            delay,
            lag,
            instead,
        } = before;
        pause(delay).await;
        let (answered, outcome) = match instead {
            None => {
                let token = arrived.token.as_deref();
                self.core().carry_out(&call, token, lag)
            }
            Some(Instead::Error(error)) => self.core().refuse(&call, error),
            Some(other) => {
                self.core().decided(&call, Outcome::NotReached);
                return self.not_reached(arrived.service, other).await;
            }
        };
        let after = faults
            .map(|faults| faults.after(&call, &outcome))
            .unwrap_or_default();
        pause(after.delay).await;
        self.deliver(arrived.service, answered, after.delivery)
            .await
    }

    async fn not_reached(
        &self,
        service: Service,
        instead: Instead,
    ) -> Result<HttpResponse, ConnectorError> {
        match instead {
            Instead::Answer(status, body) => {
                let request_id = self.core().ids.request();
                let answered = Answered {
                    status,
                    body,
                    request_id,
                };
                self.response(service, answered)
            }
            Instead::Silence => std::future::pending().await,
            Instead::Unresolved => Err(unresolved()),
            Instead::Reset | Instead::Error(_) => Err(reset()),
        }
    }

    async fn deliver(
        &self,
        service: Service,
        answered: Answered,
        delivery: Delivery,
    ) -> Result<HttpResponse, ConnectorError> {
        match delivery {
            Delivery::Whole => self.response(service, answered),
            Delivery::Lost => Err(reset()),
            Delivery::Silence => std::future::pending().await,
            Delivery::Truncated(bytes) => {
                let mut body = answered.body;
                let end = (0..=bytes.min(body.len()))
                    .rev()
                    .find(|end| body.is_char_boundary(*end));
                body.truncate(end.unwrap_or_default());
                self.response(service, Answered { body, ..answered })
            }
            Delivery::Replaced(status, body) => {
                let replaced = Answered {
                    status,
                    body,
                    ..answered
                };
                self.response(service, replaced)
            }
        }
    }

    fn response(
        &self,
        service: Service,
        answered: Answered,
    ) -> Result<HttpResponse, ConnectorError> {
        let Answered {
            status,
            body,
            request_id,
        } = answered;
        let status =
            StatusCode::try_from(status).map_err(|error| ConnectorError::user(error.into()))?;
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        let content_type = match service {
            Service::Iam | Service::Sts => "text/xml",
            Service::Ecr => "application/x-amz-json-1.1",
        };
        let headers = response.headers_mut();
        headers.insert("x-amzn-requestid", request_id);
        headers.insert("content-type", content_type);
        headers.insert("date", http_date(self.now()));
        Ok(response)
    }
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn reset() -> ConnectorError {
    let error = io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer");
    ConnectorError::io(Box::new(error))
}

/// Returns the error of a host that does not exist, by the words of the SDK's own connector.
fn unresolved() -> ConnectorError {
    let text = "client error (Connect): dns error: failed to lookup address information: Name or service not known";
    ConnectorError::io(Box::new(io::Error::other(text)))
}

fn http_date(time: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&time)
        .unwrap_or_default()
}
