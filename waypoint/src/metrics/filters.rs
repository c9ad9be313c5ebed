//! Cost per filter: calls, time, traps, memory, verdicts, generation, and the guests' own metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use waypoint_abi::{GuestMetric, MetricValue, Stats};

/// One filter at the time of a scrape.
pub struct FilterSample {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// The generation in force.
    pub generation: u64,
    /// Generations that still have streams, the one in force included.
    pub live_generations: u64,
    /// Counters over all its generations, gauges over the living.
    pub stats: Stats,
    /// What the guests define.
    pub guest: Vec<GuestMetric>,
}

/// Who knows the filters.
pub trait FilterSource: Send + Sync + 'static {
    /// Every filter that is in force.
    fn samples(&self) -> Vec<FilterSample>;
}

/// Asks for the filters at each scrape.
pub(super) struct FilterCollector {
    source: Arc<dyn FilterSource>,
}

impl FilterCollector {
    pub(super) fn new(source: Arc<dyn FilterSource>) -> Self {
        Self { source }
    }
}

impl fmt::Debug for FilterCollector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("FilterCollector")
    }
}

/// One row of a family: its labels and its value.
type Row<'a> = (Vec<(&'a str, &'a str)>, u64);

impl Collector for FilterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.source.samples();
        let each = |value: fn(&FilterSample) -> u64| -> Vec<Row<'_>> {
            samples
                .iter()
                .map(|sample| (vec![("filter", sample.name.as_str())], value(sample)))
                .collect()
        };
        let out = &mut encoder;
        counter(
            out,
            "waypoint_filter_calls",
            "Times that the guest was entered",
            each(|s| s.stats.calls),
        )?;
        seconds(out, "waypoint_filter_cpu_seconds", "Time spent in callbacks", &samples)?;
        counter(out, "waypoint_filter_vm_starts", "VMs started", each(|s| s.stats.vm_starts))?;
        counter(out, "waypoint_filter_callouts", "HTTP callouts", each(|s| s.stats.callouts))?;
        counter(out, "waypoint_filter_failures", "Failures, by reason", failures(&samples))?;
        counter(out, "waypoint_filter_verdicts", "Verdicts on streams", verdicts(&samples))?;
        gauge(out, "waypoint_filter_vms", "VMs alive", each(|s| s.stats.vms.into()))?;
        gauge(out, "waypoint_filter_streams", "Open contexts", each(|s| s.stats.streams.into()))?;
        gauge(
            out,
            "waypoint_filter_memory_bytes",
            "Linear memory",
            each(|s| s.stats.memory_bytes),
        )?;
        gauge(out, "waypoint_filter_generation", "Generation in force", each(|s| s.generation))?;
        gauge(
            out,
            "waypoint_filter_live_generations",
            "Generations that still have streams",
            each(|s| s.live_generations),
        )?;
        guests(out, &samples)
    }
}

fn failures(samples: &[FilterSample]) -> Vec<Row<'_>> {
    let reasons = |stats: &Stats| {
        [
            ("trap", stats.traps),
            ("deadline", stats.deadlines),
            ("stream_wall", stats.stream_walls),
            ("stream_cpu", stats.stream_cpu),
            ("busy", stats.busy),
            ("cpu_share", stats.cpu_share),
            ("no_vm", stats.no_vm),
            ("body_too_large", stats.body_too_large),
        ]
    };
    rows(samples, "reason", |sample| reasons(&sample.stats).to_vec())
}

fn verdicts(samples: &[FilterSample]) -> Vec<Row<'_>> {
    rows(samples, "verdict", |sample| {
        let verdicts = &sample.stats.verdicts;
        vec![
            ("continue", verdicts.continued),
            ("pause", verdicts.paused),
            ("reply", verdicts.replied),
            ("reset", verdicts.reset),
        ]
    })
}

fn rows<'a>(
    samples: &'a [FilterSample],
    label: &'static str,
    values: impl Fn(&FilterSample) -> Vec<(&'static str, u64)>,
) -> Vec<Row<'a>> {
    let of = |sample: &'a FilterSample| {
        let name = sample.name.as_str();
        values(sample)
            .into_iter()
            .map(move |(value, count)| (vec![("filter", name), (label, value)], count))
    };
    samples.iter().flat_map(of).collect()
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: Vec<Row<'_>>,
) -> fmt::Result {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: Vec<Row<'_>>,
) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn seconds(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[FilterSample],
) -> fmt::Result {
    let kind = ConstCounter::new(0_f64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for sample in samples {
        let labels = [("filter", sample.name.as_str())];
        let value = ConstCounter::new(sample.stats.guest_time.as_secs_f64());
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The guests' own metrics under Envoy's prefix, with the filter as a label.
fn guests(encoder: &mut DescriptorEncoder<'_>, samples: &[FilterSample]) -> fmt::Result {
    let mut families: BTreeMap<String, Vec<(&str, &MetricValue)>> = BTreeMap::new();
    for sample in samples {
        for metric in &sample.guest {
            let values = families.entry(sanitised(&metric.name)).or_default();
            // One name has one kind; a second kind under it is left out.
            let fits = |first: &(&str, &MetricValue)| kind(first.1) == kind(&metric.value);
            if values.first().is_none_or(fits) {
                values.push((&sample.name, &metric.value));
            }
        }
    }
    for (name, values) in &families {
        let metric_type = match kind(values[0].1) {
            Kind::Counter => ConstCounter::new(0_u64).metric_type(),
            Kind::Gauge => ConstGauge::new(0_i64).metric_type(),
            Kind::Histogram => MetricType::Histogram,
        };
        let mut family = encoder.encode_descriptor(name, "Of a filter", None, metric_type)?;
        for (filter, value) in values {
            guest(family.encode_family(&[("filter", *filter)])?, value)?;
        }
    }
    Ok(())
}

fn guest(mut encoder: MetricEncoder<'_>, value: &MetricValue) -> fmt::Result {
    match value {
        MetricValue::Counter(value) => ConstCounter::new(*value).encode(encoder),
        MetricValue::Gauge(value) => {
            ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(encoder)
        }
        MetricValue::Histogram { count, sum, buckets } => {
            let mut below = 0;
            // The encoder wants what lies between two bounds, and adds up by itself.
            let mut each: Vec<(f64, u64)> = Vec::with_capacity(buckets.len() + 1);
            for (bound, at_most) in buckets {
                each.push((*bound as f64, at_most - below));
                below = *at_most;
            }
            each.push((f64::INFINITY, count - below));
            encoder.encode_histogram::<NoLabelSet>(*sum as f64, *count, &each, None)
        }
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

fn kind(value: &MetricValue) -> Kind {
    match value {
        MetricValue::Counter(_) => Kind::Counter,
        MetricValue::Gauge(_) => Kind::Gauge,
        MetricValue::Histogram { .. } => Kind::Histogram,
    }
}

/// A name that Prometheus takes.
fn sanitised(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    format!("wasmcustom_{}", name.trim_end_matches("_total"))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    struct One;

    impl FilterSource for One {
        fn samples(&self) -> Vec<FilterSample> {
            let value =
                MetricValue::Histogram { count: 5, sum: 70, buckets: vec![(8, 1), (16, 3)] };
            vec![FilterSample {
                name: "ns/one".to_owned(),
                generation: 1,
                live_generations: 1,
                stats: Stats::default(),
                guest: vec![GuestMetric { name: "sizes".to_owned(), value }],
            }]
        }
    }

    #[test]
    fn a_guests_histogram_has_its_buckets_and_one_for_the_rest() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(FilterCollector::new(Arc::new(One))));
        let mut scrape = String::new();
        text::encode(&mut scrape, &registry).expect("a String");

        let lines: Vec<_> =
            scrape.lines().filter(|line| line.starts_with("wasmcustom_sizes_")).collect();
        let expected = [
            "wasmcustom_sizes_sum{filter=\"ns/one\"} 70.0",
            "wasmcustom_sizes_count{filter=\"ns/one\"} 5",
            "wasmcustom_sizes_bucket{le=\"8.0\",filter=\"ns/one\"} 1",
            "wasmcustom_sizes_bucket{le=\"16.0\",filter=\"ns/one\"} 3",
            "wasmcustom_sizes_bucket{le=\"+Inf\",filter=\"ns/one\"} 5",
        ];
        assert_eq!(lines, expected);
    }
}
