//! Counters, gauges and histograms, bounded in number.

use std::collections::HashMap;

use crate::{
    shared::{GuestMetric, MetricValue},
    status::Status,
};

/// The longest name, in bytes; the rest is cut.
const NAME_BYTES_MAX: usize = 256;
/// Upper bounds of a histogram's buckets: powers of four, from 1 to about a billion.
const BUCKETS: usize = 16;
/// The id of a metric that nobody sees, given when there is no room for another.
const UNSEEN: u32 = u32::MAX;

pub(super) struct Metrics {
    series: Vec<Series>,
    ids: HashMap<(u32, String), u32>,
    series_max: usize,
}

struct Series {
    name: String,
    value: Value,
}

enum Value {
    Counter(u64),
    Gauge(u64),
    Histogram(Box<Histogram>),
}

#[derive(Default)]
struct Histogram {
    count: u64,
    sum: u64,
    /// How many values fell into each bucket; those above the last bound are only counted.
    buckets: [u64; BUCKETS],
}

impl Metrics {
    pub(super) fn new(series_max: usize) -> Self {
        Self { series: Vec::new(), ids: HashMap::new(), series_max }
    }

    /// The same kind and name give the same id.
    pub(super) fn define(&mut self, kind: u32, name: &[u8]) -> Result<(u32, bool), Status> {
        let value = match kind {
            0 => Value::Counter(0),
            1 => Value::Gauge(0),
            2 => Value::Histogram(Box::default()),
            _ => return Err(Status::BadArgument),
        };
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(id) = self.ids.get(&(kind, name.clone())) {
            return Ok((*id, true));
        }
        if self.series_max <= self.series.len() {
            return Ok((UNSEEN, false));
        }
        let id = u32::try_from(self.series.len()).unwrap_or(UNSEEN);
        self.ids.insert((kind, name.clone()), id);
        self.series.push(Series { name, value });
        Ok((id, true))
    }

    /// What a counter records is added to it.
    pub(super) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        match self.find(id)? {
            Some(Value::Counter(total)) => *total = total.wrapping_add(value),
            Some(Value::Gauge(level)) => *level = value,
            Some(Value::Histogram(histogram)) => histogram.record(value),
            None => {}
        }
        Ok(())
    }

    pub(super) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        match self.find(id)? {
            Some(Value::Counter(_)) if offset <= 0 => return Err(Status::BadArgument),
            Some(Value::Counter(total)) => *total = total.wrapping_add_signed(offset),
            Some(Value::Gauge(level)) => *level = level.wrapping_add_signed(offset),
            Some(Value::Histogram(_)) => return Err(Status::BadArgument),
            None => {}
        }
        Ok(())
    }

    pub(super) fn get(&mut self, id: u32) -> Result<u64, Status> {
        match self.find(id)? {
            Some(Value::Counter(value) | Value::Gauge(value)) => Ok(*value),
            Some(Value::Histogram(_)) => Err(Status::BadArgument),
            None => Ok(0),
        }
    }

    pub(super) fn read(&self) -> Vec<GuestMetric> {
        let read = |series: &Series| GuestMetric {
            name: series.name.clone(),
            value: match &series.value {
                Value::Counter(value) => MetricValue::Counter(*value),
                Value::Gauge(value) => MetricValue::Gauge(*value),
                Value::Histogram(histogram) => histogram.read(),
            },
        };
        self.series.iter().map(read).collect()
    }

    /// `Ok(None)` is the metric that nobody sees.
    fn find(&mut self, id: u32) -> Result<Option<&mut Value>, Status> {
        if id == UNSEEN {
            return Ok(None);
        }
        let index = usize::try_from(id).map_err(|_| Status::NotFound)?;
        let series = self.series.get_mut(index).ok_or(Status::NotFound)?;
        Ok(Some(&mut series.value))
    }
}

impl Histogram {
    fn record(&mut self, value: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(value);
        if let Some(index) = (0..BUCKETS).find(|index| value <= bound(*index)) {
            self.buckets[index] += 1;
        }
    }

    fn read(&self) -> MetricValue {
        let mut below = 0;
        let cumulate = |(index, count): (usize, &u64)| {
            below += count;
            (bound(index), below)
        };
        let buckets = self.buckets.iter().enumerate().map(cumulate).collect();
        MetricValue::Histogram { count: self.count, sum: self.sum, buckets }
    }
}

fn bound(index: usize) -> u64 {
    1 << (2 * index.min(31))
}
