//! Sends a request's body on its stream, no faster than the endpoint takes it.
//!
//! Until the answer begins, the first bytes of the body are kept: an endpoint that retires its
//! connection may not have taken the stream, and then the request is sent again as it was.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use crate::codec::body::{Body, BodyError, Source};

/// What is kept of one body until its answer begins, in bytes. When full: nothing is kept, and the
/// request is not sent again.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// A request body on its way.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// Taken from the body, waiting for the endpoint's window.
    waiting: Bytes,
    /// Nothing more is to be sent.
    over: bool,
    /// What was taken from the body so far.
    kept: Option<Kept>,
}

/// A body so far. A copy: a slice would keep the whole buffer that it was read into, and a client may
/// send its body byte by byte.
#[derive(Default)]
struct Kept {
    data: BytesMut,
    trailers: Option<HeaderMap>,
    /// The body has given its last frame.
    ended: bool,
}

/// A body that begins with what was taken from it before.
struct Anew {
    kept: Kept,
    rest: Body,
}

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        let kept = Some(Kept::default());
        Self { stream, body, waiting: Bytes::new(), over: false, kept }
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The answer has begun: the request is not sent again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// The body as it was before anything of it was sent; `None` if that was too much to be kept.
    pub(super) fn into_body(self) -> Option<Body> {
        let kept = self.kept?;
        let rest = if kept.ended { Body::empty() } else { self.body };
        Some(Body::wrap(Anew { kept, rest }))
    }

    /// Resolves when everything is sent or the endpoint wants no more of it. An error is the
    /// body's; the stream has been reset then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let sent = ready!(self.poll_all(cx));
        self.over = true;
        Poll::Ready(sent)
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        // An endpoint that resets the stream says so to whoever waits for the response, too.
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.waiting.is_empty() {
                if !ready!(self.poll_send(cx)) {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.keep(frame.as_ref());
            let sent = match frame {
                None => self.stream.send_data(Bytes::new(), true),
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() && !self.body.is_end_stream() => continue,
                    Ok(data) if data.is_empty() => self.stream.send_data(data, true),
                    Ok(data) => {
                        self.waiting = data;
                        continue;
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(trailers),
                        Err(_unknown) => continue,
                    },
                },
            };
            // What fails here has ended the stream; the response's side tells.
            drop(sent);
            return Poll::Ready(Ok(()));
        }
    }

    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(kept) = &mut self.kept else { return };
        let frame = match frame {
            None => return kept.ended = true,
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return self.kept = None,
        };
        if let Some(data) = frame.data_ref() {
            if KEPT_BYTES_MAX - kept.data.len() < data.len() {
                return self.kept = None;
            }
            kept.data.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
            kept.ended = true;
        }
    }

    /// Sends as much of what waits as the window allows; `false` when the stream is over.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = self.stream.capacity();
        if room == 0 {
            self.stream.reserve_capacity(self.waiting.len());
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Poll::Ready(false),
            };
        }
        let chunk = self.waiting.split_to(room.min(self.waiting.len()));
        let end = self.waiting.is_empty() && self.body.is_end_stream();
        let sent = self.stream.send_data(chunk, end).is_ok();
        Poll::Ready(sent && !end)
    }
}

// === impl Anew ===

impl Source for Anew {}

impl http_body::Body for Anew {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.kept.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.kept.data.split().freeze()))));
        }
        if let Some(trailers) = self.kept.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let Kept { data, trailers, .. } = &self.kept;
        data.is_empty() && trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (kept, rest) = (self.kept.data.len() as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(kept.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept.saturating_add(upper));
        }
        hint
    }
}
