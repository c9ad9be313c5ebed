//! What an agent shows: metrics, health and status, on a port of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use waypoint_redirect::{State, Totals};

use super::desired::{Alarm, Seen};
use crate::admin::{Answer, json, method_not_allowed, metrics_text, text};

type Labels<const N: usize> = [(&'static str, String); N];

const INDEX: &str = "\
GET /stats/prometheus   metrics
GET /healthz/ready      200 while the kernel has what it should have
GET /status             what is in the kernel: programs, entries, counters
";

/// Whether the kernel has what it should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing was put in force yet.
    #[default]
    Starting,
    Good,
    /// A table could not be put in force; the one before it is.
    ApplyFailed,
    /// The kernel could not be compared with the table, or not be mended.
    NotCompared,
}

/// All figures.
pub(super) struct Figures {
    pins: PathBuf,
    moment: Mutex<Moment>,
}

#[derive(Default)]
struct Moment {
    health: Health,
    entries: usize,
    refused_table_full: usize,
    refused_resources: usize,
    drift: usize,
    drift_total: u64,
    tables: u64,
    alarms: BTreeMap<&'static str, usize>,
    ready: BTreeMap<String, bool>,
}

impl Figures {
    pub(super) fn new(pins: PathBuf) -> Self {
        Self { pins, moment: Mutex::default() }
    }

    pub(super) fn set(&self, waypoints: &BTreeMap<String, Seen>, entries: usize) {
        let mut moment = self.moment.lock();
        moment.entries = entries;
        moment.ready = waypoints.iter().map(|(name, seen)| (name.clone(), seen.ready)).collect();
    }

    pub(super) fn applied(&self, refused_table_full: usize) {
        let mut moment = self.moment.lock();
        moment.tables += 1;
        (moment.health, moment.refused_table_full) = (Health::Good, refused_table_full);
    }

    pub(super) fn health(&self, health: Health) {
        self.moment.lock().health = health;
    }

    pub(super) fn refused_resources(&self, count: usize) {
        self.moment.lock().refused_resources = count;
    }

    pub(super) fn alarms(&self, alarms: &BTreeSet<Alarm>) {
        let mut counts: BTreeMap<&'static str, usize> = Alarm::NAMES.map(|name| (name, 0)).into();
        for alarm in alarms {
            *counts.entry(alarm.name()).or_default() += 1;
        }
        self.moment.lock().alarms = counts;
    }

    pub(super) fn drift(&self, differences: usize) {
        let mut moment = self.moment.lock();
        moment.drift = differences;
        moment.drift_total += differences as u64;
        if moment.health == Health::NotCompared {
            moment.health = Health::Good;
        }
    }

    /// Answers one request.
    pub(super) fn answer(&self, request: &Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/stats/prometheus" | "/metrics") => metrics_text(&self.render()),
            (&Method::GET | &Method::HEAD, "/healthz/ready") => self.ready(),
            (&Method::GET, "/status") => match State::read(&self.pins) {
                Ok(state) => json(StatusCode::OK, &state),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            (_, "/stats/prometheus" | "/metrics" | "/status") => method_not_allowed("GET"),
            (_, "/healthz/ready") => method_not_allowed("GET, HEAD"),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn ready(&self) -> Answer {
        let health = self.moment.lock().health;
        match health {
            Health::Good => text(StatusCode::OK, "ready\n"),
            other => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {other:?}\n")),
        }
    }

    /// The metrics as text. What the kernel counts is read now.
    fn render(&self) -> String {
        let mut registry = Registry::with_prefix("waypoint_redirect");
        self.render_moment(&mut registry);
        if let Ok(state) = State::read(&self.pins) {
            render_kernel(&mut registry, &state);
        }
        let mut out = String::new();
        encode(&mut out, &registry).expect("writing to a String cannot fail");
        out
    }

    fn render_moment(&self, registry: &mut Registry) {
        let moment = self.moment.lock();
        let mut gauge = |name: &str, help: &str, value: usize| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        gauge("entries", "Service addresses and ports in the table", moment.entries);
        gauge("drift", "Differences that the last comparison found", moment.drift);
        gauge("refused_resources", "Mistakes in the resources", moment.refused_resources);
        gauge(
            "table_full",
            "Service ports refused, for the table is full",
            moment.refused_table_full,
        );
        let drift = Counter::<u64>::default();
        drift.inc_by(moment.drift_total);
        registry.register("drift_found", "Differences that were found, and mended", drift);
        let tables = Counter::<u64>::default();
        tables.inc_by(moment.tables);
        registry.register("tables", "Tables that were put in force", tables);
        let alarms = Family::<Labels<1>, Gauge>::default();
        for (kind, count) in &moment.alarms {
            let gauge = alarms.get_or_create(&[("kind", (*kind).to_owned())]).clone();
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        registry.register("alarms", "What keeps traffic from where it should go", alarms);
        let ready = Family::<Labels<1>, Gauge>::default();
        for (name, is_ready) in &moment.ready {
            ready.get_or_create(&[("waypoint", name.clone())]).set((*is_ready).into());
        }
        registry.register("waypoint_ready", "Whether a waypoint is ready", ready);
    }
}

/// Labels are bounded by the table, which is bounded itself.
fn render_kernel(registry: &mut Registry, state: &State) {
    let connections = Family::<Labels<1>, Counter>::default();
    for (verdict, count) in verdicts(&state.totals) {
        connections.get_or_create(&[("verdict", verdict.to_owned())]).inc_by(count);
    }
    registry.register("connections", "connect() by what came of it", connections);
    let services = Family::<Labels<2>, Counter>::default();
    for entry in &state.entries {
        let Some(counters) = entry.counters else { continue };
        let verdicts = [
            ("redirected", counters.redirected),
            ("direct", counters.direct),
            ("refused", counters.refused),
            ("refused_udp", counters.refused_udp),
        ];
        for (verdict, count) in verdicts {
            let labels = [("service", entry.service.clone()), ("verdict", verdict.to_owned())];
            services.get_or_create(&labels).inc_by(count);
        }
    }
    registry.register("service_connections", "The same, by service port", services);
}

/// Every total with its name.
pub(crate) fn verdicts(totals: &Totals) -> [(&'static str, u64); 8] {
    [
        ("missed", totals.missed),
        ("redirected", totals.redirected),
        ("direct", totals.direct),
        ("exempt", totals.exempt),
        ("refused", totals.refused),
        ("refused_table_full", totals.refused_table_full),
        ("refused_udp", totals.refused_udp),
        ("unremembered", totals.unremembered),
    ]
}
