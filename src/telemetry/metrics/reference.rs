//! Every metric, described where it is made: docs/reference/metrics.md is written from here.

use super::Metrics;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeSet;

/// What all names begin with.
const PREFIX: &str = "registry_grants";

/// Makes metrics, and takes down what they are.
pub(super) struct Makes {
    pub registry: Registry,
    pub described: Vec<Described>,
}

/// One metric.
pub(super) struct Described {
    /// As Prometheus stores it.
    name: String,
    kind: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
}

impl Default for Makes {
    fn default() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), described: Vec::new() }
    }
}

impl Makes {
    /// A metric that begins empty.
    pub fn make<M>(&mut self, name: &str, labels: &'static [&'static str], meaning: &'static str) -> M
    where
        M: Metric + Clone + Default,
    {
        let metric = M::default();
        self.add(name, labels, meaning, metric.clone());
        metric
    }

    /// This metric.
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
        self.described.push(Described { name: format!("{PREFIX}_{name}{suffix}"), kind, labels, meaning });
        self.registry.register(name, meaning, metric.clone());
        metric
    }
}

impl Metrics {
    /// The table of all metrics, in Markdown.
    pub fn reference(&self) -> String {
        let mut table = String::from("| metric | kind | labels | |\n|---|---|---|---|\n");
        for Described { name, kind, labels, meaning } in &*self.described {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            table += &format!("| `{name}` | {kind} | {} | {meaning} |\n", labels.join(", "));
        }
        table
    }

    /// The names of all series that there can be, as PromQL knows them.
    pub fn names(&self) -> BTreeSet<String> {
        let names = |Described { name, kind, .. }: &Described| match *kind {
            "histogram" => ["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")).to_vec(),
            _ => vec![name.clone()],
        };
        self.described.iter().flat_map(names).collect()
    }
}
