//! Heads and data reach `h2` a few at a time.
//!
//! `h2` decodes all that it can read before anybody takes the streams that have begun, and keeps room
//! for as many events as there ever were: 400 bytes for each head or piece of data that waits. A client
//! that asks for a hundred answers at once would have 100 KiB of it at either end. So a read ends
//! behind the last frame of a turn, and the next one comes when the tasks that wait have had theirs.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{DATA, Frames, Part};

#[cfg(test)]
mod tests;

/// Frames of data of one turn.
const FRAMES_A_TURN: usize = 32;
/// What a head counts for: a task begins or goes on for it.
const HEAD_FRAMES: usize = 4;

/// A connection that is read in turns.
pub(crate) struct Turns<T> {
    io: T,
    incoming: Frames,
    /// Read and not passed on yet. At most what one read has given.
    waiting: Bytes,
    over: Turn,
    /// Frames of the turn that have been read.
    read: usize,
    /// The next turn begins when the connection is polled again.
    by_itself: bool,
}

/// Whether a turn is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicBool>);

// === impl Turn ===

impl Turn {
    /// Begins the next one, with the task's next run, if one is over: what it brought has been taken.
    pub(super) fn next(&self, cx: &Context<'_>) {
        if self.0.swap(false, Relaxed) {
            cx.waker().wake_by_ref();
        }
    }
}

// === impl Turns ===

impl<T> Turns<T> {
    /// Reads what a client sends; its streams must be taken before [`Turn::next`] is called. (A call
    /// of `h2` that takes one stream reads on before it does.)
    pub(super) fn of_client(io: T) -> (Self, Turn) {
        let (incoming, waiting, over) = (Frames::of_client(), Bytes::new(), Turn::default());
        (Self { io, incoming, waiting, over: over.clone(), read: 0, by_itself: false }, over)
    }

    /// Reads what a server sends.
    pub(crate) fn of_server(io: T) -> Self {
        let (incoming, waiting, over) = (Frames::of_server(), Bytes::new(), Turn::default());
        Self { io, incoming, waiting, over, read: 0, by_itself: true }
    }

    /// How many of the bytes are behind the end of a turn, if it ends in them.
    fn behind_turn(&mut self, bytes: &[u8]) -> Option<usize> {
        let Self { incoming, read, .. } = self;
        let scanned = incoming.scan(bytes, |frame, part| {
            let Part::End { left } = part else { return Ok(()) };
            *read += match frame.kind {
                DATA => 1,
                _ if frame.ends_head() => HEAD_FRAMES,
                _ => 0,
            };
            if FRAMES_A_TURN <= *read { Err(left) } else { Ok(()) }
        });
        let left = scanned.err();
        if left.is_some() {
            *read = 0;
        }
        left
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Turns<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over.0.load(Relaxed) {
            if this.by_itself {
                this.over.next(cx);
            }
            return Poll::Pending;
        }
        let begin = buffer.filled().len();
        let mut waiting = std::mem::take(&mut this.waiting);
        if waiting.is_empty() {
            let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
            if polled.is_pending() {
                this.read = 0; // The tasks that wait have theirs now.
            }
            ready!(polled)?;
        } else {
            buffer.put_slice(&waiting[..waiting.len().min(buffer.remaining())]);
        }
        let left = this.behind_turn(&buffer.filled()[begin..]);
        this.over.0.store(left.is_some(), Relaxed);
        let end = buffer.filled().len() - left.unwrap_or(0);
        if waiting.is_empty() {
            this.waiting = Bytes::copy_from_slice(&buffer.filled()[end..]);
        } else {
            waiting.advance(end - begin);
            this.waiting = waiting;
        }
        buffer.set_filled(end);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Turns<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
