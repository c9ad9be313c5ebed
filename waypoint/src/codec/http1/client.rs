//! HTTP/1.1 towards an endpoint: one connection in the client's role.
//!
//! Nothing runs by itself: whoever waits for the head sends the request and reads the answer in one
//! poll, and whoever polls the answer's body reads on. A head that a stricter reader would refuse is
//! malformed; so is every framing that two readers could read two ways.

mod answer;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod request;

use std::{
    io,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use self::{
    answer::{Answer, Ends},
    request::{Broken, Outgoing},
};
use super::{
    decode::{Decoder, Piece},
    reader::{BODY_READ_BYTES, HEAD_READ_BYTES, poll_fill},
};
use crate::codec::{
    Body, BodyError, Channel, INTERIM_MAX,
    hygiene::{self, FIELDS_CEILING, HeadLimits, HeadScan},
};
use crate::lanes::Home;

/// What an endpoint's head may be. Past it the answer is malformed.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { bytes: 64 * 1024, first_line_bytes: 8 * 1024, fields: FIELDS_CEILING };

/// What one read asks for while the head of an answer is awaited that may not come far
/// [ahead](super::super::Ahead::is_far), in bytes. What follows the head in it waits for the client.
const LITTLE_READ_BYTES: usize = 1024;

/// What a failure said, for the log's error chain.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an exchange with an endpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The request's body failed: the fault is downstream's or a filter's.
    #[error("the request's body failed")]
    RequestBody(#[source] BodyError),
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("the connection was closed before the end of the answer")]
    Closed,
    #[error("the answer is malformed")]
    Malformed(#[source] Cause),
}

/// A connection to an endpoint, and the exchange that runs on it.
pub struct Wire {
    channel: Channel,
    buffer: BytesMut,
    outgoing: Outgoing,
    incoming: Incoming,
    /// What one read asks for while the head is awaited.
    head_read_bytes: usize,
    /// Whether both sides keep the connection after the exchange.
    stays: bool,
}

/// Where the answer stands.
enum Incoming {
    Head(Awaited),
    Body(Decoder),
    /// A body that ends with the connection.
    UntilClose,
    Ended,
}

/// What the wait for a head knows.
struct Awaited {
    scan: HeadScan,
    /// The request was HEAD: its answer has no body whatever the head says.
    headless: bool,
    interim: usize,
}

/// What is left of a request's body when its answer has come; it is sent by whoever polls it.
pub struct Remains {
    channel: Channel,
    outgoing: Outgoing,
}

// === impl Wire ===

impl Wire {
    /// A connection on which nothing has been sent.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            buffer: BytesMut::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::Ended,
            head_read_bytes: HEAD_READ_BYTES,
            stays: true,
        }
    }

    /// Begins an exchange; the request's body is taken out of it. The one before must be over
    /// ([`Self::is_reusable`]).
    ///
    /// The request has an authority or a `host`; hop-by-hop fields in it are not sent, but for
    /// `te: trailers`. With `upgrade` a WebSocket is asked for. With `far` much is read with the answer's
    /// head.
    pub fn send(&mut self, request: &mut Request<Body>, upgrade: bool, far: bool) {
        self.head_read_bytes = if far { HEAD_READ_BYTES } else { LITTLE_READ_BYTES };
        let headless = request.method() == http::Method::HEAD;
        let scan = HeadScan::default();
        self.incoming = Incoming::Head(Awaited { scan, headless, interim: 0 });
        self.outgoing.begin(request, upgrade);
    }

    /// Sends the request and waits for the head of its answer, or for one of 1xx that comes before
    /// it: then another head follows ([`Self::is_headed`]).
    ///
    /// When an endpoint stops reading, what it has answered still counts.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, WireError>> {
        match self.outgoing.poll(&mut self.channel, cx) {
            Poll::Ready(Err(Broken::Body(error))) => {
                return Poll::Ready(Err(WireError::RequestBody(error)));
            }
            Poll::Ready(Err(Broken::Connection) | Ok(())) | Poll::Pending => {}
        }
        loop {
            if let Some(response) = self.next_head()? {
                return Poll::Ready(Ok(response));
            }
            let filled = poll_fill(&mut self.channel, &mut self.buffer, cx, self.head_read_bytes);
            if filled.is_pending() {
                self.rest();
            }
            match ready!(filled) {
                Ok(0) => return Poll::Ready(Err(WireError::Closed)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(WireError::Io(error))),
            }
        }
    }

    /// The next head, if it is here as a whole.
    fn next_head(&mut self) -> Result<Option<Response<()>>, WireError> {
        let Incoming::Head(awaited) = &mut self.incoming else {
            return Err(WireError::Closed); // The answer has been given already.
        };
        if let Some(bounds) = awaited.scan.advance(&self.buffer, &HEAD_LIMITS)? {
            if bounds.begin != 0 {
                return Err(WireError::Malformed("an empty line before the status line".into()));
            }
            let head = self.buffer.split_to(bounds.end).freeze();
            let Answer { response, ends, stays } = answer::parse(&head, awaited.headless)?;
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                awaited.scan = HeadScan::default();
                awaited.interim += 1;
                if INTERIM_MAX < awaited.interim {
                    return Err(WireError::Malformed("too many heads of 1xx".into()));
                }
                return Ok(Some(response));
            }
            self.stays = stays;
            self.incoming = match ends {
                Ends::Head | Ends::Length(0) => Incoming::Ended,
                Ends::Length(length) => Incoming::Body(Decoder::Length(length)),
                Ends::LastChunk => Incoming::Body(Decoder::ChunkLine),
                Ends::Connection => Incoming::UntilClose,
            };
            return Ok(Some(response));
        }
        Ok(None)
    }

    /// The next frame of the answer's body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        loop {
            if let Some(frame) = self.next_frame()? {
                self.rest();
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_ended() {
                return Poll::Ready(None);
            }
            let filled = poll_fill(&mut self.channel, &mut self.buffer, cx, BODY_READ_BYTES);
            if filled.is_pending() {
                self.rest();
            }
            match ready!(filled) {
                Ok(0) if matches!(self.incoming, Incoming::UntilClose) => {
                    self.incoming = Incoming::Ended;
                }
                Ok(0) => return Poll::Ready(Some(Err(WireError::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(WireError::Io(error)))),
            }
        }
    }

    /// Gives back the buffer's memory where nothing is in it: an endpoint may take its time, and so
    /// may its answer's reader.
    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The whole body of the answer, if all of it has been read and its length is known.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &self.incoming {
            Incoming::Ended => Some(Bytes::new()),
            Incoming::Body(Decoder::Length(length)) => {
                let length = usize::try_from(*length).ok()?;
                let whole = (length <= self.buffer.len()).then(|| self.buffer.split_to(length))?;
                self.incoming = Incoming::Ended;
                Some(whole.freeze())
            }
            Incoming::Body(_) | Incoming::UntilClose | Incoming::Head(_) => None,
        }
    }

    /// A frame of what has been read. The body has ended as soon as its last byte is known to be.
    fn next_frame(&mut self) -> Result<Option<Frame<Bytes>>, WireError> {
        let decoder = match &mut self.incoming {
            Incoming::Body(decoder) => decoder,
            Incoming::UntilClose if !self.buffer.is_empty() => {
                return Ok(Some(Frame::data(self.buffer.split().freeze())));
            }
            Incoming::Head(_) | Incoming::UntilClose | Incoming::Ended => return Ok(None),
        };
        let frame = match decoder.decode(&mut self.buffer)? {
            Piece::Data(data) => Some(Frame::data(data)),
            Piece::Trailers(mut trailers) => {
                hygiene::remove_forbidden_trailers(&mut trailers);
                Some(Frame::trailers(trailers))
            }
            Piece::End | Piece::More => None,
        };
        if *decoder == Decoder::Done {
            self.incoming = Incoming::Ended;
        }
        Ok(frame)
    }

    /// Whether the head that answers has been read.
    pub fn is_headed(&self) -> bool {
        !matches!(self.incoming, Incoming::Head(_))
    }

    /// Whether the answer has been read to its end.
    pub fn is_ended(&self) -> bool {
        matches!(self.incoming, Incoming::Ended)
    }

    /// What is left of the answer's body.
    pub fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Incoming::Ended => SizeHint::with_exact(0),
            Incoming::Body(Decoder::Length(left)) => SizeHint::with_exact(*left),
            Incoming::Body(_) | Incoming::UntilClose | Incoming::Head(_) => SizeHint::default(),
        }
    }

    /// Whether the request has been sent to its end.
    pub fn is_sent(&self) -> bool {
        self.outgoing.is_done()
    }

    /// Whether no byte of the request has left.
    pub fn is_unsent(&self) -> bool {
        !self.outgoing.has_begun()
    }

    /// Whether no byte of an answer has come.
    pub fn is_silent(&self) -> bool {
        matches!(&self.incoming, Incoming::Head(Awaited { interim: 0, .. }))
            && self.buffer.is_empty()
    }

    /// What is left of the request's body, which nobody sends from now on but who has this. The
    /// connection does not stay.
    pub fn divide(&mut self) -> Remains {
        self.stays = false;
        let outgoing = std::mem::take(&mut self.outgoing);
        Remains { channel: self.channel.clone(), outgoing }
    }

    /// Whether the exchange is over and left nothing behind. What the endpoint does from then on,
    /// [`Self::is_reusable`] notices.
    pub fn is_settled(&self) -> bool {
        self.stays && self.is_ended() && self.is_sent() && self.buffer.is_empty()
    }

    /// Whether another request can be sent. Notices what the endpoint did meanwhile: a close, or
    /// bytes that nobody asked for.
    pub fn is_reusable(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let read =
            std::pin::Pin::new(&mut self.channel).poll_read(&mut cx, &mut ReadBuf::new(&mut byte));
        self.is_settled() && read.is_pending()
    }

    /// See [`Channel::home`].
    pub(crate) fn home(&self) -> Home {
        self.channel.home()
    }

    /// See [`Channel::settle_here`].
    pub(crate) fn settle_here(&mut self) {
        self.channel.settle_here();
    }

    /// The connection as bytes, and what was read of it already.
    pub fn into_parts(self) -> (Channel, Bytes) {
        (self.channel, self.buffer.freeze())
    }
}

// === impl Remains ===

impl Remains {
    /// Sends on; ready when all is sent or nothing more can be. A body that failed leaves the
    /// message unfinished, and the endpoint is told that nothing more comes.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sent = ready!(self.outgoing.poll(&mut self.channel, cx));
        if sent.is_err() {
            self.channel.end();
        }
        Poll::Ready(())
    }
}

// === impl WireError ===

impl From<hygiene::Refusal> for WireError {
    fn from(refusal: hygiene::Refusal) -> Self {
        Self::Malformed(refusal.into())
    }
}
