//! What outlives a generation: the guest's shared data and its metrics.

mod data;
mod metrics;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{limits::Limits, status::Status};

use self::{data::Data, metrics::Metrics};

/// Shared data and metrics of one filter of one owner; every generation of it uses the same.
pub struct Shared {
    data: Mutex<Data>,
    metrics: Mutex<Metrics>,
}

/// One metric that a guest defined.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestMetric {
    /// The name as the guest wrote it: any characters, at most 256 bytes.
    pub name: String,
    /// What it stands at.
    pub value: MetricValue,
}

/// The value of a guest's metric.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// A distribution.
    Histogram {
        /// How many values were recorded.
        count: u64,
        /// Their sum.
        sum: u64,
        /// For each upper bound, how many values are at most that; the bounds grow.
        buckets: Vec<(u64, u64)>,
    },
}

impl Shared {
    /// Nothing yet, with the bounds of the filter's first generation.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            data: Mutex::new(Data::new(limits.shared_data_bytes, limits.shared_data_keys)),
            metrics: Mutex::new(Metrics::new(limits.metric_series)),
        }
    }

    /// Every metric that the guest has defined, in the order of definition.
    #[must_use]
    pub fn metrics(&self) -> Vec<GuestMetric> {
        self.metrics.lock().read()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.data.lock().get(key)
    }

    /// Whether it was stored without letting another entry go; `None` deletes.
    pub(crate) fn set(&self, key: &[u8], value: Option<Bytes>, cas: u32) -> Result<bool, Status> {
        self.data.lock().set(key, value, cas)
    }

    /// The metric's id, and whether it will be seen.
    pub(crate) fn define_metric(&self, kind: u32, name: &[u8]) -> Result<(u32, bool), Status> {
        self.metrics.lock().define(kind, name)
    }

    pub(crate) fn record_metric(&self, id: u32, value: u64) -> Result<(), Status> {
        self.metrics.lock().record(id, value)
    }

    pub(crate) fn increment_metric(&self, id: u32, offset: i64) -> Result<(), Status> {
        self.metrics.lock().increment(id, offset)
    }

    pub(crate) fn get_metric(&self, id: u32) -> Result<u64, Status> {
        self.metrics.lock().get(id)
    }
}
