//! Everything that lives across snapshots, by identity.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::endpoint::Endpoint;
use super::{Identity, Protocol, Shared, UpstreamTls};

/// Endpoints by identity. Dead entries are pruned whenever a map has doubled.
pub(super) struct Registry {
    endpoints: HashMap<Key, Weak<Endpoint>>,
    prune_at: usize,
    /// Services that a living snapshot has.
    services: HashMap<Arc<str>, Weak<Service>>,
    prune_services_at: usize,
    /// Few: one for each policy that lives.
    pub(super) tls: HashMap<Identity, Weak<UpstreamTls>>,
}

/// What a service keeps across snapshots.
pub(in crate::upstream) struct Service {
    pub(in crate::upstream) name: Arc<str>,
    /// Retries that run.
    pub(in crate::upstream) retries: AtomicUsize,
    /// Held while an endpoint is ejected.
    pub(in crate::upstream) ejecting: Mutex<()>,
}

/// What two snapshots must agree on to share an endpoint's connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    tls: Option<Identity>,
}

// === impl Registry ===

impl Registry {
    const PRUNE_MIN: usize = 64;

    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            endpoints: HashMap::new(),
            prune_at: Self::PRUNE_MIN,
            services: HashMap::new(),
            prune_services_at: Self::PRUNE_MIN,
            tls: HashMap::new(),
        }
    }

    pub(super) fn intern(
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
    pub(super) fn service(&mut self, name: Arc<str>) -> (Arc<Service>, bool) {
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

    pub(super) fn living(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.values().filter_map(Weak::upgrade).collect()
    }
}
