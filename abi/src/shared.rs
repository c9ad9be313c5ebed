//! What outlives a generation: the guest's shared data and its metrics.

use crate::limits::Limits;

/// Shared data and metrics of one filter of one owner; every generation of it uses the same.
pub struct Shared {}

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
    /// Nothing yet.
    #[must_use]
    pub fn new(_limits: &Limits) -> Self {
        Self {}
    }

    /// Every metric that the guest has defined, in the order of definition.
    #[must_use]
    pub fn metrics(&self) -> Vec<GuestMetric> {
        Vec::new()
    }
}
