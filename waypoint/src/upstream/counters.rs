//! What the upstream side counts, for the metrics. Cheap to clone; all clones count together.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::TlsFailure;

/// The counters of all endpoints.
#[derive(Clone, Debug, Default)]
pub struct UpstreamCounters {
    tls_failures: Family<[(&'static str, &'static str); 1], Counter>,
}

// === impl UpstreamCounters ===

impl UpstreamCounters {
    /// Makes the series known; every label value is from a table.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "waypoint_upstream_tls_failures",
            "TLS handshakes with endpoints that failed, by reason",
            self.tls_failures.clone(),
        );
    }

    pub(super) fn tls_failed(&self, failure: TlsFailure) {
        self.tls_failures.get_or_create(&[("reason", failure.reason())]).inc();
    }
}
