//! One endpoint: its counters, health and connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::choice::Warming;
use super::registry::Key;
use super::{Http1Pool, Http2Pool, Protocol, Shared, TlsFailure, UpstreamTls};
use crate::upstream::health::{Health, millis};

/// How long an endpoint that could not be connected to is only a second choice.
const CONNECT_COOLDOWN: Duration = Duration::from_secs(1);

/// One address spoken to in one protocol, plain or under one trust: counters, health and connections.
pub(in crate::upstream) struct Endpoint {
    pub(in crate::upstream) address: SocketAddr,
    pub(in crate::upstream) tls: Option<Arc<UpstreamTls>>,
    pub(in crate::upstream) connections: Connections,
    pub(in crate::upstream) shared: Arc<Shared>,
    /// Requests sent here whose response body has not ended.
    outstanding: AtomicUsize,
    /// Until when the endpoint is a second choice, in milliseconds after `shared.started`.
    cooling_until: AtomicU64,
    pub(in crate::upstream) health: Health,
    warming: Warming,
    /// How the last TLS handshake failed, if it did.
    handshake: Mutex<Option<TlsFailure>>,
}

pub(in crate::upstream) enum Connections {
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

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(
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
    pub(in crate::upstream) fn handshake_ended(&self, failure: Option<TlsFailure>) -> bool {
        std::mem::replace(&mut *self.handshake.lock(), failure) != failure
    }

    /// Notes that no connection could be made: others are preferred for a while.
    pub(in crate::upstream) fn cool_down(&self) {
        let until = self.shared.now_ms() + millis(CONNECT_COOLDOWN);
        self.cooling_until.store(until, Ordering::Relaxed);
    }

    /// Requests sent here whose response body has not ended.
    pub(in crate::upstream) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The smaller, the better a choice.
    pub(super) fn load(&self) -> (bool, bool, bool, usize) {
        let until = self.cooling_until.load(Ordering::Relaxed);
        let cooling = until != 0 && self.shared.now_ms() < until;
        let window = self.shared.limits.slow_start;
        let holds_back = self.warming.holds_back(window, || self.shared.now_ms());
        (self.is_ejected(), cooling, holds_back, self.outstanding())
    }

    /// Whether it has failed too often to be chosen while another one can be.
    pub(super) fn is_ejected(&self) -> bool {
        self.health.is_ejected(|| self.shared.now_ms())
    }

    pub(super) fn expire_idle(&self) {
        match &self.connections {
            Connections::Http1(pool) => pool.expire_idle(),
            Connections::Http2(pools) => pools.expire_idle(),
        }
    }

    pub(super) fn close_idle(&self) {
        match &self.connections {
            Connections::Http1(pool) => pool.close_idle(),
            Connections::Http2(pools) => pools.close_idle(),
        }
    }

    /// New requests get new connections: those that there are may lead nowhere any more.
    pub(in crate::upstream) fn retire_connections(&self) {
        match &self.connections {
            Connections::Http1(pool) => pool.retire(),
            Connections::Http2(pools) => pools.retire(),
        }
    }

    pub(super) fn figures(&self) -> EndpointFigures {
        let (protocol, (connections, idle, waiting)) = match &self.connections {
            Connections::Http1(pool) => (Protocol::Http1, pool.figures()),
            Connections::Http2(pools) => (Protocol::Http2, pools.figures()),
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
pub(in crate::upstream) struct Outstanding(Arc<Endpoint>);

impl Outstanding {
    pub(in crate::upstream) fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.outstanding.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    pub(in crate::upstream) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
