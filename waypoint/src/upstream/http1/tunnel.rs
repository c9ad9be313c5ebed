//! What is left of a connection after `101 Switching Protocols`: bytes in both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::UpstreamError;
use super::super::balance::Outstanding;
use super::super::pool::{Lease, Slot};
use super::super::retry::Plan;
use crate::codec::{Channel, Tunnel};

/// The upgraded connection. It counts as a connection and as a request until it is dropped.
struct UpstreamTunnel {
    /// What the endpoint sent together with the head.
    leftover: Bytes,
    stream: Channel,
    _slot: Slot,
    _outstanding: Outstanding,
}

/// Takes the connection over once the 101 has arrived.
pub(super) fn open(
    lease: Lease,
    outstanding: Outstanding,
    plan: &Plan,
    headers: &HeaderMap,
) -> Result<Tunnel, UpstreamError> {
    let upgraded = headers.get(header::UPGRADE).map(HeaderValue::as_bytes);
    if !plan.upgrade || !upgraded.is_some_and(|to| to.eq_ignore_ascii_case(b"websocket")) {
        let source = "a protocol was switched to that was not asked for".into();
        return Err(UpstreamError::MalformedResponse { source });
    }
    let (wire, slot) = lease.into_parts();
    let (stream, leftover) = wire.into_parts();
    Ok(Tunnel::new(UpstreamTunnel { leftover, stream, _slot: slot, _outstanding: outstanding }))
}

// === impl UpstreamTunnel ===

impl AsyncRead for UpstreamTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.leftover.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.leftover.len());
        buffer.put_slice(&self.leftover[..count]);
        self.leftover.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamTunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
