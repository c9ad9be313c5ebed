//! What is counted of finished requests.
//!
//! Each thread counts for itself, and a scrape adds up: with one set of counters for all, every
//! request would wait for the memory that the other threads' requests have just written.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use waypoint_policies::ServicePortKey;

/// Threads that count for themselves; those beyond share.
const SHARDS: usize = 16;

/// 0.5 ms to about 16 s.
const MILLISECONDS: [f64; 16] = exponential(0.5, 2.0);
/// 64 B to 64 MiB.
const BYTES: [f64; 11] = exponential(64.0, 4.0);

/// Bounds of buckets, each `factor` times the one before.
const fn exponential<const N: usize>(first: f64, factor: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * factor;
        at += 1;
    }
    bounds
}

/// Finished requests of all threads.
#[derive(Default)]
pub(super) struct Requests([Shard; SHARDS]);

/// On cache lines of its own: the second of a pair is fetched with the first.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<HashMap<RequestLabels, Series>>);

/// Labels of Istio's standard metrics, as a waypoint reports them.
///
/// # Source
///
/// Istio standard metrics; the label set that Istio's own waypoint test asserts. What is not known
/// (source workload, the principal of a client without one) is `unknown`, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestLabels {
    pub(super) service: Option<Arc<ServicePortKey>>,
    pub(super) code: u16,
    pub(super) grpc_status: Option<u32>,
    pub(super) flag: &'static str,
    pub(super) grpc: bool,
    pub(super) mtls: bool,
    pub(super) principal: Option<Arc<str>>,
}

impl Hash for RequestLabels {
    /// What tells most labels apart; the rest is left to `Eq`.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.service.as_ref().map(|key| &key.name).hash(state);
        self.code.hash(state);
        self.principal.hash(state);
    }
}

/// The series of one set of labels.
#[derive(Clone, Default)]
struct Series {
    requests: u64,
    milliseconds: Distribution<{ MILLISECONDS.len() }>,
    received: Distribution<{ BYTES.len() }>,
    sent: Distribution<{ BYTES.len() }>,
}

/// How many values came up to each bound, and beyond the last.
#[derive(Clone)]
struct Distribution<const N: usize> {
    within: [u64; N],
    beyond: u64,
    sum: f64,
}

/// Gives the sums to a scrape.
pub(super) struct RequestCollector(pub(super) Arc<Requests>);

// === impl Requests ===

impl Requests {
    /// Counts a request; `received` and `sent` are bytes of bodies.
    pub(super) fn finished(
        &self,
        labels: RequestLabels,
        duration: Duration,
        received: u64,
        sent: u64,
    ) {
        let mut series = self.0[shard()].0.lock();
        let series = series.entry(labels).or_default();
        series.requests += 1;
        series.milliseconds.observe(&MILLISECONDS, duration.as_secs_f64() * 1_000.0);
        series.received.observe(&BYTES, received as f64);
        series.sent.observe(&BYTES, sent as f64);
    }

    fn sums(&self) -> HashMap<RequestLabels, Series> {
        let mut sums: HashMap<RequestLabels, Series> = HashMap::new();
        for shard in &self.0 {
            for (labels, series) in shard.0.lock().iter() {
                let sum = sums.entry(labels.clone()).or_default();
                sum.requests += series.requests;
                sum.milliseconds.add(&series.milliseconds);
                sum.received.add(&series.received);
                sum.sent.add(&series.sent);
            }
        }
        sums
    }
}

/// The calling thread's shard.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SHARD.with(|own| {
        own.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
            own.set(Some(next));
            next
        })
    })
}

// === impl Distribution ===

impl<const N: usize> Default for Distribution<N> {
    fn default() -> Self {
        Self { within: [0; N], beyond: 0, sum: 0.0 }
    }
}

impl<const N: usize> Distribution<N> {
    fn observe(&mut self, bounds: &[f64; N], value: f64) {
        let bucket = bounds.iter().position(|bound| value <= *bound);
        *bucket.map_or(&mut self.beyond, |bucket| &mut self.within[bucket]) += 1;
        self.sum += value;
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.within.iter_mut().zip(other.within) {
            *sum += count;
        }
        self.beyond += other.beyond;
        self.sum += other.sum;
    }

    fn buckets(&self, bounds: &[f64; N]) -> Vec<(f64, u64)> {
        let within = bounds.iter().copied().zip(self.within);
        within.chain([(f64::INFINITY, self.beyond)]).collect()
    }
}

// === impl RequestCollector ===

impl Collector for RequestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = self.0.sums();
        let mut family =
            encoder.encode_descriptor("istio_requests", "Requests", None, MetricType::Counter)?;
        for (labels, series) in &sums {
            ConstCounter::new(series.requests).encode(family.encode_family(labels)?)?;
        }
        let durations = sums.iter().map(|(labels, series)| (labels, &series.milliseconds));
        distributions(
            &mut encoder,
            ["istio_request_duration_milliseconds", DURATION_HELP],
            &MILLISECONDS,
            durations,
        )?;
        let received = sums.iter().map(|(labels, series)| (labels, &series.received));
        distributions(&mut encoder, ["istio_request_bytes", "Request bodies"], &BYTES, received)?;
        let sent = sums.iter().map(|(labels, series)| (labels, &series.sent));
        distributions(&mut encoder, ["istio_response_bytes", "Response bodies"], &BYTES, sent)
    }
}

const DURATION_HELP: &str = "Time from the request's head to the end of its response";

fn distributions<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    [name, help]: [&str; 2],
    bounds: &[f64; N],
    rows: impl Iterator<Item = (&'a RequestLabels, &'a Distribution<N>)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, row) in rows {
        let buckets = row.buckets(bounds);
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut encoder = family.encode_family(labels)?;
        encoder.encode_histogram::<NoLabelSet>(row.sum, count, &buckets, None)?;
    }
    Ok(())
}

impl fmt::Debug for RequestCollector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RequestCollector")
    }
}

// === impl RequestLabels ===

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let service = self.service.as_ref();
        let name = service.map_or("unknown", |key| &key.name);
        let namespace = service.map_or("unknown", |key| &key.namespace);
        let host = service.map_or_else(
            || "unknown".to_owned(),
            |key| format!("{}.{}.svc.cluster.local", key.name, key.namespace),
        );
        let code = self.code.to_string();
        let grpc_status = self.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        let known: [(&str, &str); 11] = [
            ("reporter", "waypoint"),
            ("request_protocol", if self.grpc { "grpc" } else { "http" }),
            ("response_code", &code),
            ("grpc_response_status", &grpc_status),
            ("response_flags", self.flag),
            ("connection_security_policy", if self.mtls { "mutual_tls" } else { "unknown" }),
            ("source_principal", self.principal.as_deref().unwrap_or("unknown")),
            ("destination_service", &host),
            ("destination_service_name", name),
            ("destination_service_namespace", namespace),
            ("destination_workload_namespace", namespace),
        ];
        for label in known {
            label.encode(encoder.encode_label())?;
        }
        for label in UNKNOWN {
            (label, "unknown").encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

const UNKNOWN: [&str; 12] = [
    "source_workload",
    "source_workload_namespace",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    fn labels(code: u16) -> RequestLabels {
        RequestLabels {
            service: None,
            code,
            grpc_status: None,
            flag: "-",
            grpc: false,
            mtls: false,
            principal: None,
        }
    }

    /// What a scrape shows of one series, by its name and, of a bucket, its bound.
    fn value(scrape: &str, name: &str, code: u16, bound: &str) -> f64 {
        let labelled = [
            format!("{name}{{"),
            format!("response_code=\"{code}\""),
            if bound.is_empty() { String::new() } else { format!("le=\"{bound}\"") },
        ];
        let mut lines =
            scrape.lines().filter(|line| labelled.iter().all(|part| line.contains(part)));
        let line = lines.next().unwrap_or_else(|| panic!("no {name}:\n{scrape}"));
        assert_eq!(lines.next(), None, "one series");
        line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
    }

    #[test]
    fn what_several_threads_have_counted_is_added_up() {
        let requests = Arc::new(Requests::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RequestCollector(Arc::clone(&requests))));
        // More than there are shards.
        std::thread::scope(|scope| {
            for _ in 0..SHARDS + 4 {
                scope.spawn(|| {
                    requests.finished(labels(200), Duration::from_micros(1_500), 65, 64);
                    requests.finished(labels(200), Duration::from_secs(60), 0, 1 << 30);
                    requests.finished(labels(404), Duration::from_millis(1), 0, 0);
                });
            }
        });

        let mut scrape = String::new();
        text::encode(&mut scrape, &registry).expect("a String");
        let value = |name, code, bound| value(&scrape, name, code, bound);
        let threads = (SHARDS + 4) as f64;

        assert_eq!(value("istio_requests_total", 200, ""), 2.0 * threads);
        assert_eq!(value("istio_requests_total", 404, ""), threads);
        let bucket = "istio_request_duration_milliseconds_bucket";
        for (bound, each) in [("1.0", 0.0), ("2.0", 1.0), ("16384.0", 1.0), ("+Inf", 2.0)] {
            assert_eq!(value(bucket, 200, bound), each * threads, "{bound}");
        }
        // A bound is within its bucket.
        assert_eq!(value(bucket, 404, "1.0"), threads);
        let sum = value("istio_request_duration_milliseconds_sum", 200, "");
        assert!((sum - 60_001.5 * threads).abs() < 1e-3, "{sum}");
        assert_eq!(value("istio_request_bytes_bucket", 200, "64.0"), threads);
        assert_eq!(value("istio_request_bytes_bucket", 200, "256.0"), 2.0 * threads);
        assert_eq!(value("istio_response_bytes_bucket", 200, "64.0"), threads);
        assert_eq!(value("istio_response_bytes_bucket", 200, "67108864.0"), threads);
        assert_eq!(value("istio_response_bytes_count", 200, ""), 2.0 * threads);
    }
}
