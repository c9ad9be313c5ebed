//! A WebSocket to an endpoint of HTTP/2: a stream of its own that carries bytes both ways.
//!
//! To the rest of the proxy it is the upgrade that HTTP/1 makes: a GET with a key becomes an extended
//! CONNECT without one, and the endpoint's 200 becomes 101, which accepts the key.
//!
//! # Source
//!
//! RFC 8441.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream, ext::Protocol};
use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{StreamWindow, body, exchange, head, receive, refused_here};
use crate::codec::{
    Body, Tunnel,
    websocket::{self, TUNNEL_BUFFER_BYTES},
};
use crate::upstream::{
    UpstreamError,
    balance::Outstanding,
    pool::StreamLease,
    retry::{Again, Failure, Outgoing, Plan},
};

/// Asks for a WebSocket and waits for the head that answers. An endpoint that has not offered them
/// is asked for nothing.
pub(super) async fn attempt(
    mut lease: StreamLease,
    outstanding: Outstanding,
    outgoing: &mut Outgoing,
    plan: &Plan,
) -> Result<Response<Body>, Failure> {
    let refused = |error| Failure { error, again: Again::No };
    // Nothing of it is used up: it stays where it is.
    let request = outgoing.as_ref().expect("a request is put back before it is tried again");
    let mut request = head::copy(request).map(drop);
    let Some(key) = request.headers_mut().remove(websocket::KEY) else {
        return Err(refused(UpstreamError::InvalidRequest { reason: "the upgrade has no key" }));
    };
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    lease.settings.received().await;
    if !lease.sender.is_extended_connect_protocol_enabled() {
        return Err(refused(UpstreamError::UpgradeUnsupported));
    }
    let sent = lease.sender.send_request(request, false);
    let (response, mut up) = sent.map_err(refused_here)?;
    let window = lease.window(response.stream_id(), plan);
    let answer = exchange(response, &mut None, plan).await;
    let response = answer.map_err(|broken| broken.into_failure(plan.repeatable && lease.reused))?;
    if response.status().is_success() {
        return Ok(switched(response, up, window, lease, outstanding, &key));
    }
    // An answer like any other; if this fails, the stream is over and its body says so.
    let _ = up.send_data(Bytes::new(), true);
    receive(response, window, body::Held::new(lease, None, outstanding), plan).map_err(refused)
}

/// Makes a 101 of the head that accepts.
fn switched(
    response: Response<RecvStream>,
    up: SendStream<Bytes>,
    window: StreamWindow,
    lease: StreamLease,
    outstanding: Outstanding,
    key: &HeaderValue,
) -> Response<Body> {
    let (mut parts, down) = response.into_parts();
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    head::clean_response(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    let accept = HeaderValue::try_from(websocket::accept_of(key)).expect("base64 is a value");
    parts.headers.insert(websocket::ACCEPT, accept);
    let waiting = Bytes::new();
    let tunnel = StreamTunnel {
        up,
        down,
        window,
        waiting,
        ended: false,
        _lease: lease,
        _outstanding: outstanding,
    };
    parts.extensions.insert(Tunnel::new(tunnel));
    Response::from_parts(parts, Body::empty())
}

/// Both directions of the stream. It counts as a stream and as a request until it is dropped, which
/// resets what has not ended.
struct StreamTunnel {
    up: SendStream<Bytes>,
    down: RecvStream,
    window: StreamWindow,
    /// Received and not read yet. The endpoint may send more once it is read.
    waiting: Bytes,
    /// Whether our direction has ended.
    ended: bool,
    _lease: StreamLease,
    _outstanding: Outstanding,
}

// === impl StreamTunnel ===

impl AsyncRead for StreamTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting.is_empty() {
            match ready!(self.down.poll_data(cx)) {
                Some(Ok(data)) if !self.window.allows(data.len()) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(data) => self.waiting = data.map_err(into_io)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = buffer.remaining().min(self.waiting.len());
        buffer.put_slice(&self.waiting[..count]);
        self.waiting.advance(count);
        self.down.flow_control().release_capacity(count).map_err(into_io)?;
        self.window.take(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamTunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wanted = bytes.len().min(TUNNEL_BUFFER_BYTES);
        self.up.reserve_capacity(wanted);
        while self.up.capacity() == 0 && 0 < wanted {
            match ready!(self.up.poll_capacity(cx)) {
                Some(room) => room.map_err(into_io)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = wanted.min(self.up.capacity());
        self.up.send_data(Bytes::copy_from_slice(&bytes[..count]), false).map_err(into_io)?;
        Poll::Ready(Ok(count))
    }

    /// The connection's own task sends what it was given.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.up.send_data(Bytes::new(), true).map_err(into_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn into_io(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
