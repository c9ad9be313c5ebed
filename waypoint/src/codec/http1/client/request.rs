//! The way of a request out: what is gathered, and what is left of its body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;

use super::super::{encode, outbox::Outbox};
use crate::codec::{
    Body, BodyError, Channel,
    sending::{Remainder, Sending},
};

/// A request that is being sent; one that is sent, by default.
pub(super) struct Outgoing {
    outbox: Outbox,
    /// Until its end has been put into the outbox.
    body: Option<Body>,
    chunked: bool,
    remainder: Remainder,
    begun: bool,
    /// All that was written has left TLS, too; always so without it.
    flushed: bool,
    /// Nothing more can be written.
    broken: bool,
}

/// Why a request could not be sent to its end.
pub(super) enum Broken {
    Body(BodyError),
    Connection,
}

// === impl Outgoing ===

impl Outgoing {
    /// Writes the head and takes the body.
    pub(super) fn begin(&mut self, request: &mut Request<Body>, upgrade: bool) {
        let body = std::mem::take(request.body_mut());
        let sending = Sending::of_request(request.method(), request.headers(), &body);
        encode::request_head(self.outbox.gathered(), request, sending, upgrade);
        self.body = Some(body).filter(|body| !body.is_end_stream());
        self.chunked = sending == Sending::Open;
        self.remainder = sending.remainder();
        self.begun = false;
    }

    /// Writes what can be written; ready when all is written.
    pub(super) fn poll(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.outbox.is_full() {
                ready!(self.poll_flush(channel, cx))?;
            }
            let Some(body) = &mut self.body else {
                return self.poll_flush(channel, cx);
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.put(frame).map_err(Broken::Body)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Body(error))),
                Poll::Ready(None) => self.finish(None).map_err(Broken::Body)?,
                Poll::Pending => {
                    ready!(self.poll_flush(channel, cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_flush(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.outbox.is_empty() {
            if ready!(self.outbox.poll_write(channel, cx)).is_err() {
                return self.fail();
            }
            (self.begun, self.flushed) = (true, false);
        }
        if !self.flushed {
            if ready!(Pin::new(channel).poll_flush(cx)).is_err() {
                return self.fail();
            }
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// The connection takes nothing more.
    fn fail(&mut self) -> Poll<Result<(), Broken>> {
        self.broken = true;
        self.body = None;
        Poll::Ready(Err(Broken::Connection))
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), BodyError> {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) => data,
            Err(frame) => return self.finish(frame.into_trailers().ok().as_ref()),
        };
        self.remainder.take(data.len()).map_err(|_| BodyError::TooLong)?;
        if self.chunked {
            encode::chunk_line(self.outbox.gathered(), data.len());
            self.outbox.put(data, b"\r\n");
        } else {
            self.outbox.put(data, b"");
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), BodyError> {
        self.remainder.end().map_err(|_| BodyError::TooShort)?;
        if self.chunked {
            encode::last_chunk(self.outbox.gathered(), trailers);
        }
        self.body = None;
        Ok(())
    }

    /// Whether the whole message has been written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.outbox.is_empty() && self.flushed && !self.broken
    }

    /// Whether some of the message has been written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            outbox: Outbox::default(),
            body: None,
            chunked: false,
            remainder: Sending::Nothing.remainder(),
            begun: false,
            flushed: true,
            broken: false,
        }
    }
}
