//! The one body type that every stage passes on.
//!
//! Takes frames (data, then at most one trailers frame) from whoever has them and gives them one at
//! a time, on demand: nothing is read before it is asked for. A failure is a [`BodyError`], which
//! says whose fault it was. Dropping a body before its end tells its source that nobody wants the
//! rest.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use http::Request;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};

use super::{http1, http2};

#[cfg(test)]
mod tests;

/// The body of a request or a response.
#[derive(Debug)]
pub struct Body(Kind);

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the client went away")]
    DownstreamGone,
    /// `reason` is the name of the check that failed, as in [`super::Refusal::name`].
    #[error("the client's body is malformed: {reason}")]
    DownstreamMalformed { reason: &'static str },
    #[error("the client sent nothing for too long")]
    DownstreamIdle,
    #[error("the body is longer than its declared length")]
    TooLong,
    #[error("the body is shorter than its declared length")]
    TooShort,
    #[error("the upstream reset the stream")]
    UpstreamReset,
    #[error("the upstream closed the connection before the end")]
    UpstreamTruncated,
    #[error("the upstream's body is malformed")]
    UpstreamMalformed,
    #[error("the upstream sent nothing for too long")]
    UpstreamIdle,
    #[error("a filter ended the stream")]
    Filter,
    #[error("the request's deadline passed")]
    Deadline,
    #[error("too many newer generations of a filter live")]
    Retired,
}

/// What one reading of a body gives.
pub type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// Whoever has a body's frames.
pub trait Source: http_body::Body<Data = Bytes, Error = BodyError> {
    /// The reader has no room for a frame. What is here of it, or arrives while the reader waits, may
    /// be put where it takes less memory; the task is woken for it.
    fn hold(self: Pin<&mut Self>, _: &mut Context<'_>) {}
}

type Boxed = Pin<Box<dyn Source + Send>>;

enum Kind {
    Empty,
    Full(Bytes),
    Http1(http1::RequestBody),
    Http2(http2::RequestBody),
    Boxed(Boxed),
}

// === impl Body ===

impl Body {
    /// A body without a byte.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that is all here already.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }

    /// A body of the frames that a stream gives, of unknown length.
    pub fn from_frames(
        frames: impl Stream<Item = Result<Frame<Bytes>, BodyError>> + Send + 'static,
    ) -> Self {
        Self(Kind::Boxed(Box::pin(StreamBody::new(frames))))
    }

    /// Any other body; its size hint and its end are kept.
    pub fn wrap(body: impl Source + Send + 'static) -> Self {
        Self(Kind::Boxed(Box::pin(body)))
    }

    /// The same body. `see` is shown what each reading gives, pending ones too, and whether the body
    /// has ended with it; it is dropped with the body.
    pub fn observed(self, see: impl FnMut(&Polled, bool) + Send + Unpin + 'static) -> Self {
        Self::wrap(Observed { body: self, see })
    }

    /// Puts a body that is made of a request's own in its place.
    pub fn replace(request: &mut Request<Self>, make: impl FnOnce(Self) -> Self) {
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = make(body);
    }

    pub(super) fn http1(body: http1::RequestBody) -> Self {
        Self(Kind::Http1(body))
    }

    pub(super) fn http2(body: http2::RequestBody) -> Self {
        Self(Kind::Http2(body))
    }

    /// The next frame; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a frame is either given or still in the body.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        BodyExt::frame(self).await
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Http1(body) => body.poll_frame(cx),
            Kind::Http2(body) => body.poll_frame(cx),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Http1(body) => body.is_end_stream(),
            Kind::Http2(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Http1(body) => body.size_hint(),
            Kind::Http2(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Source for Body {
    fn hold(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        if let Kind::Boxed(body) = &mut self.0 {
            body.as_mut().hold(cx);
        }
    }
}

impl<S> Source for StreamBody<S> where
    StreamBody<S>: http_body::Body<Data = Bytes, Error = BodyError>
{
}

/// See [`Body::observed`].
struct Observed<F> {
    body: Body,
    see: F,
}

impl<F> http_body::Body for Observed<F>
where
    F: FnMut(&Polled, bool) + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        (this.see)(&polled, this.body.is_end_stream());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<F> Source for Observed<F> where F: FnMut(&Polled, bool) + Unpin {}

// === impl Kind ===

impl std::fmt::Debug for Kind {
    /// Names the source only: a body's bytes never enter a record.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Http1(_) => "Http1",
            Self::Http2(_) => "Http2",
            Self::Boxed(_) => "Boxed",
        })
    }
}
