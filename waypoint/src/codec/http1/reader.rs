//! The reading side of a connection and its one buffer.

use std::{
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::codec::Channel;

/// What one read asks for while a head is awaited, in bytes. Heads are rarely longer.
pub(super) const HEAD_READ_BYTES: usize = 4 * 1024;

/// What one read asks for while a body is read, in bytes. No more of a body is ever held here.
pub(super) const BODY_READ_BYTES: usize = 16 * 1024;

/// With less room than this, in bytes, the buffer is grown (or its begin reclaimed).
const ROOM_BYTES_MIN: usize = 1024;

/// Reads into a buffer that its owner takes from.
pub(super) struct Reader {
    pub(super) io: Channel,
    pub(super) buffer: BytesMut,
}

// === impl Reader ===

impl Reader {
    /// Reads once, behind what is in the buffer; zero at the client's FIN.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        read_bytes: usize,
    ) -> Poll<io::Result<usize>> {
        poll_fill(&mut self.io, &mut self.buffer, cx, read_bytes)
    }

    /// Gives back the memory before a time of quiet, if nothing is in it.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Reads once into the buffer, asking for `read_bytes`; zero at the peer's FIN.
pub(super) fn poll_fill(
    io: &mut Channel,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
    read_bytes: usize,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < ROOM_BYTES_MIN {
        buffer.reserve(read_bytes);
    }
    // A read that is pending has taken nothing, so its future need not be kept.
    let read = pin!(io.read_buf(buffer));
    Poll::Ready(ready!(read.poll(cx)))
}
