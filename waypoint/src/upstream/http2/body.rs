//! The body of an HTTP/2 response.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tracing::debug;

use super::super::Deadlines;
use super::super::balance::Outstanding;
use super::super::deadline::Patience;
use super::super::pool::StreamLease;
use super::StreamWindow;
use super::upload::Upload;
use crate::codec::body::{Body, BodyError, Source};

/// The longest piece of what is kept, in bytes: allocators waste little on as much.
const KEPT_BYTES_MAX: usize = 8 * 1024;

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A response body whose end has not been read yet. Dropping it resets the stream.
struct Http2Body {
    stream: RecvStream,
    window: StreamWindow,
    /// Handed on and not yet given back to the window, in bytes: it is when more is asked for.
    handed_on: usize,
    /// Taken out of `h2` while the reader waited: there, a frame keeps the whole of a buffer.
    kept: VecDeque<Bytes>,
    at: At,
    /// What `content-length` leaves to come, if it was given.
    left: Option<u64>,
    patience: Patience,
    held: Option<Held>,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Data,
    Trailers,
    Failed(BodyError),
}

/// What the exchange holds until its body has ended.
pub(super) struct Held {
    _lease: StreamLease,
    _outstanding: Outstanding,
    /// Dropping it ends an upload that still runs: the endpoint has answered without it.
    _uploading: Option<oneshot::Sender<()>>,
}

/// Makes the body of a response whose head has just arrived.
pub(super) fn receive(
    stream: RecvStream,
    window: StreamWindow,
    length: Option<u64>,
    held: Held,
    deadlines: &Deadlines,
) -> Body {
    if stream.is_end_stream() {
        return Body::empty();
    }
    let patience = Patience::new(deadlines);
    let (handed_on, kept, at, left, held) = (0, VecDeque::new(), At::Data, length, Some(held));
    Body::wrap(Http2Body { stream, window, handed_on, kept, at, left, patience, held })
}

// === impl Held ===

impl Held {
    /// What is left of the upload goes on in a task of its own, so that neither direction waits for
    /// the other.
    pub(super) fn new(
        lease: StreamLease,
        upload: Option<Upload>,
        outstanding: Outstanding,
    ) -> Self {
        let uploading = upload.map(|upload| {
            let (held, dropped) = oneshot::channel();
            outstanding.endpoint().shared.tasks.spawn(go_on(upload, dropped));
            held
        });
        Self { _lease: lease, _outstanding: outstanding, _uploading: uploading }
    }
}

/// Runs the upload until it ends or the response has ended.
async fn go_on(mut upload: Upload, mut dropped: oneshot::Receiver<()>) {
    let sent = poll_fn(|cx| match Pin::new(&mut dropped).poll(cx) {
        Poll::Ready(_) => Poll::Ready(Ok(())),
        Poll::Pending => upload.poll(cx),
    });
    if let Err(error) = sent.await {
        debug!(%error, "the request body failed after the response had begun");
    }
}

// === impl Http2Body ===

impl Http2Body {
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Polled {
        self.window.take(std::mem::take(&mut self.handed_on));
        if let Some(data) = self.kept.pop_front() {
            return Poll::Ready(Some(Ok(self.hand_on(data))));
        }
        match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => return Poll::Ready(Some(Ok(self.hand_on(data)))),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        let trailers = trailers.map_err(|error| body_error(&error)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    fn hand_on(&mut self, data: Bytes) -> Frame<Bytes> {
        self.handed_on = data.len();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Frame::data(data)
    }

    /// What `h2` has of the data; `None` behind its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.at {
            At::Data => {}
            At::Trailers => return Poll::Ready(None),
            At::Failed(error) => return Poll::Ready(Some(Err(error))),
        }
        let unread = self.handed_on + self.kept.iter().map(Bytes::len).sum::<usize>();
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) if self.window.allows(unread + data.len()) => {
                // What `h2` is told of holds nothing back: the window of the stream does.
                let released = self.stream.flow_control().release_capacity(data.len());
                debug_assert!(released.is_ok(), "no more is released than was received");
                return Poll::Ready(Some(Ok(data)));
            }
            Some(Ok(_)) => self.at = At::Failed(BodyError::UpstreamMalformed),
            Some(Err(error)) => self.at = At::Failed(body_error(&error)),
            None => self.at = At::Trailers,
        }
        self.poll_data(cx)
    }

    fn fail(&mut self, error: BodyError) -> Polled {
        self.held = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Http2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        if this.held.is_none() {
            return Poll::Ready(None);
        }
        match this.poll_upstream(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Err(late) = this.patience.on_frame() {
                    return this.fail(late);
                }
                if frame.is_trailers() || this.kept.is_empty() && this.stream.is_end_stream() {
                    this.held = None; // A reader that knows the length does not ask for the end.
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(None) => {
                this.held = None;
                Poll::Ready(None)
            }
            Poll::Pending => match this.patience.poll_over(cx) {
                Poll::Ready(error) => this.fail(error),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Source for Http2Body {
    fn hold(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        while self.held.is_some()
            && let Poll::Ready(Some(Ok(data))) = self.poll_data(cx)
        {
            self.kept.extend(data.chunks(KEPT_BYTES_MAX).map(Bytes::copy_from_slice));
        }
    }
}

/// Whose fault h2's body error is: a connection that ended, a reset, or frames that are no body.
fn body_error(error: &h2::Error) -> BodyError {
    if error.is_io() {
        BodyError::UpstreamTruncated
    } else if error.is_library() {
        BodyError::UpstreamMalformed
    } else {
        BodyError::UpstreamReset
    }
}
