//! The writing side of a client's connection: bounds how long it takes nothing.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::outbox::Outbox;
use crate::codec::{Channel, idle::Stall};

pub(super) struct Writer {
    pub(super) io: Channel,
    outbox: Outbox,
    stall: Stall,
    stall_limit: Duration,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(io: Channel, stall_limit: Duration) -> Self {
        Self { io, outbox: Outbox::default(), stall: Stall::new(), stall_limit }
    }

    /// Where to put what the next write shall take with it.
    pub(super) fn gathered(&mut self) -> &mut Vec<u8> {
        self.outbox.gathered()
    }

    /// Gives back memory before a time of quiet.
    pub(super) fn rest(&mut self) {
        self.outbox.rest();
    }

    /// Sends `data` and then `tail`: at once if there is much, else with the next flush.
    pub(super) async fn send(&mut self, data: Bytes, tail: &'static [u8]) -> io::Result<()> {
        self.outbox.put(data, tail);
        if self.outbox.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Writes all that is gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// As [`Self::flush`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, outbox, stall, stall_limit } = self;
        while !outbox.is_empty() {
            let write = outbox.poll_write(io, cx);
            ready!(stalled(stall, *stall_limit, write, cx))?;
        }
        stalled(stall, *stall_limit, Pin::new(io).poll_flush(cx), cx)
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
