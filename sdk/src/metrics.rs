//! Metrics at the host. Define each once, when the filter is configured.
//!
//! A name is shared by all VMs of a filter; labels are written into it by the host's convention.

use crate::host::{self, MetricKind};

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Defines the counter, or finds it.
    pub fn new(name: &str) -> Self {
        Self(host::define_metric(MetricKind::Counter, name))
    }

    /// Adds one.
    pub fn increment(self) {
        self.add(1);
    }

    /// Adds `count`; nothing for zero, which hosts refuse.
    pub fn add(self, count: u32) {
        if count > 0 {
            host::increment_metric(self.0, i64::from(count));
        }
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Defines the gauge, or finds it.
    pub fn new(name: &str) -> Self {
        Self(host::define_metric(MetricKind::Gauge, name))
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        host::record_metric(self.0, value);
    }
}

/// How often which values occur.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Defines the histogram, or finds it.
    pub fn new(name: &str) -> Self {
        Self(host::define_metric(MetricKind::Histogram, name))
    }

    /// Records a value.
    pub fn record(self, value: u64) {
        host::record_metric(self.0, value);
    }
}
