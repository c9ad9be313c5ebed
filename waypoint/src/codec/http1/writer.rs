//! The writing side of a connection: small pieces are gathered, large ones are not copied.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::codec::idle::Stall;

/// When so much is gathered, in bytes, it is written before more is asked for.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Pieces up to this size, in bytes, are copied to what is gathered; larger ones are written from
/// where they are.
const COPIED_BYTES_MAX: usize = 4 * 1024;

pub(super) struct Writer {
    pub(super) io: Box<dyn AsyncWrite + Send + Unpin>,
    gathered: Vec<u8>,
    /// How much of `gathered` has been written.
    written: usize,
    stall: Stall,
    stall_limit: Duration,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(io: Box<dyn AsyncWrite + Send + Unpin>, stall_limit: Duration) -> Self {
        Self { io, gathered: Vec::new(), written: 0, stall: Stall::new(), stall_limit }
    }

    /// Where to put what the next write shall take with it.
    pub(super) fn gathered(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// Sends `data` and then `tail`: at once if there is much, else with the next flush.
    pub(super) async fn send(
        &mut self,
        mut data: Bytes,
        mut tail: &'static [u8],
    ) -> io::Result<()> {
        if data.len() <= COPIED_BYTES_MAX {
            self.gathered.extend_from_slice(&data);
            self.gathered.extend_from_slice(tail);
            data.clear();
            tail = &[];
            if self.gathered.len() < GATHERED_BYTES_MAX {
                return Ok(());
            }
        }
        poll_fn(|cx| self.poll_write_all(cx, &mut data, &mut tail)).await
    }

    /// Writes all that is gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// As [`Self::flush`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_all(cx, &mut Bytes::new(), &mut [].as_slice())
    }

    /// Flushes, then tells the client that nothing more comes.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        poll_fn(|cx| {
            let shutdown = Pin::new(&mut self.io).poll_shutdown(cx);
            stalled(&mut self.stall, self.stall_limit, shutdown, cx)
        })
        .await
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        tail: &mut &'static [u8],
    ) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() || !data.is_empty() || !tail.is_empty() {
            let gathered = &self.gathered[self.written..];
            let slices = [gathered, data, tail].map(IoSlice::new);
            let write = Pin::new(&mut self.io).poll_write_vectored(cx, &slices);
            let bytes = ready!(stalled(&mut self.stall, self.stall_limit, write, cx))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(bytes, data, tail);
        }
        self.gathered.clear();
        self.gathered.shrink_to(GATHERED_BYTES_MAX);
        self.written = 0;
        let flush = Pin::new(&mut self.io).poll_flush(cx);
        stalled(&mut self.stall, self.stall_limit, flush, cx)
    }

    fn advance(&mut self, bytes: usize, data: &mut Bytes, tail: &mut &'static [u8]) {
        let of_gathered = bytes.min(self.gathered.len() - self.written);
        self.written += of_gathered;
        let of_data = (bytes - of_gathered).min(data.len());
        data.advance(of_data);
        *tail = &tail[bytes - of_gathered - of_data..];
    }
}

/// Fails what makes no progress for `limit`.
fn stalled<T>(
    stall: &mut Stall,
    limit: Duration,
    outcome: Poll<io::Result<T>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if outcome.is_ready() {
        stall.progress();
        return outcome;
    }
    ready!(stall.poll_expired(cx, limit));
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}
