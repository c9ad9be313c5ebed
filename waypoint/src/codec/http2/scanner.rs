//! Counts what a client sends before `h2` sees it: what is cheap to send and dear to answer.
//!
//! [`Scanner`] is pure: bytes and the time in, the first breach out. [`Scanned`] puts it between the
//! connection and `h2`: at a breach it reads nothing more, and the connection says GOAWAY.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    frames::{
        ACK, CONTINUATION, Frame, Frames, HEADERS, PING, PRIORITY, Part, RST_STREAM, SETTINGS,
        WINDOW_UPDATE,
    },
    queued::Queued,
};
use crate::{
    codec::{Refusal, idle::Stall},
    overload::Held,
};

#[cfg(test)]
mod tests;

/// The time over which frames are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// What may come in one period; past it the connection is closed.
const PINGS_MAX: u32 = 100;
const SETTINGS_MAX: u32 = 50;
const PRIORITIES_MAX: u32 = 1_000;
const EMPTY_WINDOW_UPDATES_MAX: u32 = 100;

/// Resets that may come in one period, unless fewer than half of the streams are reset: a busy
/// client that gives up on some requests is not an attack.
const RESETS_MAX: u32 = 100;

/// CONTINUATION frames of one head.
const CONTINUATIONS_MAX: u32 = 8;

/// Finds the first breach in what a client sends.
#[derive(Debug)]
pub(super) struct Scanner {
    frames: Frames,
    seen: Seen,
}

/// What the frames so far come to.
#[derive(Debug)]
struct Seen {
    counts: Counts,
    /// Whether the SETTINGS have come that must be a client's first frame.
    has_settings: bool,
    /// CONTINUATION frames of the head that is being received, if one is.
    head: Option<u32>,
    /// Whether every byte of the current frame's payload so far is zero.
    zero: bool,
    /// Streams that were reset since this was last asked for.
    resets: Vec<u32>,
}

/// Frames in the current period.
#[derive(Debug)]
struct Counts {
    since: Instant,
    pings: u32,
    settings: u32,
    priorities: u32,
    empty_window_updates: u32,
    resets: u32,
    heads: u32,
}

// === impl Scanner ===

impl Scanner {
    pub(super) fn new(now: Instant) -> Self {
        let counts = Counts::new(now);
        let seen = Seen { counts, has_settings: false, head: None, zero: true, resets: Vec::new() };
        Self { frames: Frames::of_client(), seen }
    }

    /// Reads the next bytes of the stream.
    pub(super) fn scan(&mut self, bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        let Self { frames, seen } = self;
        frames.scan(bytes, |frame, part| match part {
            Part::Begin => seen.begun(frame),
            Part::Payload(payload) => {
                seen.zero &= payload.iter().all(|byte| *byte == 0);
                Ok(())
            }
            Part::End { .. } => seen.ended(frame, now),
        })
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.seen.head.is_some()
    }

    /// How many streams the client has reset that were not taken yet.
    fn reset_count(&self) -> u32 {
        u32::try_from(self.seen.resets.len()).unwrap_or(u32::MAX)
    }

    /// Takes the streams that the client has reset since the last call.
    fn resets(&mut self) -> impl Iterator<Item = u32> {
        self.seen.resets.drain(..)
    }
}

// === impl Seen ===

impl Seen {
    fn begun(&mut self, frame: Frame) -> Result<(), Refusal> {
        self.zero = true;
        // RFC 9113, 3.4; h2 takes any frame.
        if !self.has_settings {
            if frame.kind != SETTINGS || frame.flags & ACK != 0 {
                return Err(Refusal::PrefaceMalformed);
            }
            self.has_settings = true;
        }
        match (frame.kind, &mut self.head) {
            (HEADERS, head) => *head = Some(0),
            (CONTINUATION, Some(continuations)) => {
                *continuations += 1;
                if CONTINUATIONS_MAX < *continuations {
                    return Err(Refusal::ContinuationFlood);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, frame: Frame, now: Instant) -> Result<(), Refusal> {
        if frame.ends_head() {
            self.head = None;
        }
        if frame.kind == RST_STREAM {
            self.resets.push(frame.stream);
        }
        self.counts.count(frame, self.zero, now)
    }
}

// === impl Counts ===

impl Counts {
    fn new(since: Instant) -> Self {
        let (pings, settings, priorities, empty_window_updates, resets, heads) = (0, 0, 0, 0, 0, 0);
        Self { since, pings, settings, priorities, empty_window_updates, resets, heads }
    }

    fn count(&mut self, frame: Frame, zero: bool, now: Instant) -> Result<(), Refusal> {
        if PERIOD <= now - self.since {
            *self = Self::new(now);
        }
        let acknowledges = frame.flags & ACK != 0;
        let (count, limit, refusal) = match frame.kind {
            PING if !acknowledges => (&mut self.pings, PINGS_MAX, Refusal::PingFlood),
            SETTINGS if !acknowledges => (&mut self.settings, SETTINGS_MAX, Refusal::SettingsFlood),
            PRIORITY => (&mut self.priorities, PRIORITIES_MAX, Refusal::PriorityFlood),
            WINDOW_UPDATE if zero => (
                &mut self.empty_window_updates,
                EMPTY_WINDOW_UPDATES_MAX,
                Refusal::WindowUpdateFlood,
            ),
            RST_STREAM => {
                let limit = RESETS_MAX.max(self.heads / 2);
                (&mut self.resets, limit, Refusal::ResetFlood)
            }
            HEADERS => (&mut self.heads, u32::MAX, Refusal::ResetFlood),
            _ => return Ok(()),
        };
        *count = count.saturating_add(1);
        if limit < *count { Err(refusal) } else { Ok(()) }
    }
}

/// A connection whose reads are scanned.
pub(super) struct Scanned<T> {
    io: T,
    /// Bytes that were read before.
    early: Bytes,
    scanner: Scanner,
    head_timeout: Duration,
    stall: Stall,
    breach: Breach,
    queued: Arc<Queued>,
    outgoing: Frames,
    /// Whose resets count together with those of its other connections.
    client: Option<Arc<Held>>,
}

/// The first breach of a connection, for its owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Breach(Arc<Mutex<Option<Refusal>>>);

// === impl Breach ===

impl Breach {
    pub(super) fn take(&self) -> Option<Refusal> {
        self.0.lock().take()
    }
}

// === impl Scanned ===

impl<T> Scanned<T> {
    pub(super) fn new(
        io: T,
        early: Bytes,
        head_timeout: Duration,
        queued: Arc<Queued>,
        client: Option<Arc<Held>>,
    ) -> (Self, Breach) {
        let breach = Breach::default();
        let scanned = Self {
            io,
            early,
            scanner: Scanner::new(Instant::now()),
            head_timeout,
            stall: Stall::new(),
            breach: breach.clone(),
            queued,
            outgoing: Frames::of_server(),
            client,
        };
        (scanned, breach)
    }

    /// Scans what was read, and counts its resets towards the client's.
    fn scan(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.scanner.scan(bytes, Instant::now())?;
        let resets = self.scanner.reset_count();
        match &self.client {
            Some(client) if 0 < resets && !client.may_reset(resets) => Err(Refusal::ResetFlood),
            _ => Ok(()),
        }
    }

    /// Tells the owner and withholds the bytes. The owner polled this read, so it looks next.
    fn breached(&mut self, refusal: Refusal) -> Poll<io::Result<()>> {
        *self.breach.0.lock() = Some(refusal);
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Scanned<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // `h2` reads again only when it has acted on all that it read: it has dropped what these
        // streams had queued, and they can queue nothing more.
        for stream in this.scanner.resets() {
            this.queued.forget(stream);
        }
        let begin = buffer.filled().len();
        if this.early.has_remaining() {
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(length));
        } else if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buffer) {
            read?;
        } else {
            if !this.scanner.in_head() {
                return Poll::Pending;
            }
            ready!(this.stall.poll_expired(cx, this.head_timeout));
            return this.breached(Refusal::HeadTimeout);
        }
        let scanned = this.scan(&buffer.filled()[begin..]);
        // A head's time runs from its first byte on: more bytes of it are no progress.
        if !this.scanner.in_head() {
            this.stall.progress();
        }
        match scanned {
            Ok(()) => Poll::Ready(Ok(())),
            Err(refusal) => {
                buffer.set_filled(begin);
                this.breached(refusal)
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Scanned<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            this.queued.written(&mut this.outgoing, &slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
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
