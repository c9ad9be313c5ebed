//! Which endpoint a request goes to, and the running state that endpoints keep across snapshots.
//!
//! Takes a service's addresses, gives [`Endpoint`]s: one per address and protocol, shared by all
//! snapshots that name it. Nothing here waits; an endpoint that nobody holds is dropped with its
//! idle connections.

mod choice;
mod endpoint;
mod groups;
mod registry;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use waypoint_policies::BackendTls;

use super::counters::{Counters, EjectedCollector};
use super::health::millis;
use super::names::{Named, Names, Target};
use super::pool::{Http1Pool, Http2Pool};
use super::tls::{self, Identity};
use super::{
    Cluster, Protocol, Security, TlsFailure, TlsSettingsError, UpstreamLimits, UpstreamTls,
};
use crate::drain::Tasks;
pub(super) use choice::{has_untried, pick};
pub use endpoint::EndpointFigures;
pub(super) use endpoint::{Connections, Endpoint, Outstanding};
pub(super) use groups::Groups;
use registry::Registry;
pub(super) use registry::Service;

/// The running state of all endpoints; it outlives every snapshot.
pub struct Upstreams {
    shared: Arc<Shared>,
    registry: Arc<Mutex<Registry>>,
    /// Ends the sweeper when the last handle goes.
    _sweeping: DropGuard,
}

/// What every endpoint needs of the process.
pub(super) struct Shared {
    pub(super) limits: UpstreamLimits,
    pub(super) tasks: Tasks,
    pub(super) counters: Counters,
    /// Cancelled when nothing idle is to be kept any more.
    pub(super) closing: CancellationToken,
    pub(super) names: Names,
    started: Instant,
    /// Until when some endpoint is ejected, in milliseconds after `started`; 0 = none ever was.
    ejected_until: AtomicU64,
}

// === impl Upstreams ===

impl Upstreams {
    pub fn new(limits: UpstreamLimits, tasks: Tasks) -> Arc<Self> {
        let closing = CancellationToken::new();
        let registry = Arc::new(Mutex::new(Registry::new()));
        tasks.spawn(sweep(Arc::clone(&registry), limits.idle_timeout, closing.clone()));
        let _sweeping = closing.clone().drop_guard();
        let (counters, names) = (Counters::default(), Names::new(&limits.names));
        let shared = Arc::new(Shared {
            limits,
            tasks,
            counters,
            closing,
            names,
            started: Instant::now(),
            ejected_until: AtomicU64::new(0),
        });
        Arc::new(Self { shared, registry, _sweeping })
    }

    /// A service's endpoints, in groups of which the first is preferred. One that any living
    /// cluster names already keeps its connections, counters and health.
    pub fn cluster(
        self: &Arc<Self>,
        service: Arc<str>,
        protocol: Protocol,
        security: Security,
        groups: &[Vec<SocketAddr>],
    ) -> Cluster {
        let mut registry = self.registry.lock();
        let (service, is_new) = registry.service(service);
        // All endpoints of a new service are new: none of them has to wait for the others.
        let since = (!is_new).then(|| self.shared.now_ms());
        let (tls, groups) = match &security {
            Security::Tls(tls) => (Some(tls), groups),
            Security::Plain => (None, groups),
            Security::Refused(_) => (None, &[][..]),
        };
        let mut intern = |address| registry.intern(address, protocol, tls, since, &self.shared);
        let endpoints = groups.iter().flatten().map(|&address| intern(address)).collect();
        let spilled = || self.shared.counters.spilled(&service.name);
        let groups = Arc::new(Groups::new(groups.iter().map(Vec::len), spilled));
        Cluster { service, protocol, security, endpoints, groups, named: None }
    }

    /// As [`Upstreams::cluster`], where endpoints may have names: they are resolved from now on,
    /// and as long as the cluster lives.
    pub fn named_cluster(
        self: &Arc<Self>,
        service: Arc<str>,
        protocol: Protocol,
        security: Security,
        groups: &[Vec<Target>],
    ) -> Cluster {
        let addresses = |group: &Vec<Target>| {
            let address = |target: &Target| match target {
                Target::Address(address) => Some(*address),
                Target::Name(..) => None,
            };
            group.iter().map(address).collect::<Option<Vec<_>>>()
        };
        match groups.iter().map(addresses).collect::<Option<Vec<_>>>() {
            Some(addresses) => self.cluster(service, protocol, security, &addresses),
            None => {
                let empty = self.cluster(service, protocol, security, &[]);
                let named = Named::new(self, &self.shared, empty.clone(), groups);
                Cluster { named: Some(named), ..empty }
            }
        }
    }

    /// Where the process itself listens: names of endpoints may not lead there.
    pub fn listens_on(&self, addresses: Vec<SocketAddr>) {
        self.shared.names.own(addresses);
    }

    /// Whether an endpoint's name may lead to an address, as far as the process itself goes.
    pub(super) fn may_be_named(&self, address: SocketAddr) -> bool {
        let is_own = self.shared.names.is_own(address);
        if is_own {
            tracing::warn!(%address, "a name may not lead to the proxy itself");
        }
        !is_own
    }

    /// How long a connection may take to be made.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.shared.limits.connect_timeout
    }

    /// What a policy says, ready for handshakes. Policies that say the same share their sessions,
    /// and so do the snapshots that have them.
    ///
    /// # Errors
    ///
    /// [`TlsSettingsError`]: the service must be [`Security::Refused`].
    pub fn tls(
        &self,
        settings: &BackendTls,
        protocol: Protocol,
    ) -> Result<Arc<UpstreamTls>, TlsSettingsError> {
        let identity = tls::identity(settings, protocol);
        if let Some(tls) = self.registry.lock().tls.get(&identity).and_then(Weak::upgrade) {
            return Ok(tls);
        }
        let tls = Arc::new(UpstreamTls::new(settings, protocol)?);
        let mut registry = self.registry.lock();
        registry.tls.retain(|_, tls| 0 < tls.strong_count());
        registry.tls.insert(identity, Arc::downgrade(&tls));
        Ok(tls)
    }

    /// Closes idle connections and keeps none from now on; requests in flight are not touched.
    pub fn close(&self) {
        self.shared.closing.cancel();
        for endpoint in self.registry.lock().living() {
            endpoint.close_idle();
        }
    }

    /// Makes the series of all endpoints known.
    pub fn register(&self, metrics: &mut prometheus_client::registry::Registry) {
        self.shared.counters.register(metrics);
        let registry = Arc::downgrade(&self.registry);
        let ejected = move || {
            let living = registry.upgrade().map(|registry| registry.lock().living());
            let ejected = living.iter().flatten().filter(|endpoint| endpoint.is_ejected());
            ejected.count() as u64
        };
        metrics.register_collector(Box::new(EjectedCollector::new(ejected)));
    }

    /// The figures of every living endpoint, in no order.
    pub fn figures(&self) -> Vec<EndpointFigures> {
        self.registry.lock().living().iter().map(|endpoint| endpoint.figures()).collect()
    }
}

/// Drops connections that nobody used for the idle timeout, until the upstreams close.
async fn sweep(registry: Arc<Mutex<Registry>>, idle_timeout: Duration, closing: CancellationToken) {
    let period = (idle_timeout / 2).max(Duration::from_millis(100));
    while tokio::time::timeout(period, closing.cancelled()).await.is_err() {
        let living = registry.lock().living();
        for endpoint in living {
            endpoint.expire_idle();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Milliseconds since the process began to send requests.
    pub(super) fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Notes that an endpoint is ejected until then.
    pub(super) fn ejects_until(&self, until_ms: u64) {
        self.ejected_until.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// The time, if an endpoint may be ejected at the moment.
    fn now_if_some_are_ejected(&self) -> Option<u64> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        Some(self.now_ms()).filter(|now_ms| *now_ms < until)
    }
}
