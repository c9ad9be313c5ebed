//! The body of an HTTP/1 response; it reads from its connection while it is polled.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::DropGuard;

use super::super::Deadlines;
use super::super::balance::Outstanding;
use super::super::deadline::Patience;
use super::super::pool::Lease;
use super::upload;
use crate::codec::WireError;
use crate::codec::body::{Body, BodyError, Source};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A response body whose end has not been read yet.
struct Http1Body {
    /// Until the body has ended.
    exchange: Option<Exchange>,
    patience: Patience,
}

/// What ends with the body.
struct Exchange {
    lease: Lease,
    _outstanding: Outstanding,
    /// The task that goes on with the upload.
    _rest: Option<DropGuard>,
}

/// Makes the body of a response whose head has just arrived.
///
/// A small response is wholly here: then the connection is given back at once, and no stream is
/// needed.
pub(super) fn receive(mut lease: Lease, outstanding: Outstanding, deadlines: &Deadlines) -> Body {
    if !lease.wire.is_sent() {
        let rest = upload::go_on(lease.wire.divide(), outstanding.endpoint());
        return stream(lease, outstanding, Some(rest), deadlines);
    }
    match lease.wire.take_whole() {
        Some(whole) => {
            lease.settle();
            Body::full(whole)
        }
        None => stream(lease, outstanding, None, deadlines),
    }
}

fn stream(
    lease: Lease,
    outstanding: Outstanding,
    rest: Option<DropGuard>,
    deadlines: &Deadlines,
) -> Body {
    let exchange = Exchange { lease, _outstanding: outstanding, _rest: rest };
    Body::wrap(Http1Body { exchange: Some(exchange), patience: Patience::new(deadlines) })
}

// === impl Http1Body ===

impl Http1Body {
    /// The body failed: the connection is closed, for the rest of it cannot be told from the next
    /// response.
    fn fail(&mut self, error: BodyError) -> Polled {
        self.exchange = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Gives the connection back if all of the body has been read: a reader that knows the length
    /// does not ask for the end.
    fn settle(&mut self) {
        if let Some(exchange) = self.exchange.take_if(|exchange| exchange.lease.wire.is_ended()) {
            exchange.lease.settle();
        }
    }
}

impl Source for Http1Body {}

impl http_body::Body for Http1Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let Some(exchange) = &mut this.exchange else {
            return Poll::Ready(None);
        };
        match exchange.lease.wire.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Err(late) = this.patience.on_frame() {
                    return this.fail(late);
                }
                this.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(body_error(&error)),
            Poll::Ready(None) => {
                this.settle();
                Poll::Ready(None)
            }
            Poll::Pending => match this.patience.poll_over(cx) {
                Poll::Ready(error) => this.fail(error),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.exchange {
            Some(exchange) => exchange.lease.wire.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

fn body_error(error: &WireError) -> BodyError {
    match error {
        WireError::Malformed(_) => BodyError::UpstreamMalformed,
        WireError::Closed => BodyError::UpstreamTruncated,
        WireError::Io(_) => BodyError::UpstreamReset,
        WireError::RequestBody(error) => *error,
    }
}
