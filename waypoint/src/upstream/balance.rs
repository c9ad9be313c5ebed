//! Which endpoint a request goes to, and the running state that endpoints keep across snapshots.
//!
//! Takes a service's addresses, gives [`Endpoint`]s: one per address and protocol, shared by all
//! snapshots that name it. Nothing here waits; an endpoint that nobody holds is dropped with its
//! idle connections.

mod choice;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use waypoint_policies::BackendTls;

use super::counters::{Counters, EjectedCollector};
use super::health::{Health, millis};
use super::pool::{Http1Pool, Http2Pool};
use super::tls::{self, Identity};
use super::{
    Cluster, Protocol, Security, TlsFailure, TlsSettingsError, UpstreamLimits, UpstreamTls,
};
use crate::drain::Tasks;
use choice::Warming;
pub(super) use choice::{has_untried, pick};

/// How long an endpoint that could not be connected to is only a second choice.
const CONNECT_COOLDOWN: Duration = Duration::from_secs(1);

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
    started: Instant,
}

/// Endpoints by identity. Dead entries are pruned whenever a map has doubled.
struct Registry {
    endpoints: HashMap<Key, Weak<Endpoint>>,
    prune_at: usize,
    /// Services that a living snapshot has.
    services: HashMap<Arc<str>, Weak<Service>>,
    prune_services_at: usize,
    /// Few: one for each policy that lives.
    tls: HashMap<Identity, Weak<UpstreamTls>>,
}

/// What a service keeps across snapshots.
pub(super) struct Service {
    pub(super) name: Arc<str>,
    /// Retries that run.
    pub(super) retries: AtomicUsize,
    /// Held while an endpoint is ejected.
    pub(super) ejecting: Mutex<()>,
}

/// What two snapshots must agree on to share an endpoint's connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<Identity>,
}

/// One address spoken to in one protocol, plain or under one trust: counters, health and connections.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) connections: Connections,
    pub(super) shared: Arc<Shared>,
    /// Requests sent here whose response body has not ended.
    outstanding: AtomicUsize,
    /// Until when the endpoint is a second choice, in milliseconds after `shared.started`.
    cooling_until: AtomicU64,
    pub(super) health: Health,
    warming: Warming,
    /// How the last TLS handshake failed, if it did.
    handshake: Mutex<Option<TlsFailure>>,
}

pub(super) enum Connections {
    Http1(Http1Pool),
    Http2(Http2Pool),
}

/// One endpoint's figures, for the admin server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointFigures {
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// Whether it is spoken to in TLS.
    pub tls: bool,
    /// Why the last TLS handshake failed, if it did.
    pub tls_failure: Option<&'static str>,
    /// Failures since the last success.
    pub failures: u32,
    /// How much longer it is ejected, if it is.
    pub ejected_for: Option<Duration>,
    /// Requests whose response body has not ended.
    pub outstanding: usize,
    /// Connections, busy and idle and being made.
    pub connections: usize,
    /// Those of them that no request uses.
    pub idle: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

// === impl Upstreams ===

impl Upstreams {
    pub fn new(limits: UpstreamLimits, tasks: Tasks) -> Arc<Self> {
        let closing = CancellationToken::new();
        let registry = Registry {
            endpoints: HashMap::new(),
            prune_at: Registry::PRUNE_MIN,
            services: HashMap::new(),
            prune_services_at: Registry::PRUNE_MIN,
            tls: HashMap::new(),
        };
        let registry = Arc::new(Mutex::new(registry));
        tasks.spawn(sweep(Arc::clone(&registry), limits.idle_timeout, closing.clone()));
        let _sweeping = closing.clone().drop_guard();
        let counters = Counters::default();
        let shared = Arc::new(Shared { limits, tasks, counters, closing, started: Instant::now() });
        Arc::new(Self { shared, registry, _sweeping })
    }

    /// A service's endpoints. One that any living cluster names already keeps its connections,
    /// counters and health.
    pub fn cluster(
        self: &Arc<Self>,
        service: Arc<str>,
        protocol: Protocol,
        security: Security,
        endpoints: &[SocketAddr],
    ) -> Cluster {
        let mut registry = self.registry.lock();
        let (service, is_new) = registry.service(service);
        // All endpoints of a new service are new: none of them has to wait for the others.
        let since = (!is_new).then(|| self.shared.now_ms());
        let tls = match &security {
            Security::Tls(tls) => Some(tls),
            Security::Plain | Security::Refused(_) => None,
        };
        let endpoints = endpoints
            .iter()
            .map(|&address| registry.intern(address, protocol, tls, since, &self.shared));
        let endpoints = match &security {
            Security::Refused(_) => Arc::default(),
            Security::Plain | Security::Tls(_) => endpoints.collect(),
        };
        Cluster { service, protocol, security, endpoints }
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
}

// === impl Registry ===

impl Registry {
    const PRUNE_MIN: usize = 64;

    fn intern(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        tls: Option<&Arc<UpstreamTls>>,
        new_since_ms: Option<u64>,
        shared: &Arc<Shared>,
    ) -> Arc<Endpoint> {
        let key = Key { address, protocol, tls: tls.map(|tls| tls.identity) };
        if let Some(endpoint) = self.endpoints.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        if self.prune_at <= self.endpoints.len() {
            self.endpoints.retain(|_, endpoint| 0 < endpoint.strong_count());
            self.prune_at = (2 * self.endpoints.len()).max(Self::PRUNE_MIN);
        }
        let endpoint = Endpoint::new(key, tls.cloned(), new_since_ms, Arc::clone(shared));
        self.endpoints.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }

    /// The service of that name, and whether no living snapshot has it.
    fn service(&mut self, name: Arc<str>) -> (Arc<Service>, bool) {
        if let Some(service) = self.services.get(&name).and_then(Weak::upgrade) {
            return (service, false);
        }
        if self.prune_services_at <= self.services.len() {
            self.services.retain(|_, service| 0 < service.strong_count());
            self.prune_services_at = (2 * self.services.len()).max(Self::PRUNE_MIN);
        }
        let service = Arc::new(Service {
            name: Arc::clone(&name),
            retries: AtomicUsize::new(0),
            ejecting: Mutex::new(()),
        });
        self.services.insert(name, Arc::downgrade(&service));
        (service, true)
    }

    fn living(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.values().filter_map(Weak::upgrade).collect()
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(
        key: Key,
        tls: Option<Arc<UpstreamTls>>,
        new_since_ms: Option<u64>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let connections = match key.protocol {
            Protocol::Http1 => Connections::Http1(Http1Pool::new(&shared.limits)),
            Protocol::Http2 => Connections::Http2(Http2Pool::new(&shared.limits)),
        };
        Arc::new(Self {
            address: key.address,
            tls,
            connections,
            shared,
            outstanding: AtomicUsize::new(0),
            cooling_until: AtomicU64::new(0),
            health: Health::default(),
            warming: Warming::new(new_since_ms),
            handshake: Mutex::new(None),
        })
    }

    /// Notes how a TLS handshake ended; whether that is news.
    pub(super) fn handshake_ended(&self, failure: Option<TlsFailure>) -> bool {
        std::mem::replace(&mut *self.handshake.lock(), failure) != failure
    }

    /// Notes that no connection could be made: others are preferred for a while.
    pub(super) fn cool_down(&self) {
        let until = self.shared.now_ms() + millis(CONNECT_COOLDOWN);
        self.cooling_until.store(until, Ordering::Relaxed);
    }

    /// Requests sent here whose response body has not ended.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The smaller, the better a choice.
    fn load(&self) -> (bool, bool, bool, usize) {
        let until = self.cooling_until.load(Ordering::Relaxed);
        let cooling = until != 0 && self.shared.now_ms() < until;
        let window = self.shared.limits.slow_start;
        let holds_back = self.warming.holds_back(window, || self.shared.now_ms());
        (self.is_ejected(), cooling, holds_back, self.outstanding())
    }

    /// Whether it has failed too often to be chosen while another one can be.
    fn is_ejected(&self) -> bool {
        self.health.is_ejected(|| self.shared.now_ms())
    }

    fn expire_idle(&self) {
        match &self.connections {
            Connections::Http1(pool) => pool.expire_idle(),
            Connections::Http2(pool) => pool.expire_idle(),
        }
    }

    fn close_idle(&self) {
        match &self.connections {
            Connections::Http1(pool) => pool.close_idle(),
            Connections::Http2(pool) => pool.close_idle(),
        }
    }

    fn figures(&self) -> EndpointFigures {
        let (protocol, (connections, idle, waiting)) = match &self.connections {
            Connections::Http1(pool) => (Protocol::Http1, pool.figures()),
            Connections::Http2(pool) => (Protocol::Http2, pool.figures()),
        };
        let outstanding = self.outstanding();
        let (failures, ejected_for) = self.health.figures(self.shared.now_ms());
        EndpointFigures {
            failures,
            ejected_for,
            address: self.address,
            protocol,
            tls: self.tls.is_some(),
            tls_failure: self.handshake.lock().map(TlsFailure::reason),
            outstanding,
            connections,
            idle,
            waiting,
        }
    }
}

// === Outstanding ===

/// A request counted at its endpoint until this is dropped: when the response body has ended.
pub(super) struct Outstanding(Arc<Endpoint>);

impl Outstanding {
    pub(super) fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.outstanding.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
