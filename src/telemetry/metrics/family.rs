//! Series by label, of which those that nobody needs any more can be left out.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// One metric for each set of labels. Clones share their series.
#[derive(Debug)]
pub struct Table<L, M> {
    series: Arc<Mutex<BTreeMap<L, M>>>,
    make: fn() -> M,
}

impl<L, M> Clone for Table<L, M> {
    fn clone(&self) -> Self {
        Self {
            series: self.series.clone(),
            make: self.make,
        }
    }
}

impl<L: Ord, M: Default> Default for Table<L, M> {
    fn default() -> Self {
        Self::of(M::default)
    }
}

impl<L: Ord, M> Table<L, M> {
    /// An empty one, whose series begin as `make` says.
    pub fn of(make: fn() -> M) -> Self {
        Self {
            series: Arc::default(),
            make,
        }
    }

    /// The series of these labels.
    pub fn get_or_create(&self, labels: &L) -> M
    where
        L: Clone,
        M: Clone,
    {
        self.lock()
            .entry(labels.clone())
            .or_insert_with(self.make)
            .clone()
    }

    /// Leaves this series out.
    pub fn remove(&self, labels: &L) {
        self.lock().remove(labels);
    }

    /// Leaves only these series.
    pub fn retain(&self, keep: impl Fn(&L) -> bool) {
        self.lock().retain(|labels, _| keep(labels));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<L, M>> {
        self.series.lock().expect("no panic while held")
    }
}

impl<L, M> EncodeMetric for Table<L, M>
where
    L: EncodeLabelSet + Ord,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, metric) in &*self.lock() {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
