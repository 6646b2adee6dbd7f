//! A metric family whose obsolete series can be removed.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// A metric for each label set. Clones share their series.
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
    /// Creates an empty family whose series `make` creates.
    pub fn of(make: fn() -> M) -> Self {
        Self {
            series: Arc::default(),
            make,
        }
    }

    /// Returns the series of these labels, and creates it if it does not exist.
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

    /// Removes the series of these labels.
    pub fn remove(&self, labels: &L) {
        self.lock().remove(labels);
    }

    /// Removes all series but those that `keep` accepts.
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
