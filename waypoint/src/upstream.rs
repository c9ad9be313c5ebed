//! Stage 7: takes a permitted request and a service's endpoints, gives the endpoint's response.
//!
//! A [`Cluster`] is what a snapshot holds; the endpoints behind it are running state, shared by
//! every snapshot that names them. It refuses with an [`UpstreamError`]: no endpoint, no free
//! connection, no answer in time, an answer that is none. A dropped request closes its HTTP/1
//! connection or resets its HTTP/2 stream; the endpoint's counters go back by themselves.

mod balance;
mod connect;
mod counters;
mod deadline;
mod head;
mod health;
mod http1;
mod http2;
mod names;
mod pool;
mod retry;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use crate::authorize::Permitted;
use crate::codec::body::{Body, BodyError};
use crate::redirect::Mark;

use balance::{Endpoint, Groups, Service};
pub use balance::{EndpointFigures, Upstreams};
pub use health::EjectionLimits;
use names::Named;
pub use names::{NameLimits, Target};
pub use retry::RetryBudget;
pub use tls::{TlsFailure, TlsSettingsError, UpstreamTls};

/// What a failure below HTTP said, for the log's error chain.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The protocol that an endpoint is spoken to; it is configured, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http1,
    /// HTTP/2 with prior knowledge (h2c), or settled on by ALPN in TLS.
    Http2,
}

/// Whether endpoints are spoken to in TLS; it is configured, never guessed.
#[derive(Clone)]
pub enum Security {
    Plain,
    Tls(Arc<UpstreamTls>),
    /// TLS is demanded and cannot be had: nothing is sent. The reason, for people.
    Refused(Arc<str>),
}

/// What one endpoint may hold. Each bound says what happens when it is reached.
#[derive(Clone, Debug)]
pub struct UpstreamLimits {
    /// HTTP/1 connections to one endpoint, busy and idle. When full: wait in the queue.
    pub http1_connections_max: usize,
    /// HTTP/2 connections to one endpoint. When full: wait in the queue.
    pub http2_connections_max: usize,
    /// Streams on one HTTP/2 connection; the peer may allow fewer. When full: another connection.
    pub http2_streams_max: usize,
    /// Requests that wait for a connection of one endpoint. When full: shed.
    pub queue_max: usize,
    /// How long one of them waits at most. When over: shed.
    pub queue_wait: Duration,
    /// Idle HTTP/1 connections kept per endpoint. When full: the connection is closed.
    pub idle_max: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a TCP connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the TLS handshake after it may take. When over: the connection is given up.
    pub tls_handshake_timeout: Duration,
    /// How often one request is tried, the first time included.
    pub attempts_max: u32,
    /// How many retries of a service may run at a time.
    pub retry_budget: RetryBudget,
    /// How long an endpoint that is new to a service that served before takes less than its share.
    pub slow_start: Duration,
    /// When endpoints that fail are left out.
    pub ejection: EjectionLimits,
    /// How names of endpoints are resolved.
    pub names: NameLimits,
    /// By what the redirection knows connections of ours.
    pub mark: Mark,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            http1_connections_max: 1024,
            http2_connections_max: 8,
            http2_streams_max: 100,
            queue_max: 1024,
            queue_wait: Duration::from_secs(5),
            idle_max: 128,
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(1),
            tls_handshake_timeout: Duration::from_secs(5),
            attempts_max: 3,
            retry_budget: RetryBudget::default(),
            slow_start: Duration::from_secs(30),
            ejection: EjectionLimits::default(),
            names: NameLimits::default(),
            mark: Mark::default(),
        }
    }
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// When the whole exchange, the response body included, must have ended.
    pub request: Option<Instant>,
    /// Whether `request` is what the caller asked for: that it has passed says nothing of the
    /// endpoint, or callers could have endpoints ejected.
    pub callers: bool,
    /// How long one attempt may take until its response head, its request's body included.
    pub per_try: Option<Duration>,
    /// How long one attempt may wait for the endpoint until its response head: while the rest of the
    /// request is waited for this does not run, and each piece of it begins it anew.
    pub silence: Option<Duration>,
    /// How long the response body may be waited for without a byte arriving.
    pub body_idle: Duration,
}

impl Deadlines {
    /// Whether the caller's own time is over.
    fn caller_has_left(&self) -> bool {
        self.callers && self.request.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        let body_idle = Duration::from_secs(30);
        Self { request: None, callers: false, per_try: None, silence: None, body_idle }
    }
}

/// Who answered, and at which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamPeer {
    pub address: SocketAddr,
    pub attempts: u32,
}

/// Why a request got no response head from upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the service has no endpoint")]
    NoEndpoints,
    /// The service's endpoints have names, and none of them has an address.
    #[error("{name} cannot be resolved: {reason}")]
    Unresolved { name: Arc<str>, reason: &'static str },
    #[error("{queue_max} requests already wait for a connection")]
    QueueFull { queue_max: usize },
    #[error("no connection became free within {wait:?}")]
    QueueTimeout { wait: Duration },
    #[error("{address} did not accept a connection within {limit:?}")]
    ConnectTimeout { address: SocketAddr, limit: Duration },
    #[error("{address} refused the connection")]
    ConnectRefused { address: SocketAddr },
    #[error("no connection to {address}")]
    ConnectFailed { address: SocketAddr, source: Arc<std::io::Error> },
    #[error("no TLS with {address}: {failure}")]
    Tls { address: SocketAddr, failure: TlsFailure },
    /// A BackendTLSPolicy covers the service and cannot be used.
    #[error("the service is to be spoken to in TLS, and cannot be: {reason}")]
    TlsRefused { reason: Arc<str> },
    /// The per-try or the request deadline passed before a response head.
    #[error("no response head in time")]
    ResponseTimeout,
    #[error("the connection or stream ended before a response head")]
    ResetBeforeHead { source: Cause },
    #[error("the response head is malformed")]
    MalformedResponse { source: Cause },
    /// The request body failed on its way; the fault is downstream's or a filter's.
    #[error("the request body failed")]
    RequestBody(#[source] BodyError),
    /// The request cannot be written in the endpoint's protocol.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest { reason: &'static str },
    /// A WebSocket was asked of an HTTP/2 endpoint that does not offer them (RFC 8441, 3).
    #[error("the endpoint offers no WebSocket over HTTP/2")]
    UpgradeUnsupported,
}

/// A service's endpoints as one snapshot sees them. Cheap to clone; never changes, but that names of
/// endpoints are resolved again.
#[derive(Clone)]
pub struct Cluster {
    service: Arc<Service>,
    protocol: Protocol,
    security: Security,
    /// Group by group.
    endpoints: Arc<[Arc<Endpoint>]>,
    groups: Arc<Groups>,
    /// Where some endpoints have names: what takes the place of `endpoints` and `groups`.
    named: Option<Arc<Named>>,
}

impl Cluster {
    /// The service that this cluster serves.
    pub fn service(&self) -> &Arc<str> {
        &self.service.name
    }

    /// The protocol that its endpoints are spoken to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether its endpoints are spoken to in TLS.
    pub fn is_secure(&self) -> bool {
        matches!(self.security, Security::Tls(_))
    }

    /// The addresses of its endpoints, in groups of which the first is preferred.
    pub fn groups(&self) -> Vec<Vec<SocketAddr>> {
        if let Some(named) = &self.named {
            return named.now().cluster.groups();
        }
        let groups = self.groups.each(&self.endpoints);
        groups.map(|group| group.iter().map(|endpoint| endpoint.address).collect()).collect()
    }

    /// Sends the request to the better of two endpoints and returns its response, and whose it is.
    ///
    /// The request's URI has an authority and a path. Hop-by-hop headers of the response are gone;
    /// after a WebSocket upgrade it carries a `Tunnel`.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`]; whatever is tried again has been tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future (or the response body) cuts the HTTP/1 connection or resets the stream.
    pub async fn send(
        &self,
        permitted: Permitted,
        deadlines: Deadlines,
    ) -> Result<(Response<Body>, UpstreamPeer), UpstreamError> {
        if let Security::Refused(reason) = &self.security {
            return Err(UpstreamError::TlsRefused { reason: Arc::clone(reason) });
        }
        let (request, interim) = permitted.into_parts();
        match &self.named {
            None => retry::send(self, request, interim, deadlines).await,
            Some(named) => {
                let now = named.ready(&deadlines).await?;
                retry::send(&now.cluster, request, interim, deadlines).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
