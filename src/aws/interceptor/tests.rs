//! Tests of retries, against a service that answers from a list.

use super::*;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

const ACCOUNT: &str = "111111111111";

/// A service that gives these answers in order, one for each request.
struct Service {
    requests: Arc<AtomicUsize>,
    buckets: Arc<Buckets>,
    observer: Arc<Observer>,
    config: SdkConfig,
}

impl Service {
    async fn answering(answers: &'static [(u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<AtomicUsize>::default();
        let counted = requests.clone();
        std::thread::spawn(move || {
            for ((status, body), stream) in answers.iter().zip(listener.incoming()) {
                let mut stream = stream.unwrap();
                read_request(&mut stream);
                counted.fetch_add(1, Ordering::SeqCst);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream
                    .write_all(format!("{head}{body}").as_bytes())
                    .unwrap();
            }
        });
        let buckets = Arc::<Buckets>::default();
        let account: AccountId = ACCOUNT.parse().unwrap();
        let observer = Observer::of(
            &account,
            &Metrics::default(),
            &buckets,
            Duration::from_secs(10),
        );
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(
                "AKIDEXAMPLE",
                "secret",
                None,
                None,
                "test",
            ))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(endpoint)
            .load()
            .await;
        let config = observer.paced(config);
        Self {
            requests,
            buckets,
            observer,
            config,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn calls(&self, service: &'static str, operation: &str, result: &'static str) -> u64 {
        let of = OfCall {
            account: ACCOUNT.into(),
            service,
            operation: operation.into(),
            result,
        };
        self.observer.metrics.aws_calls.get_or_create(&of).get()
    }
}

fn read_request(stream: &mut TcpStream) {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part).unwrap();
        request.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if count == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return;
        }
    }
}

const THROTTLED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn><UserId>u</UserId><Account>111111111111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

#[tokio::test]
async fn throttled_call_is_retried_and_slows_its_service_down() {
    let service = Service::answering(&[(400, THROTTLED), (200, IDENTITY)]).await;
    let sent = service
        .observer
        .sts(&service.config)
        .get_caller_identity()
        .send()
        .await;
    assert_eq!(sent.unwrap().account.as_deref(), Some(ACCOUNT));
    assert_eq!(service.requests(), 2);
    let calls = |result| service.calls("sts", "GetCallerIdentity", result);
    assert_eq!((calls("throttled"), calls("ok")), (1, 1));
    assert!(service.buckets.of(ACCOUNT, "sts").per_second() < 30.0);
}

#[tokio::test]
async fn one_throttled_answer_slows_its_service_down_once() {
    let service = Service::answering(&[(400, THROTTLED), (200, IDENTITY)]).await;
    let config = aws_sdk_sts::config::Builder::from(&service.config)
        .interceptor(Seen(service.observer.clone()));
    // A pause after which another throttled answer would count on its own.
    let pause = RetryConfig::standard()
        .with_initial_backoff(rate_limit::VOLLEY)
        .with_use_static_exponential_base(true);
    let config = config
        .retry_config(pause)
        .retry_classifier(OnlyThrottled(service.observer.bucket("sts")));
    let sent = aws_sdk_sts::Client::from_conf(config.build())
        .get_caller_identity()
        .send()
        .await;
    assert!(sent.is_ok());
    let per_second = service.buckets.of(ACCOUNT, "sts").per_second();
    assert!(
        (19.0..30.0).contains(&per_second),
        "{per_second}: half of what it was"
    );
}

#[tokio::test]
async fn call_that_fails_otherwise_is_not_retried() {
    let failed = "<ErrorResponse><Error><Type>Receiver</Type><Code>ServiceFailure</Code></Error></ErrorResponse>";
    for status in [500, 503] {
        let answers = Box::leak(Box::new([(status, failed), (200, IDENTITY)]));
        let service = Service::answering(answers).await;
        assert!(
            service
                .observer
                .sts(&service.config)
                .get_caller_identity()
                .send()
                .await
                .is_err()
        );
        assert_eq!(service.requests(), 1);
    }
}

#[tokio::test]
async fn throttled_write_of_a_shared_policy_is_not_retried() {
    let throttled = r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#;
    let answers = Box::leak(Box::new([(400, throttled), (200, "{}")]));
    let service = Service::answering(answers).await;
    let call = service
        .observer
        .ecr(&service.config)
        .set_repository_policy()
        .repository_name("r")
        .policy_text("{}");
    assert!(call.send().await.is_err());
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn call_after_its_deadline_is_not_sent() {
    let service = Service::answering(&[(200, IDENTITY)]).await;
    let call = service.observer.sts(&service.config).get_caller_identity();
    let late = rate_limit::not_after(Instant::now(), call.send()).await;
    let error = aws_sdk_sts::error::DisplayErrorContext(late.unwrap_err()).to_string();
    assert!(error.contains("not sent"), "{error}");
    assert_eq!(service.requests(), 0);
}
