//! What the upstream side counts, for the metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::TlsFailure;
use super::health::Reason;

/// The counters of all endpoints. Every label value is from a table or from resources.
#[derive(Debug, Default)]
pub(super) struct Counters {
    tls_failures: Family<[(&'static str, &'static str); 1], Counter>,
    ejections: Family<[(&'static str, String); 2], Counter>,
    retries: Family<[(&'static str, String); 1], Counter>,
    retries_over_budget: Family<[(&'static str, String); 1], Counter>,
    spilled: Family<[(&'static str, String); 1], Counter>,
    resolutions: Family<[(&'static str, String); 2], Counter>,
}

/// Counts the endpoints that are ejected, at each scrape.
pub(super) struct EjectedCollector<F>(F);

// === impl Counters ===

impl Counters {
    /// Makes the series known.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "waypoint_upstream_tls_failures",
            "TLS handshakes with endpoints that failed, by reason",
            self.tls_failures.clone(),
        );
        registry.register(
            "waypoint_upstream_ejections",
            "Endpoints that were ejected because they failed, by the service and the last failure",
            self.ejections.clone(),
        );
        registry.register(
            "waypoint_upstream_retries",
            "Attempts after the first one",
            self.retries.clone(),
        );
        registry.register(
            "waypoint_upstream_retries_over_budget",
            "Retries that were not made because too many ran",
            self.retries_over_budget.clone(),
        );
        registry.register(
            "waypoint_upstream_spilled",
            "Attempts that went to endpoints that are not the nearest, where some are preferred",
            self.spilled.clone(),
        );
        registry.register(
            "waypoint_upstream_name_resolutions",
            "Answers and failures of the resolver for names of endpoints",
            self.resolutions.clone(),
        );
    }

    pub(super) fn tls_failed(&self, failure: TlsFailure) {
        self.tls_failures.get_or_create(&[("reason", failure.reason())]).inc();
    }

    pub(super) fn retried(&self, service: &str) {
        self.retries.get_or_create(&[("service", service.to_owned())]).inc();
    }

    pub(super) fn over_retry_budget(&self, service: &str) {
        self.retries_over_budget.get_or_create(&[("service", service.to_owned())]).inc();
    }

    pub(super) fn resolved(&self, name: &str, result: &str) {
        let labels = [("name", name.to_owned()), ("result", result.to_owned())];
        self.resolutions.get_or_create(&labels).inc();
    }

    /// The counter of one service, to be kept: it is counted on the way of requests.
    pub(super) fn spilled(&self, service: &str) -> Counter {
        self.spilled.get_or_create_owned(&[("service", service.to_owned())])
    }

    pub(super) fn ejected(&self, service: &str, reason: Reason) {
        let labels = [("service", service.to_owned()), ("reason", reason.name().to_owned())];
        self.ejections.get_or_create(&labels).inc();
    }
}

// === impl EjectedCollector ===

impl<F: Fn() -> u64 + Send + Sync + 'static> EjectedCollector<F> {
    pub(super) fn new(count: F) -> Self {
        Self(count)
    }
}

impl<F> fmt::Debug for EjectedCollector<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("EjectedCollector")
    }
}

impl<F: Fn() -> u64 + Send + Sync + 'static> Collector for EjectedCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new((self.0)());
        let help = "Endpoints that are ejected at the moment";
        let (name, kind) = ("waypoint_upstream_ejected_endpoints", gauge.metric_type());
        gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
    }
}
