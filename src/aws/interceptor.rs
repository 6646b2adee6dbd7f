//! Wraps every call of an account's clients with the rate limit, metrics, a span and the check that
//! the answer is complete. It is part of the clients themselves, so that no call can bypass it.

use super::answer;
use super::error::{AwsError, ErrorCode, ErrorKind, class_of_assume_role};
use super::rate_limit::{self, Bucket, Buckets, RateLimited};
use super::retry::{OnlyThrottled, retry_config};
use crate::grant::AccountId;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::{OfCall, OfOperation, OfService};
use crate::telemetry::traces;
use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_sts::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextRef,
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_sts::config::{
    ConfigBag, IdentityCache, Intercept, ResolveCachedIdentity, RuntimeComponents,
    RuntimeComponentsBuilder, SharedIdentityCache,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{IdentityFuture, SharedIdentityResolver};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::retry::RetryConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, Span};

#[cfg(test)]
mod tests;

/// The part of a call's timeout that the call may wait for the rate limit. The rest must suffice
/// for the call itself.
const WAITS_AT_MOST: f64 = 0.75;

/// Rate limit and metrics for the calls in one account.
#[derive(Debug)]
pub struct Observer {
    account: String,
    metrics: Metrics,
    buckets: Arc<Buckets>,
    call_timeout: Duration,
}

impl Observer {
    /// Creates the observer of this account.
    pub fn of(
        account: &AccountId,
        metrics: &Metrics,
        buckets: &Arc<Buckets>,
        call_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            account: account.to_string(),
            metrics: metrics.clone(),
            buckets: buckets.clone(),
            call_timeout,
        })
    }

    /// Wraps credentials so that every renewal is rate limited, counted and traced.
    pub fn credentials(self: &Arc<Self>, provider: AssumeRoleProvider) -> AssumedRole {
        AssumedRole {
            provider,
            observer: self.clone(),
        }
    }

    /// Returns the configuration for clients whose calls wait for the rate limit.
    pub fn paced(self: &Arc<Self>, config: SdkConfig) -> SdkConfig {
        let cache = config
            .identity_cache()
            .unwrap_or_else(|| IdentityCache::lazy().build());
        config
            .into_builder()
            .identity_cache(Turns {
                cache,
                observer: self.clone(),
            })
            .build()
    }

    /// Creates an IAM client.
    pub fn iam(self: &Arc<Self>, config: &SdkConfig) -> aws_sdk_iam::Client {
        let config = aws_sdk_iam::config::Builder::from(config)
            .interceptor(Seen(self.clone()))
            .retry_config(retry_config())
            .retry_classifier(OnlyThrottled(self.bucket("iam")));
        aws_sdk_iam::Client::from_conf(config.build())
    }

    /// Creates an STS client.
    pub fn sts(self: &Arc<Self>, config: &SdkConfig) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(config)
            .interceptor(Seen(self.clone()))
            .retry_config(retry_config())
            .retry_classifier(OnlyThrottled(self.bucket("sts")));
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// Creates an ECR client.
    pub fn ecr(self: &Arc<Self>, config: &SdkConfig) -> aws_sdk_ecr::Client {
        let config = aws_sdk_ecr::config::Builder::from(config)
            .interceptor(Seen(self.clone()))
            .retry_config(retry_config())
            .retry_classifier(OnlyThrottled(self.bucket("ecr")));
        aws_sdk_ecr::Client::from_conf(config.build())
    }

    /// Counts a failed call. (A failure to assume the role was counted by [`AssumedRole`] already,
    /// because many calls may have waited for it.)
    pub fn failed(&self, fault: &AwsError) {
        let (service, name) = fault.at.action.split_once(':').unwrap_or_default();
        let operation = Operation {
            service: known(service),
            name,
        };
        if operation == ASSUME_ROLE {
            return;
        }
        let result = if fault.code() == ErrorCode::RateLimited {
            "held_back"
        } else {
            fault.class.label()
        };
        self.ended(operation, result);
    }

    /// Waits until the rate limit allows a call that began at `begun`.
    async fn turn(&self, operation: Operation<'_>, begun: Instant) -> Result<(), RateLimited> {
        let bucket = self.bucket(operation.service);
        let longest = self
            .call_timeout
            .mul_f64(WAITS_AT_MOST)
            .saturating_sub(begun.elapsed());
        let turn = bucket.turn(operation.has_many_authors(), longest).await;
        let waited = turn.as_ref().map_or(longest, |waited| *waited);
        self.metrics
            .aws_wait
            .get_or_create(&self.service(operation.service))
            .observe(waited.as_secs_f64());
        self.record_rate(operation.service);
        turn.map(drop)
    }

    fn ended(&self, operation: Operation<'_>, result: &'static str) {
        if result == ErrorKind::Throttled.label() {
            self.bucket(operation.service).throttled();
            self.record_rate(operation.service);
        }
        self.count(operation, result);
    }

    fn count(&self, operation: Operation<'_>, result: &'static str) {
        let of = OfCall {
            account: self.account.clone(),
            service: operation.service,
            operation: operation.name.to_owned(),
            result,
        };
        self.metrics.aws_calls.get_or_create(&of).inc();
        self.metrics.queue.moved();
    }

    fn took(&self, operation: Operation<'_>, begun: Instant) {
        let of = OfOperation {
            service: operation.service,
            operation: operation.name.to_owned(),
        };
        self.metrics
            .aws_call_duration
            .get_or_create(&of)
            .observe(begun.elapsed().as_secs_f64());
    }

    fn record_rate(&self, service: &'static str) {
        self.metrics
            .aws_rate
            .get_or_create(&self.service(service))
            .set(self.bucket(service).per_second());
    }

    fn bucket(&self, service: &'static str) -> Arc<Bucket> {
        self.buckets.of(&self.account, service)
    }

    fn service(&self, service: &'static str) -> OfService {
        OfService {
            account: self.account.clone(),
            service,
        }
    }
}

/// An operation of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation<'a> {
    /// The service's label: `ecr`, `iam`, `sts` or `other`.
    service: &'static str,
    /// The operation's name in the service's API.
    name: &'a str,
}

const ASSUME_ROLE: Operation<'static> = Operation {
    service: "sts",
    name: "AssumeRole",
};

impl<'a> Operation<'a> {
    /// Returns the operation of the call in progress.
    fn of(config: &'a ConfigBag) -> Self {
        match config.load::<Metadata>() {
            Some(call) => Self {
                service: known(call.service()),
                name: call.name(),
            },
            None => Self {
                service: "other",
                name: "unknown",
            },
        }
    }

    /// Returns whether the operation replaces an entire document that others write, too. The
    /// operator reads the document right before the call, so the call goes ahead of others in the
    /// rate limit, and is not retried without another read.
    fn has_many_authors(self) -> bool {
        [
            "SetRepositoryPolicy",
            "DeleteRepositoryPolicy",
            "UpdateAssumeRolePolicy",
        ]
        .contains(&self.name)
    }
}

/// Returns the label of a service that the operator calls.
fn known(service: &str) -> &'static str {
    ["ecr", "iam", "sts"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(service))
        .unwrap_or("other")
}

/// Identity cache that resolves credentials only when the rate limit allows the call: the SDK signs
/// and sends the call right after.
#[derive(Debug)]
struct Turns {
    cache: SharedIdentityCache,
    observer: Arc<Observer>,
}

impl ResolveCachedIdentity for Turns {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let begun = config
                .load::<Begun>()
                .map_or_else(Instant::now, |Begun(at)| *at);
            self.observer.turn(Operation::of(config), begun).await?;
            self.cache
                .resolve_cached_identity(resolver, components, config)
                .await
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.cache.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.cache.validate_final_config(components, config)
    }
}

/// Interceptor that observes the beginning and the end of a client's calls. [`Observer::failed`]
/// counts failures by their meaning.
#[derive(Debug)]
struct Seen(Arc<Observer>);

/// The span of a call in progress.
#[derive(Debug)]
struct Going(Span);

impl Storable for Going {
    type Storer = StoreReplace<Self>;
}

/// The time at which the call began, with all its attempts.
#[derive(Debug)]
struct Begun(Instant);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

/// The time at which the call was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// The body of the request.
#[derive(Debug)]
struct Asked(Vec<u8>);

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Seen {
    fn name(&self) -> &'static str {
        "Seen"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = Operation::of(config);
        let span = traces::aws_call(&self.0.account, operation.service, operation.name);
        config.interceptor_state().store_put(Going(span));
        config.interceptor_state().store_put(Begun(Instant::now()));
        Ok(())
    }

    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if Operation::of(config).has_many_authors() {
            config
                .interceptor_state()
                .store_put(RetryConfig::disabled());
        }
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Only a throttled call has another attempt. The previous attempt is counted here
        // (`OnlyThrottled` slowed the service down); the last one is counted at the end.
        if config
            .load::<RequestAttempts>()
            .is_some_and(|attempts| attempts.attempts() > 1)
        {
            self.0
                .count(Operation::of(config), ErrorKind::Throttled.label());
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        rate_limit::in_time()?;
        let request = context
            .request()
            .body()
            .bytes()
            .unwrap_or_default()
            .to_vec();
        config.interceptor_state().store_put(Asked(request));
        config.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // AWS errors are classified by their code, see `AwsError`.
        if context.output_or_error().is_err() {
            return Ok(());
        }
        let request = config
            .load::<Asked>()
            .map(|Asked(request)| request.as_slice())
            .unwrap_or_default();
        let answer = context.response().body().bytes().unwrap_or_default();
        Ok(answer::check(Operation::of(config).name, request, answer)?)
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = Operation::of(config);
        let succeeded = context
            .output_or_error()
            .is_some_and(|result| result.is_ok());
        if succeeded {
            self.0.ended(operation, "ok");
            if let Some(Sent(at)) = config.load::<Sent>() {
                self.0.took(operation, *at);
            }
        }
        if let Some(Going(span)) = config.load::<Going>() {
            span.record("result", if succeeded { "ok" } else { "error" });
            if let Some(id) = context
                .response()
                .and_then(|response| response.headers().get("x-amzn-requestid"))
            {
                span.record("aws.request_id", id);
            }
        }
        Ok(())
    }
}

/// The credentials of an account's role.
#[derive(Debug)]
pub struct AssumedRole {
    provider: AssumeRoleProvider,
    observer: Arc<Observer>,
}

impl AssumedRole {
    async fn assume(&self) -> provider::Result {
        let observer = &self.observer;
        if let Err(held_back) = observer.turn(ASSUME_ROLE, Instant::now()).await {
            observer.ended(ASSUME_ROLE, "held_back");
            return Err(CredentialsError::provider_error(held_back));
        }
        let begun = Instant::now();
        let span = traces::aws_call(&observer.account, ASSUME_ROLE.service, ASSUME_ROLE.name);
        let assumed = self
            .provider
            .provide_credentials()
            .instrument(span.clone())
            .await;
        let result = match &assumed {
            Ok(_) => {
                observer.took(ASSUME_ROLE, begun);
                "ok"
            }
            Err(error) => class_of_assume_role(error).label(),
        };
        span.record("result", result);
        observer.ended(ASSUME_ROLE, result);
        assumed
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
