//! From bytes to requests and back: HTTP/1.0, HTTP/1.1 and HTTP/2 towards the client.
//!
//! Takes an accepted stream and gives each request on it, checked and normalised, to the
//! [`Journey`]; the answer goes back the same way. What two parsers could read two ways is refused
//! here with 400 (or 408, 414, 417, 431, 501, 505) and never reaches a later stage: the checks are
//! in [`hygiene`]. When the client resets the connection or the stream, the journey's future is
//! dropped; a FIN after a complete request is a half-close and drops nothing.

mod ahead;
pub mod body;
mod date;
mod http1;
mod http2;
pub mod hygiene;
mod idle;
mod interim;
mod io;
mod isolate;
mod sending;
pub(crate) mod websocket;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderValue, Request, Response};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time,
};

pub(crate) use self::http2::{frames, turns::Turns};
pub use self::{
    ahead::{Ahead, Allowance, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Window},
    body::{Body, BodyError, Source},
    http1::client::{Remains, Wire, WireError},
    hygiene::{EncodedSlashes, Refusal, remove_connection_specific, unite_content_lengths},
    interim::{INTERIM_MAX, Interim},
    io::{Channel, Socket},
    sending::Sending,
};
use crate::drain::{Closing, Tasks, unless};
use crate::identity::PeerCertificate;
use crate::lanes;
use crate::overload::Held;

/// What HTTP/2 clients send first (RFC 9113, 3.4).
pub(crate) const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first read of a connection asks for, in bytes.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// How long a drain waits for the first request of a new connection: it is surely under way.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// What the codec hands requests to.
pub trait Journey: Clone + Send + Sync + 'static {
    /// Answers one request; what is put into `interim` goes to the client before the answer. The
    /// future is dropped when the client is gone.
    ///
    /// The request has an authority (lower case, port kept as the client wrote it) and a normalised
    /// path in its URI, whose scheme says whether the client's connection is encrypted; it has no
    /// `host` header and no hop-by-hop header. `te: trailers` and `content-length` are kept. It is in
    /// a box, in which it goes all the way: moving it from future to future costs.
    ///
    /// The answer's body is dropped as soon as it was sent, was cut, or need not be sent at all (to
    /// HEAD, with 204 and 304: unread); with a tunnel, when the tunnel ends. If the request's body
    /// turns out malformed before the answer's head has left, the client gets 400 whatever the
    /// answer is.
    fn call(
        &self,
        request: Box<Request<Body>>,
        connection: &Arc<ConnectionInfo>,
        interim: &Interim,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Hears of what the codec answered itself, for the access log and the metric.
    fn refused(&self, refusal: &Refusal, connection: &ConnectionInfo);
}

/// What is known of a connection; one per connection, shared by its requests.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client; an IPv4 address is never written as IPv6.
    pub peer: SocketAddr,
    /// The client's address as a header value: every request of the connection carries it.
    pub peer_value: HeaderValue,
    pub local: SocketAddr,
    /// The name of the listener.
    pub entrance: Arc<str>,
    pub tls: Option<TlsInfo>,
    /// Whose requests these are, where clients are counted.
    pub client: Option<Arc<Held>>,
    /// Unique in this process.
    pub id: u64,
}

impl ConnectionInfo {
    /// A connection with an id of its own.
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        entrance: Arc<str>,
        tls: Option<TlsInfo>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let peer_value = HeaderValue::from_str(&peer.ip().to_string())
            .expect("an IP address is a valid header value");
        Self { peer, peer_value, local, entrance, tls, client: None, id }
    }

    /// The client's certificate, once it was verified.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.tls.as_ref()?.peer.as_deref()
    }

    /// The client's verified name.
    pub fn principal(&self) -> Option<&Arc<str>> {
        self.certificate()?.principal.as_ref()
    }
}

/// What the TLS handshake settled.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// The name that the client asked for, in lower case.
    pub sni: Option<String>,
    pub alpn: Option<Alpn>,
    /// As OpenTelemetry writes it: `1.2` or `1.3`.
    pub version: &'static str,
    /// The client's certificate, once it was verified.
    pub peer: Option<Arc<PeerCertificate>>,
}

/// The protocols that a client can settle on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    Http1,
    Http2,
}

/// What one client may take of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecLimits {
    /// A request's head on HTTP/1, the header list on HTTP/2, in bytes. Past it: 431.
    pub head_bytes_max: usize,
    /// A request's target, in bytes. Past it: 414.
    pub target_bytes_max: usize,
    /// A request's fields, at most [`hygiene::FIELDS_CEILING`]. Past it: 431.
    pub headers_max: usize,
    /// From a head's first byte to its last, and from accept to the HTTP/2 preface. Past it: 408.
    pub head_timeout: Duration,
    /// Between two requests. Past it: closed.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body. Past it: the body fails.
    pub body_idle_timeout: Duration,
    /// How long a client may take nothing of what waits for it. Past it: cut.
    pub write_stall: Duration,
    /// Requests at a time on one HTTP/2 connection. Past it: REFUSED_STREAM.
    pub h2_streams_max: u32,
    /// The header lists of all requests that run on one HTTP/2 connection, in bytes. Past it:
    /// REFUSED_STREAM.
    pub live_heads_bytes: usize,
    /// What HTTP/2 clients may send ahead, for a stream and for the whole connection, in bytes.
    pub receive_window_bytes: u32,
    /// What may wait to be sent on one HTTP/2 connection, in bytes; a stream may use half of it.
    pub send_buffer_bytes: usize,
    pub encoded_slashes: EncodedSlashes,
}

/// Request extension: the client asks to go on in another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Its `sec-websocket-*` fields are in the request; `connection` and `upgrade` are not.
    WebSocket,
}

/// Both directions of an upgraded connection.
pub trait TunnelIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> TunnelIo for T {}

/// Response extension beside status 101: the other end of the tunnel.
#[derive(Clone)]
pub struct Tunnel(Arc<Mutex<Option<Box<dyn TunnelIo>>>>);

/// Serves one connection until it ends.
///
/// At [`Closing::closing`] the requests in flight are finished; at [`Closing::cut`] they are cut.
/// HTTP/2 streams run as tasks of their own, on any worker; a connection of HTTP/1 is one task, in a
/// lane.
pub async fn serve<J: Journey>(
    io: Channel,
    info: Arc<ConnectionInfo>,
    limits: &CodecLimits,
    journey: J,
    closing: Closing,
    tasks: &Tasks,
) {
    let mut io = io;
    let cut = closing.clone();
    let connection = Connection { info, limits: *limits, journey, closing, tasks: tasks.clone() };
    let alpn = connection.info.tls.as_ref().and_then(|tls| tls.alpn);
    let begun = match alpn {
        Some(Alpn::Http2) => Some((Alpn::Http2, BytesMut::new())),
        _ => unless(cut.cut(), first_bytes(&mut io, alpn, &connection)).await.flatten(),
    };
    match begun {
        // In boxes: a connection holds what its own protocol needs.
        Some((Alpn::Http1, early)) => {
            unless(cut.cut(), Box::pin(http1::serve(io, early, connection))).await;
        }
        // It hears of the cut itself, to say so with a GOAWAY.
        Some((Alpn::Http2, early)) => {
            lanes::leave().await;
            io.settle_here();
            Box::pin(http2::serve(io, early.freeze(), connection)).await;
        }
        None => {}
    }
}

/// Reads until the protocol is known; `None` if the client leaves or is too slow.
async fn first_bytes<J>(
    io: &mut Channel,
    alpn: Option<Alpn>,
    connection: &Connection<J>,
) -> Option<(Alpn, BytesMut)> {
    let mut early = BytesMut::with_capacity(FIRST_READ_BYTES);
    let limits = &connection.limits;
    let overdue = async {
        connection.closing.closing().await;
        time::sleep(FIRST_REQUEST_GRACE).await;
    };
    let first = unless(overdue, io.read_buf(&mut early));
    let mut read = time::timeout(limits.idle_timeout, first).await.ok()??;
    loop {
        if read.ok()? == 0 {
            return None;
        }
        let length = early.len().min(HTTP2_PREFACE.len());
        if alpn == Some(Alpn::Http1) || early[..length] != HTTP2_PREFACE[..length] {
            return Some((Alpn::Http1, early));
        }
        if length == HTTP2_PREFACE.len() {
            return Some((Alpn::Http2, early));
        }
        read = time::timeout(limits.head_timeout, io.read_buf(&mut early)).await.ok()?;
    }
}

/// What both protocols need to serve one connection.
struct Connection<J> {
    info: Arc<ConnectionInfo>,
    limits: CodecLimits,
    journey: J,
    closing: Closing,
    tasks: Tasks,
}

// === impl CodecLimits ===

impl Default for CodecLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            target_bytes_max: 8 * 1024,
            headers_max: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            h2_streams_max: 100,
            live_heads_bytes: 256 * 1024,
            receive_window_bytes: 256 * 1024,
            send_buffer_bytes: 80 * 1024,
            encoded_slashes: EncodedSlashes::Refuse,
        }
    }
}

// === impl Tunnel ===

impl Tunnel {
    pub fn new(io: impl TunnelIo) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(io)))))
    }

    /// The tunnel's end; only the first caller gets it.
    pub fn take(&self) -> Option<Box<dyn TunnelIo>> {
        self.0.lock().take()
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}
