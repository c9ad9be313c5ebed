//! The windows of a connection's streams, each as wide as its reader may have it.
//!
//! A window of HTTP/2 is announced for all streams of a connection, and the `h2` crate has no call to
//! widen it for one of them. So `h2` is told of windows that never hold anything back, and what it
//! writes is changed on its way: its SETTINGS announce [`WINDOW_BYTES_MIN`], its `WINDOW_UPDATE` of
//! streams are left out, and ours come in their place.
//!
//! # Source
//!
//! RFC 9113, sections 5.1 (a frame for a stream that has not begun ends the connection), 6.5.2, 6.9
//! and 6.10 (nothing comes between the frames of a head).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::frames::{
    ACK, CONTINUATION, Frames, HEADER_BYTES, HEADERS, Part, SETTINGS, WINDOW_UPDATE,
};
use crate::codec::{Ahead, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Window};

#[cfg(test)]
mod tests;

/// What `h2` is told of a stream's window. It announces more once half of this has been used, of
/// which an endpoint hears nothing: what it may send by our windows is always within it.
pub(super) const BELIEVED_WINDOW_BYTES: u32 = 4 * WINDOW_BYTES_MAX as u32;

const INITIAL_WINDOW_SIZE: u16 = 4;
const SETTING_BYTES: usize = 6;

/// What is to be announced on one connection. Bounded by its streams: each is in it once.
#[derive(Default)]
pub(in crate::upstream) struct Windows(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Streams, and by how much their windows grow.
    increments: Vec<(u32, u32)>,
    /// The connection's task.
    task: Option<Waker>,
}

/// The window of one stream: announced to the endpoint as it is read.
pub(in crate::upstream) struct StreamWindow {
    window: Window,
    windows: Arc<Windows>,
    stream: u32,
}

/// A connection whose windows are announced by [`Windows`].
pub(in crate::upstream) struct Windowed<T> {
    io: T,
    windows: Arc<Windows>,
    /// What has been written, or taken in its place.
    frames: Frames,
    /// The last stream whose head has been written.
    begun: u32,
    /// Between the frames of a head.
    in_head: bool,
    /// To be written before anything else. At most one frame of SETTINGS and one `WINDOW_UPDATE` of
    /// each stream.
    ours: BytesMut,
}

// === impl Windows ===

impl Windows {
    fn announce(&self, stream: u32, increment: usize) {
        let increment = u32::try_from(increment).unwrap_or(u32::MAX);
        if increment == 0 {
            return;
        }
        let mut waiting = self.0.lock();
        match waiting.increments.iter_mut().find(|(waiting, _)| *waiting == stream) {
            Some((_, sum)) => *sum = sum.saturating_add(increment),
            None => waiting.increments.push((stream, increment)),
        }
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The stream is over, or is never begun.
    fn forget(&self, stream: u32) {
        self.0.lock().increments.retain(|(waiting, _)| *waiting != stream);
    }

    /// Writes the frames for streams up to `begun`; of others later. The task is woken for more.
    fn write(&self, begun: u32, frames: &mut BytesMut, cx: &Context<'_>) {
        let mut waiting = self.0.lock();
        waiting.increments.retain(|(stream, increment)| {
            let later = begun < *stream;
            if !later {
                frames.put_slice(&[0, 0, 4, WINDOW_UPDATE, 0]);
                frames.put_u32(*stream);
                frames.put_u32(*increment);
            }
            later
        });
        match &mut waiting.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

// === impl StreamWindow ===

impl StreamWindow {
    /// The window of a stream whose request `h2` has just been given.
    pub(in crate::upstream) fn open(
        windows: Arc<Windows>,
        stream: u32,
        ahead: Option<&Ahead>,
    ) -> Self {
        let mut opened = Self { window: Window::new(ahead), windows, stream };
        opened.announce();
        opened
    }

    /// Whether an endpoint that has sent so many bytes more has kept to the window. `h2`, which
    /// believes in wider ones, does not look.
    pub(super) fn allows(&self, bytes: usize) -> bool {
        self.window.allows(bytes)
    }

    /// The reader has taken so many bytes.
    pub(super) fn take(&mut self, bytes: usize) {
        if 0 < bytes {
            self.window.take(bytes);
            self.announce();
        }
    }

    fn announce(&mut self) {
        self.windows.announce(self.stream, self.window.widen());
    }
}

impl Drop for StreamWindow {
    fn drop(&mut self) {
        self.windows.forget(self.stream);
    }
}

// === impl Windowed ===

/// What becomes of a frame of `h2`.
enum Fate {
    Passes,
    IsChanged,
    IsLeftOut,
}

/// The length of the frame that begins here, its header included, and what becomes of it; `None` if
/// its header is not here.
fn fate(bytes: &[u8]) -> Option<(usize, Fate)> {
    let [high, middle, low, kind, flags, stream @ ..] = *bytes.first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    let fate = match kind {
        SETTINGS if flags & ACK == 0 => Fate::IsChanged,
        WINDOW_UPDATE if stream != [0; 4] => Fate::IsLeftOut,
        _ => Fate::Passes,
    };
    Some((HEADER_BYTES + length, fate))
}

impl<T: AsyncWrite + Unpin> Windowed<T> {
    pub(super) fn new(io: T) -> (Self, Arc<Windows>) {
        let windows = Arc::<Windows>::default();
        let frames = Frames::of_client();
        let (begun, in_head, ours) = (0, false, BytesMut::new());
        (Self { io, windows: Arc::clone(&windows), frames, begun, in_head, ours }, windows)
    }

    /// Writes what is ours, as far as it may come here.
    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.at_boundary() && !self.in_head {
            self.windows.write(self.begun, &mut self.ours, cx);
        }
        while !self.ours.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.ours))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ours.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the frame that begins here in place of the connection, if it is not to pass as it is;
    /// says how long it was.
    fn take_frame(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some((length, fate)) = fate(bytes).filter(|_| self.frames.at_boundary()) else {
            return Ok(None);
        };
        if matches!(fate, Fate::Passes) {
            return Ok(None);
        }
        // `h2` has a frame whole in its buffer before it writes any of it.
        let frame = bytes.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        if matches!(fate, Fate::IsChanged) {
            let begin = self.ours.len();
            self.ours.extend_from_slice(frame);
            announce_least(&mut self.ours[begin + HEADER_BYTES..]);
        }
        Ok(Some(length))
    }

    /// How much of these bytes passes before a frame that does not.
    fn passing(&self, bytes: &[u8]) -> usize {
        let (mut at, within_header) = self.frames.left();
        if within_header {
            return at;
        }
        while let Some((length, Fate::Passes)) = bytes.get(at..).and_then(fate) {
            at += length;
        }
        match bytes.get(at..).and_then(fate) {
            Some(_) => at,
            None => bytes.len(),
        }
    }

    /// These bytes have been written.
    fn written(&mut self, bytes: &[u8]) {
        let Self { frames, begun, in_head, .. } = self;
        let scanned = frames.scan(bytes, |frame, part| {
            if matches!((part, frame.kind), (Part::End { .. }, HEADERS | CONTINUATION)) {
                *in_head = !frame.ends_head();
                *begun = frame.stream.max(*begun);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = scanned;
    }
}

/// Sets the window that these settings announce.
fn announce_least(settings: &mut [u8]) {
    for setting in settings.chunks_exact_mut(SETTING_BYTES) {
        if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
            setting[2..].copy_from_slice(&(WINDOW_BYTES_MIN as u32).to_be_bytes());
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Windowed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Windowed<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_ours(cx))?;
        let first = slices.iter().find(|slice| !slice.is_empty());
        let first = first.map(|slice| &slice[..]).unwrap_or_default();
        if let Some(length) = this.take_frame(first)? {
            return Poll::Ready(Ok(length));
        }
        let passing = this.passing(first);
        let io = Pin::new(&mut this.io);
        // Only a payload may go on in the next slice, and behind it nothing is in this one.
        let written = if passing < first.len() {
            ready!(io.poll_write(cx, &first[..passing]))?
        } else {
            ready!(io.poll_write_vectored(cx, slices))?
        };
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            this.written(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ours(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
