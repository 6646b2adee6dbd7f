//! Traces over OTLP (HTTP, protobuf): a span for each reconcile of a grant, and a child span for
//! each call to AWS. Without an endpoint, nothing subscribes to these spans, and none is created.

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, Value};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::Span;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The target of the exported spans. They have the lowest level, so that they cost nothing if they
/// are not exported, and do not appear in the log.
const TARGET: &str = "registry_grants/spans";
/// Log lines up to this level become events of the spans in which they were written.
const EVENTS: LevelFilter = LevelFilter::INFO;
/// The maximum time that an export waits for the collector.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time that the end of the process waits for the last export. This export comes after
/// the write in progress and the return of the Lease, which take most of a Pod's termination grace
/// period.
const LAST_EXPORT: Duration = Duration::from_millis(1_500);

/// Creates the span of a reconcile of a grant.
pub fn reconcile(namespace: &str, name: &str) -> Span {
    tracing::trace_span!(target: TARGET, "reconcile", grant.namespace = namespace, grant.name = name, result = Empty)
}

/// Creates the span of a call to AWS. Its name follows OpenTelemetry's conventions for the AWS SDK.
pub fn aws_call(account: &str, service: &'static str, operation: &str) -> Span {
    tracing::trace_span!(
        target: TARGET, "aws call", otel.name = format!("{service}:{operation}"), otel.kind = "client", rpc.system = "aws-api",
        rpc.service = service, rpc.method = operation, cloud.account.id = account, result = Empty, aws.request_id = Empty
    )
}

/// The exporter of traces to a collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Exports to the collector at this base address, to which `/v1/traces` is appended, under this
    /// service name. The exporter itself reads OpenTelemetry's own environment variables for the
    /// other settings (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`,
    /// `OTEL_TRACES_SAMPLER`).
    ///
    /// # Errors
    /// When the address is invalid or does not begin with `http://`.
    pub fn to(endpoint: &str, service: String, runtime: &Handle) -> Result<Self, Box<dyn Error>> {
        if !endpoint.starts_with("http://") {
            let why = "must begin with http://: use a collector in the cluster, and let it send the traces elsewhere";
            return Err(format!("--otlp-endpoint {endpoint}: {why}").into());
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime {
                client: HyperClient::with_default_connector(TIMEOUT, None),
                runtime: runtime.clone(),
                fails: Arc::default(),
            })
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| format!("--otlp-endpoint {endpoint}: {error}"))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_attribute(version)
            .with_service_name(Value::from(service));
        Ok(Self(
            SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource.build())
                .build(),
        ))
    }

    /// Returns the layer that exports the process's spans.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let filter = Targets::new()
            .with_target("registry_grants", EVENTS)
            .with_target(TARGET, LevelFilter::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("registry-grants"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter)
    }

    /// Sends the spans that were not sent yet. The runtime must still run.
    pub fn end(self) {
        // A failure to send was logged already.
        let _ = self.0.shutdown_with_timeout(LAST_EXPORT);
    }
}

/// HTTP client that sends on our runtime: the exporter has its own thread, without a runtime.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient,
    runtime: Handle,
    /// Whether the last attempt failed, and that was logged.
    fails: Arc<AtomicBool>,
}

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let fails = self.fails.clone();
        let sending = self.runtime.spawn(async move {
            let sent = client.send_bytes(request).await;
            let problem = match &sent {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(response.status().to_string()),
                Err(error) => Some(error.to_string()),
            };
            log_change(problem.as_deref(), &fails);
            sent
        });
        Box::pin(async move { sending.await? })
    }
}

/// Logs the first failure of a series of failures, and the first success after it.
fn log_change(problem: Option<&str>, fails: &AtomicBool) {
    let failed_before = fails.swap(problem.is_some(), Ordering::Relaxed);
    match problem {
        Some(problem) if !failed_before => {
            tracing::warn!(error = problem, "failed to export traces");
        }
        None if failed_before => tracing::info!("exporting traces again"),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt;

    /// Receives one request, and answers with status 200.
    async fn collected(listener: TcpListener) -> String {
        let (mut connection, _) = listener.accept().await.unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 65536]);
        loop {
            let count = connection.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&request);
            let length =
                text.to_lowercase()
                    .split_once("content-length: ")
                    .and_then(|(_, rest)| {
                        let (length, _) = rest.split_once("\r\n")?;
                        length.parse::<usize>().ok()
                    });
            let body = request
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
                .map(|at| request.len() - at - 4);
            if count == 0 || length.is_some_and(|length| body.is_some_and(|body| body >= length)) {
                connection
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await
                    .unwrap();
                return text.into_owned();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn reconcile_and_its_calls_arrive_at_the_collector() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collecting = tokio::spawn(collected(listener));
        let traces = Traces::to(&endpoint, "registry-grants".into(), &Handle::current()).unwrap();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(traces.layer()),
            || {
                let look = reconcile("team-b", "miq-devops").entered();
                aws_call("111111111111", "iam", "GetRole")
                    .in_scope(|| tracing::warn!("AWS call failed"));
                look.record("result", "not_ready");
                tracing::trace_span!(target: "somebody_else", "not ours").in_scope(|| {});
            },
        );
        tokio::task::spawn_blocking(|| traces.end()).await.unwrap();
        let request = collecting.await.unwrap();
        assert!(request.starts_with("POST /v1/traces "), "{request}");
        for expected in [
            "reconcile",
            "miq-devops",
            "not_ready",
            "iam:GetRole",
            "111111111111",
            "AWS call failed",
        ] {
            assert!(request.contains(expected), "no {expected} in {request}");
        }
        assert!(!request.contains("not ours"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silent_collector_delays_the_shutdown_only_briefly() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let traces = Traces::to(&endpoint, "registry-grants".into(), &Handle::current()).unwrap();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(traces.layer()),
            || {
                drop(reconcile("team-b", "miq-devops"));
            },
        );
        let begun = std::time::Instant::now();
        let ended = tokio::task::spawn_blocking(move || {
            traces.end();
            begun.elapsed()
        });
        let took = ended.await.unwrap();
        assert!(took < LAST_EXPORT + Duration::from_secs(2), "{took:?}");
        drop(listener);
    }

    #[tokio::test]
    async fn https_endpoint_is_rejected_at_the_start() {
        assert!(
            Traces::to(
                "https://collector:4318",
                "registry-grants".into(),
                &Handle::current()
            )
            .is_err()
        );
    }
}
