//! What waits to be written: small pieces are gathered, large ones are not copied.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// When so much is gathered, in bytes, it is written before more is asked for.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Pieces up to this size, in bytes, are copied to what is gathered; larger ones are written from
/// where they are.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// What is kept for the next head while nothing happens, in bytes.
const RESTING_BYTES_MAX: usize = 512;

#[derive(Default)]
pub(super) struct Outbox {
    gathered: Vec<u8>,
    /// How much of `gathered` has been written.
    written: usize,
    /// A large piece that follows what is gathered, and what follows it.
    large: Bytes,
    tail: &'static [u8],
}

// === impl Outbox ===

impl Outbox {
    /// Where to put what the next write shall take with it; nothing large waits.
    pub(super) fn gathered(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty() && self.tail.is_empty());
        &mut self.gathered
    }

    /// Gives back what is more than most heads need, if nothing waits.
    pub(super) fn rest(&mut self) {
        self.gathered.shrink_to(RESTING_BYTES_MAX);
    }

    /// Puts `data` and then `tail` behind what is gathered.
    pub(super) fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED_BYTES_MAX {
            let gathered = self.gathered();
            gathered.extend_from_slice(&data);
            gathered.extend_from_slice(tail);
        } else {
            (self.large, self.tail) = (data, tail);
        }
    }

    /// Whether all must be written before more is put here.
    pub(super) fn is_full(&self) -> bool {
        GATHERED_BYTES_MAX <= self.gathered.len() || !self.large.is_empty() || !self.tail.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Writes once; gives how much was written, zero when nothing waits any more.
    pub(super) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin + ?Sized),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let slices = [&self.gathered[self.written..], &self.large, self.tail].map(IoSlice::new);
        let bytes = ready!(Pin::new(io).poll_write_vectored(cx, &slices))?;
        if bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn advance(&mut self, bytes: usize) {
        let of_gathered = bytes.min(self.gathered.len() - self.written);
        self.written += of_gathered;
        let of_large = (bytes - of_gathered).min(self.large.len());
        self.large.advance(of_large);
        self.tail = &self.tail[bytes - of_gathered - of_large..];
        if self.written == self.gathered.len() {
            self.gathered.clear();
            self.gathered.shrink_to(GATHERED_BYTES_MAX);
            self.written = 0;
        }
    }
}
