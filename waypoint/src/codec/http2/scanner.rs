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

use super::queued::{Frames, Queued};
use crate::codec::{HTTP2_PREFACE, Refusal, idle::Stall};

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

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Reads frame headers out of a stream of bytes.
#[derive(Debug)]
pub(super) struct Scanner {
    at: At,
    counts: Counts,
    /// CONTINUATION frames of the head that is being received, if one is.
    head: Option<u32>,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Preface { left: usize },
    Header { bytes: [u8; FRAME_HEADER_BYTES], filled: usize },
    Payload { frame: Frame, left: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    /// Whether every byte of the payload so far is zero.
    zero: bool,
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
        let at = At::Preface { left: HTTP2_PREFACE.len() };
        Self { at, counts: Counts::new(now), head: None }
    }

    /// Reads the next bytes of the stream.
    pub(super) fn scan(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Preface { left } => {
                    let skipped = bytes.len().min(*left);
                    *left -= skipped;
                    bytes.advance(skipped);
                    if *left == 0 {
                        self.at = At::HEADER;
                    }
                }
                At::Header { bytes: header, filled } => {
                    header[*filled] = bytes.get_u8();
                    *filled += 1;
                    if *filled == FRAME_HEADER_BYTES {
                        let [high, middle, low, kind, flags, ..] = *header;
                        let left = u32::from_be_bytes([0, high, middle, low]) as usize;
                        let frame = Frame { kind, flags, zero: true };
                        self.begun(frame)?;
                        self.at = At::Payload { frame, left };
                    }
                }
                At::Payload { frame, left } => {
                    let payload = bytes.len().min(*left);
                    frame.zero &= bytes[..payload].iter().all(|byte| *byte == 0);
                    *left -= payload;
                    bytes.advance(payload);
                }
            }
            // Also right after its header: a frame may have no payload.
            if let At::Payload { frame, left: 0 } = self.at {
                self.ended(frame, now)?;
                self.at = At::HEADER;
            }
        }
        Ok(())
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.head.is_some()
    }

    fn begun(&mut self, frame: Frame) -> Result<(), Refusal> {
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
        if matches!(frame.kind, HEADERS | CONTINUATION) && frame.flags & END_HEADERS != 0 {
            self.head = None;
        }
        self.counts.count(frame, now)
    }
}

// === impl At ===

impl At {
    const HEADER: Self = Self::Header { bytes: [0; FRAME_HEADER_BYTES], filled: 0 };
}

// === impl Counts ===

impl Counts {
    fn new(since: Instant) -> Self {
        let (pings, settings, priorities, empty_window_updates, resets, heads) = (0, 0, 0, 0, 0, 0);
        Self { since, pings, settings, priorities, empty_window_updates, resets, heads }
    }

    fn count(&mut self, frame: Frame, now: Instant) -> Result<(), Refusal> {
        if PERIOD <= now - self.since {
            *self = Self::new(now);
        }
        let acknowledges = frame.flags & ACK != 0;
        let (count, limit, refusal) = match frame.kind {
            PING if !acknowledges => (&mut self.pings, PINGS_MAX, Refusal::PingFlood),
            SETTINGS if !acknowledges => (&mut self.settings, SETTINGS_MAX, Refusal::SettingsFlood),
            PRIORITY => (&mut self.priorities, PRIORITIES_MAX, Refusal::PriorityFlood),
            WINDOW_UPDATE if frame.zero => (
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
    incoming: Frames,
    outgoing: Frames,
    /// Streams that were reset by what was read last. `h2` reads again only when it has acted on all
    /// of it: no stream can queue data unseen between the two.
    resets: Vec<u32>,
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
            incoming: Frames::behind(HTTP2_PREFACE.len()),
            outgoing: Frames::behind(0),
            resets: Vec::new(),
        };
        (scanned, breach)
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
        for stream in this.resets.drain(..) {
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
        let read = &buffer.filled()[begin..];
        this.incoming.resets(read, &mut this.resets);
        let scanned = this.scanner.scan(read, Instant::now());
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
