//! What `/metrics` tells, in the OpenMetrics text format. A further metric is a field and the line that makes it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use std::sync::Arc;

/// The format's name, for who asks.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Of which AWS account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfAccount {
    /// The account's number.
    pub account: String,
}

/// The operator's metrics. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    /// How many things of this installation's the last sweep found in the account that no grant claims.
    pub sweep_found: Family<OfAccount, Gauge>,
    /// How many of them sweeps have removed since the start.
    pub sweep_removed: Family<OfAccount, Counter>,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("registry_grants");
        let all = &mut registry;
        Self {
            sweep_found: made(all, "sweep_found", "Things in AWS that no grant claims, at the last sweep"),
            sweep_removed: made(all, "sweep_removed", "Things in AWS that sweeps have removed since the start"),
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// All of them, as they are now.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written to it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn made<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_by_account() {
        let metrics = Metrics::default();
        let account = OfAccount { account: "111111111111".into() };
        metrics.clone().sweep_found.get_or_create(&account).set(3);
        metrics.sweep_removed.get_or_create(&account).inc_by(2);
        let text = metrics.text();
        for line in [
            "# TYPE registry_grants_sweep_found gauge",
            "registry_grants_sweep_found{account=\"111111111111\"} 3",
            "registry_grants_sweep_removed_total{account=\"111111111111\"} 2",
        ] {
            assert!(text.lines().any(|told| told == line), "{text}");
        }
    }
}
