//! Metrics under the names that dashboards already know, served at `/stats/prometheus`.
//!
//! Every label value is bounded: services, routes and filters come from resources, codes and flags
//! from tables; nothing that a client sends becomes a label.

mod filters;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use waypoint_policies::ServicePortKey;

use crate::access_log::Record;
use crate::overload;
use crate::upstream::Upstreams;

pub use filters::{FilterSample, FilterSource};

/// Principals that are labels of their own, the first ones that come; all others are [`OTHERS`]. Each
/// costs a series for each service and code that it gets.
const PRINCIPALS_MAX: usize = 256;
const OTHERS: &str = "others";

/// All series of the process.
pub struct Metrics {
    registry: Registry,
    /// What the four families below hold, found by one search a request.
    series: RwLock<HashMap<RequestLabels, RequestSeries>>,
    principals: RwLock<HashSet<Arc<str>>>,
    requests: Family<RequestLabels, Counter>,
    duration: Family<RequestLabels, Histogram, fn() -> Histogram>,
    request_bytes: Family<RequestLabels, Histogram, fn() -> Histogram>,
    response_bytes: Family<RequestLabels, Histogram, fn() -> Histogram>,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    mirrored: Family<[(&'static str, &'static str); 1], Counter>,
    handshakes: Family<[(&'static str, &'static str); 1], Counter>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Requests that run.
    pub running: Gauge,
    /// How often a bound on clients was met, by its name.
    pub over_bounds: overload::Refused,
    /// Tasks of listeners, connections and streams that run.
    pub tasks: Gauge,
    /// Access log lines that found the buffer full.
    pub log_shed: Counter,
    /// Reloads by result: `applied`, `refused`, `unchanged`.
    pub reloads: Family<[(&'static str, &'static str); 1], Counter>,
    /// The snapshot that is served.
    pub snapshot: Gauge,
    /// Resources whose current version is refused.
    pub refused_resources: Gauge,
}

/// Labels of Istio's standard metrics, as a waypoint reports them.
///
/// # Source
///
/// Istio standard metrics; the label set that Istio's own waypoint test asserts. What is not known
/// (source workload, the principal of a client without one) is `unknown`, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RequestLabels {
    service: Option<Arc<ServicePortKey>>,
    code: u16,
    grpc_status: Option<u32>,
    flag: &'static str,
    grpc: bool,
    mtls: bool,
    principal: Option<Arc<str>>,
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
struct RequestSeries {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RequestSeries {
    fn observe(&self, record: &Record, duration: Duration) {
        self.requests.inc();
        self.duration.observe(duration.as_secs_f64() * 1_000.0);
        self.request_bytes.observe(record.bytes_received() as f64);
        self.response_bytes.observe(record.sent as f64);
    }
}

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

/// 0.5 ms to about 16 s.
fn milliseconds() -> Histogram {
    Histogram::new(exponential_buckets(0.5, 2.0, 16))
}

/// 64 B to 64 MiB.
fn bytes() -> Histogram {
    Histogram::new(exponential_buckets(64.0, 4.0, 11))
}

impl Metrics {
    /// Registers every series; `filters` is asked for the filters' own at each scrape.
    pub fn new(filters: Arc<dyn FilterSource>, upstreams: &Upstreams) -> Arc<Self> {
        let mut registry = Registry::default();
        let family = |make: fn() -> Histogram| Family::new_with_constructor(make);
        let metrics = Self {
            registry: Registry::default(),
            series: RwLock::default(),
            principals: RwLock::default(),
            requests: Family::default(),
            duration: family(milliseconds),
            request_bytes: family(bytes),
            response_bytes: family(bytes),
            refused: Family::default(),
            mirrored: Family::default(),
            handshakes: Family::default(),
            connections: Gauge::default(),
            running: Gauge::default(),
            over_bounds: Family::default(),
            tasks: Gauge::default(),
            log_shed: Counter::default(),
            reloads: Family::default(),
            snapshot: Gauge::default(),
            refused_resources: Gauge::default(),
        };
        let m = &metrics;
        registry.register("istio_requests", "Requests", m.requests.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "Time from the request's head to the end of its response",
            m.duration.clone(),
        );
        registry.register("istio_request_bytes", "Request bodies", m.request_bytes.clone());
        registry.register("istio_response_bytes", "Response bodies", m.response_bytes.clone());
        registry.register(
            "waypoint_refused_requests",
            "Requests that the codec refused, by the check's name",
            m.refused.clone(),
        );
        registry.register(
            "waypoint_mirrored_requests",
            "Copies of requests for mirrors, by what became of them",
            m.mirrored.clone(),
        );
        registry.register(
            "waypoint_tls_handshake_failures",
            "Downstream TLS handshakes that failed, by reason",
            m.handshakes.clone(),
        );
        registry.register(
            "waypoint_downstream_connections",
            "Downstream connections that are open",
            m.connections.clone(),
        );
        registry.register("waypoint_downstream_requests", "Requests that run", m.running.clone());
        registry.register(
            "waypoint_limited",
            "Connections and requests refused for a bound on clients, by its name",
            m.over_bounds.clone(),
        );
        registry.register(
            "waypoint_tasks",
            "Tasks of listeners, connections and streams that run",
            m.tasks.clone(),
        );
        registry.register(
            "waypoint_access_log_shed",
            "Access log lines shed because the buffer was full",
            m.log_shed.clone(),
        );
        registry.register("waypoint_reloads", "Reloads by result", m.reloads.clone());
        registry.register("waypoint_snapshot", "The snapshot in force", m.snapshot.clone());
        registry.register(
            "waypoint_refused_resources",
            "Resources whose current version is refused",
            m.refused_resources.clone(),
        );
        upstreams.register(&mut registry);
        registry.register_collector(Box::new(filters::FilterCollector::new(filters)));
        Arc::new(Self { registry, ..metrics })
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, record: &Record, duration: Duration) {
        let labels = RequestLabels {
            service: record.service.clone(),
            code: record.status,
            grpc_status: record.grpc_status,
            flag: record.flag,
            grpc: record.grpc,
            mtls: record.connection.certificate().is_some(),
            principal: record.connection.principal().map(|principal| self.labelled(principal)),
        };
        if let Some(series) = self.series.read().get(&labels) {
            return series.observe(record, duration);
        }
        let series = self.series_of(&labels);
        series.observe(record, duration);
        self.series.write().insert(labels, series);
    }

    /// The principal as a label: its name, or [`OTHERS`] once there are too many.
    fn labelled(&self, principal: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.principals.read().get(principal) {
            return Arc::clone(known);
        }
        let mut principals = self.principals.write();
        if PRINCIPALS_MAX <= principals.len() && !principals.contains(principal) {
            return Arc::from(OTHERS);
        }
        principals.insert(Arc::clone(principal));
        Arc::clone(principal)
    }

    fn series_of(&self, labels: &RequestLabels) -> RequestSeries {
        RequestSeries {
            requests: self.requests.get_or_create(labels).clone(),
            duration: self.duration.get_or_create(labels).clone(),
            request_bytes: self.request_bytes.get_or_create(labels).clone(),
            response_bytes: self.response_bytes.get_or_create(labels).clone(),
        }
    }

    /// Counts a request that the codec refused.
    pub fn refused(&self, check: &'static str) {
        self.refused.get_or_create(&[("check", check)]).inc();
    }

    /// Counts a copy for a mirror: `answered`, `failed`, `shed_full`, `shed_body`, `shed_filter`.
    pub fn mirrored(&self, result: &'static str) {
        self.mirrored.get_or_create(&[("result", result)]).inc();
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshakes.get_or_create(&[("reason", reason)]).inc();
    }

    /// All series in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &self.registry)
            .expect("writing to a String does not fail");
        out
    }
}
