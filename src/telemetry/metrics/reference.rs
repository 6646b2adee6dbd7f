//! The description of every metric, recorded where the metric is created. docs/reference/metrics.md
//! is generated from it.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeSet;

/// The prefix of all names.
const PREFIX: &str = "registry_grants";

/// Registers metrics, and records their descriptions.
pub(super) struct Makes {
    pub registry: Registry,
    pub described: Vec<Described>,
}

/// The description of a metric.
pub(super) struct Described {
    /// The name under which Prometheus stores it.
    name: String,
    kind: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
}

impl Default for Makes {
    fn default() -> Self {
        Self {
            registry: Registry::with_prefix(PREFIX),
            described: Vec::new(),
        }
    }
}

impl Makes {
    /// Registers a metric, and returns it.
    pub fn add<M: Metric + Clone>(
        &mut self,
        name: &str,
        labels: &'static [&'static str],
        meaning: &'static str,
        metric: M,
    ) -> M {
        let (kind, suffix) = match metric.metric_type() {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            _ => ("gauge", ""),
        };
        self.described.push(Described {
            name: format!("{PREFIX}_{name}{suffix}"),
            kind,
            labels,
            meaning,
        });
        self.registry.register(name, meaning, metric.clone());
        metric
    }
}

/// Returns the table of these metrics, in Markdown.
pub(super) fn table(described: &[Described]) -> String {
    let mut table = String::from("| metric | kind | labels | |\n|---|---|---|---|\n");
    for Described {
        name,
        kind,
        labels,
        meaning,
    } in described
    {
        let quoted: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!(
            "| `{name}` | {kind} | {} | {meaning} |\n",
            quoted.join(", ")
        );
    }
    table
}

/// Returns the names of all possible series of these metrics, as PromQL knows them.
pub(super) fn names(described: &[Described]) -> BTreeSet<String> {
    described.iter().flat_map(Described::series).collect()
}

impl Described {
    /// Returns the names of the series that the metric consists of.
    fn series(&self) -> Vec<String> {
        if self.kind != "histogram" {
            return vec![self.name.clone()];
        }
        ["_bucket", "_count", "_sum"]
            .map(|suffix| format!("{}{suffix}", self.name))
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::super::labels::{OfCall, OfOperation, OfReady, OfResult, OfService, OfTask};
    use super::*;

    /// Creates metrics with a series of each.
    fn counted() -> Metrics {
        let metrics = Metrics::default();
        let (account, service, operation) =
            ("111111111111".to_owned(), "iam", "GetRole".to_owned());
        metrics
            .reconciles
            .get_or_create(&OfResult { result: "ready" });
        metrics
            .reconcile_duration
            .get_or_create(&OfResult { result: "ready" });
        metrics.grants.get_or_create(&OfReady {
            ready: "True".into(),
            reason: "Granted".into(),
        });
        metrics
            .account_ready
            .get_or_create(&account.as_str().into());
        metrics.aws_call_duration.get_or_create(&OfOperation {
            service,
            operation: operation.clone(),
        });
        metrics.aws_wait.get_or_create(&OfService {
            account: account.clone(),
            service,
        });
        metrics.aws_rate.get_or_create(&OfService {
            account: account.clone(),
            service,
        });
        metrics
            .drift_corrected
            .get_or_create(&account.as_str().into());
        metrics
            .policy_set_aside
            .get_or_create(&account.as_str().into());
        metrics
            .policy_ids_removed
            .get_or_create(&account.as_str().into());
        metrics.sweep_found.get_or_create(&account.as_str().into());
        metrics
            .sweep_removed
            .get_or_create(&account.as_str().into());
        metrics
            .second_writer
            .get_or_create(&account.as_str().into());
        metrics.policies.seen(&account, "us-east-1", "app", 0.5);
        metrics
            .task_failures
            .get_or_create(&OfTask { task: "sweep" });
        metrics.aws_calls.get_or_create(&OfCall {
            account,
            service,
            operation,
            result: "ok",
        });
        metrics
    }

    #[tokio::test]
    async fn every_metric_has_its_documented_kind_and_labels() {
        let metrics = counted();
        let text = metrics.text();
        for Described {
            name, kind, labels, ..
        } in &*metrics.described
        {
            let family = name.trim_end_matches("_total");
            assert!(
                text.contains(&format!("# TYPE {family} {kind}\n")),
                "{name} is no {kind}: {text}"
            );
            let series = if *kind == "histogram" {
                format!("{name}_count")
            } else {
                name.clone()
            };
            let line = text.lines().find(|line| {
                line.strip_prefix(&series)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let line = line.unwrap_or_else(|| panic!("no {series} in {text}"));
            let found = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.split('}').next().unwrap());
            let found: Vec<&str> = found
                .split(',')
                .filter_map(|pair| Some(pair.split_once('=')?.0))
                .collect();
            assert_eq!(found, *labels, "{name}");
        }
    }
}
