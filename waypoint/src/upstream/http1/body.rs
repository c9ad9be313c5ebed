//! The body of an HTTP/1 response; it drives its connection while it is polled.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::DropGuard;

use super::super::Deadlines;
use super::super::balance::Outstanding;
use super::super::deadline::Patience;
use super::super::pool::Lease;
use super::upload::{self, Upload};
use crate::codec::body::{Body, BodyError};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A response body whose end has not been read yet.
struct Http1Body {
    /// What was taken before it was known that more follows.
    first: Option<Bytes>,
    incoming: Incoming,
    /// Until the connection was given back or closed.
    lease: Option<Lease>,
    /// The task that goes on with the upload and drives the connection; it ends with this.
    rest: Option<DropGuard>,
    /// Whether the connection may be given back.
    keep: bool,
    /// Until the body has ended.
    outstanding: Option<Outstanding>,
    patience: Patience,
}

/// Makes the body of a response whose head has just arrived.
///
/// A small response is wholly here: then the connection is given back at once, and no stream is
/// needed.
pub(super) fn receive(
    mut incoming: Incoming,
    lease: Lease,
    upload: Upload,
    keep: bool,
    outstanding: Outstanding,
    deadlines: &Deadlines,
) -> Body {
    if !upload.has_ended() {
        let rest = Some(upload::go_on(lease, outstanding.endpoint()));
        let patience = Patience::new(deadlines);
        let (first, lease, outstanding) = (None, None, Some(outstanding));
        return Body::wrap(Http1Body { first, incoming, lease, rest, keep, outstanding, patience });
    }
    let mut lease = Some(lease);
    if incoming.is_end_stream() {
        settle(&mut lease, keep);
        return Body::empty();
    }
    let mut first = None;
    if lease.as_ref().is_some_and(|lease| lease.wire.is_done()) {
        settle(&mut lease, keep);
        if incoming.size_hint().exact().is_some()
            && let Poll::Ready(Some(Ok(frame))) = poll_quietly(&mut incoming)
        {
            first = frame.into_data().ok();
        }
    }
    match first {
        Some(whole) if incoming.is_end_stream() => Body::full(whole),
        first => Body::wrap(Http1Body {
            first,
            incoming,
            lease,
            rest: None,
            keep,
            outstanding: Some(outstanding),
            patience: Patience::new(deadlines),
        }),
    }
}

/// Gives the connection back, or closes it.
fn settle(lease: &mut Option<Lease>, keep: bool) {
    if let Some(lease) = lease.take()
        && keep
    {
        lease.settle();
    }
}

/// Takes what the driver has brought. The driver runs in the same task, so it need not wake it.
fn poll_quietly(incoming: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
}

// === impl Http1Body ===

impl Http1Body {
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.rest.is_some() {
            let polled = Pin::new(&mut self.incoming).poll_frame(cx);
            return polled
                .map(|frame| frame.map(|frame| frame.map_err(|error| body_error(&error))));
        }
        let mut polled = poll_quietly(&mut self.incoming);
        if polled.is_pending()
            && let Some(lease) = &mut self.lease
        {
            lease.wire.drive(cx);
            polled = poll_quietly(&mut self.incoming);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|error| body_error(&error))))
    }

    fn end(&mut self) {
        settle(&mut self.lease, self.keep);
        self.rest = None;
        self.outstanding = None;
    }

    /// The body failed: the connection is closed, for the rest of it cannot be told from the next
    /// response.
    fn fail(&mut self, error: BodyError) -> Polled {
        self.lease = None;
        self.rest = None;
        self.outstanding = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Http1Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        if this.outstanding.is_none() {
            return Poll::Ready(None);
        }
        match this.poll_upstream(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Err(late) = this.patience.on_frame() {
                    return this.fail(late);
                }
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.end(); // A reader that knows the length does not ask for the end.
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Pending => match this.patience.poll_over(cx) {
                Poll::Ready(error) => this.fail(error),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.outstanding.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let here = self.first.as_ref().map_or(0, |first| first.len() as u64);
        match self.incoming.size_hint().exact() {
            Some(left) => SizeHint::with_exact(here + left),
            None => SizeHint::default(),
        }
    }
}

/// Whose fault hyper's body error is: a close before the end, a reset, or bytes that are no body.
fn body_error(error: &hyper::Error) -> BodyError {
    let kind =
        error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            BodyError::UpstreamMalformed
        }
        Some(io::ErrorKind::UnexpectedEof) => BodyError::UpstreamTruncated,
        Some(_) => BodyError::UpstreamReset,
        None => BodyError::UpstreamTruncated,
    }
}
