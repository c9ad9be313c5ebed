//! Metrics under the names that dashboards already know, served at `/stats/prometheus`.
//!
//! Every label value is bounded: services, routes and filters come from resources, codes and flags
//! from tables; nothing that a client sends becomes a label.

mod filters;
mod requests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::access_log::Record;
use crate::overload;
use crate::upstream::Upstreams;

pub use filters::{FilterSample, FilterSource};
use requests::{RequestCollector, RequestLabels, Requests};

/// Principals that are labels of their own, the first ones that come; all others are [`OTHERS`]. Each
/// costs a series for each service and code that it gets.
const PRINCIPALS_MAX: usize = 256;
const OTHERS: &str = "others";

/// All series of the process.
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    principals: RwLock<HashSet<Arc<str>>>,
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

impl Metrics {
    /// Registers every series; `filters` is asked for the filters' own at each scrape.
    pub fn new(filters: Arc<dyn FilterSource>, upstreams: &Upstreams) -> Arc<Self> {
        let mut registry = Registry::default();
        let metrics = Self {
            registry: Registry::default(),
            requests: Arc::default(),
            principals: RwLock::default(),
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
        registry.register_collector(Box::new(RequestCollector(Arc::clone(&m.requests))));
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
        self.requests.finished(labels, duration, record.bytes_received(), record.sent);
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
