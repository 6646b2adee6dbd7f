//! Metrics, logs and traces.

use crate::support::case::{Case, OPERATOR, document};
use anyhow::{Context, Result, ensure};
use local_stack::{IamCalls as _, Installation, Operator, eventually};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// All messages of the operator itself.
const TELLING: [&str; 3] = [
    "--resync-interval=2s",
    "--leader-election=false",
    "--log-level=info,registry_grants=trace",
];

/// A collector of traces that keeps the requests unchanged.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = received.clone();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 65536];
                    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
                        all.lock()
                            .expect("no panic while held")
                            .extend_from_slice(&buffer[..count]);
                        // Answers each part of a request. The client uses the first answer and
                        // disconnects.
                        let answer =
                            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                        drop(connection.write_all(answer).await);
                    }
                });
            }
        });
        Ok(Self { endpoint, received })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().expect("no panic while held")).into_owned()
    }
}

/// Waits until the metrics have all of these lines.
async fn told(operator: &Operator, lines: &[String]) -> Result<()> {
    eventually("the metrics tell it", async || {
        let text = operator.metrics().await?;
        let missing = lines
            .iter()
            .find(|line| !text.lines().any(|told| told.starts_with(line.as_str())));
        ensure!(missing.is_none(), "no {missing:?} in\n{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn telemetry_reports_what_aws_refused_without_credentials() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let (registry, collector) = (case.pair.registry.clone(), Collector::start().await?);
    let deny =
        document(json!({"Effect": "Deny", "Action": "ecr:SetRepositoryPolicy", "Resource": "*"}));
    let iam = case.stack().aws(&registry).iam;
    iam.put_inline_policy("registry-grants", "deny", deny)
        .await?;
    let arguments = [&TELLING[..], &["--otlp-endpoint", &collector.endpoint]].concat();
    let operator = installation.start_operator(OPERATOR, &arguments).await?;
    case.apply(&case.grant(json!({}))).await?;
    case.not_ready("AccessDenied").await?;
    let call = |service: &str, operation: &str, result: &str| {
        format!(
            "registry_grants_aws_calls_total{{account=\"{registry}\",service=\"{service}\",operation=\"{operation}\",result=\"{result}\"}} "
        )
    };
    told(
        &operator,
        &[
            "registry_grants_leader 1".into(),
            "registry_grants_grants{ready=\"False\",reason=\"AccessDenied\"} 1".into(),
            "registry_grants_reconciles_total{result=\"not_ready\"} ".into(),
            format!("registry_grants_account_ready{{account=\"{registry}\"}} 1"),
            call("sts", "AssumeRole", "ok"),
            call("sts", "GetCallerIdentity", "ok"),
            call("iam", "CreateRole", "ok"),
            call("ecr", "SetRepositoryPolicy", "denied"),
            format!("registry_grants_aws_rate_limit_wait_seconds_count{{account=\"{registry}\",service=\"ecr\"}} "),
        ],
    )
    .await?;
    let log = operator.log()?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut failed =
        lines.filter(|line| line["level"] == "WARN" && line["action"] == "ecr:SetRepositoryPolicy");
    let line = failed.next().context("the failed call is not in the log")?;
    ensure!(
        line["account"] == registry.as_str()
            && line["request_id"].as_str().is_some_and(|id| id.len() > 8),
        "{line}"
    );

    iam.delete_inline_policy("registry-grants", "deny").await?;
    case.ready().await?;
    told(
        &operator,
        &[
            "registry_grants_grants{ready=\"True\",reason=\"Granted\"} 1".into(),
            "registry_grants_reconciles_total{result=\"ready\"} ".into(),
            "registry_grants_repository_policy_write_window_seconds_count 1".into(),
            format!("registry_grants_repository_policies{{account=\"{registry}\",region=\"us-east-1\"}} 1"),
        ],
    )
    .await?;
    eventually("the collector has the traces", async || {
        let traces = collector.text();
        for told in [
            "reconcile",
            &case.namespace,
            "ecr:SetRepositoryPolicy",
            "sts:AssumeRole",
            "aws.request_id",
        ] {
            ensure!(traces.contains(told), "no {told}");
        }
        Ok(())
    })
    .await?;

    case.delete().await?;
    case.cluster()
        .delete("", &format!("awsaccount/{}", registry))
        .await?;
    eventually("the account's series are gone", async || {
        let text = operator.metrics().await?;
        ensure!(
            !text.contains(&registry) && !text.contains("reason="),
            "{text}"
        );
        Ok(())
    })
    .await?;
    let credentials = installation.operator_settings(OPERATOR, &[]).credentials;
    let (log, traces) = (operator.log()?, collector.text());
    for secret in [
        Some(credentials.secret_access_key()),
        credentials.session_token(),
    ]
    .into_iter()
    .flatten()
    {
        ensure!(
            !log.contains(secret) && !traces.contains(secret),
            "a credential was told"
        );
    }
    for word in [
        "aws_secret",
        "SecretAccessKey",
        "SessionToken",
        "Security-Token",
        "x-amz-security-token",
    ] {
        ensure!(
            !log.contains(word) && !traces.contains(word),
            "{word} was told"
        );
    }
    operator.terminate().map(drop)
}
