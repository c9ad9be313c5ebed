//! The body of an HTTP/1 request: reads from the connection when it is asked for a frame.
//!
//! It owns the reading side while it lives. At its end, at a failure, or when it is dropped it puts
//! the reading side into the [`Slot`] that it shares with its connection, which goes on from there.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::{
    decode::{Decoder, Piece},
    reader::{BODY_READ_BYTES, Reader},
};
use crate::codec::{BodyError, Refusal, hygiene, idle::Stall};

/// A request's body that is still on the connection.
pub(in crate::codec) struct RequestBody {
    /// `None` once it was handed back.
    source: Option<Source>,
    slot: Arc<Slot>,
    stall: Stall,
    idle_limit: Duration,
}

struct Source {
    reader: Reader,
    decoder: Decoder,
}

/// Where a body and its connection meet.
#[derive(Default)]
pub(super) struct Slot(Mutex<Meeting>);

#[derive(Default)]
struct Meeting {
    returned: Option<Returned>,
    /// A client that waits for `100 Continue` before it sends the body.
    awaits_continue: bool,
    /// The body was asked for, so that the client shall send it.
    wanted: bool,
    /// Of the connection's task.
    waker: Option<Waker>,
}

/// The reading side after the body.
pub(super) struct Returned {
    pub(super) reader: Reader,
    /// How far the body was read.
    pub(super) decoder: Decoder,
    pub(super) failed: Option<Failed>,
}

/// Why a body's reading side is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Malformed(Refusal),
    Idle,
    Gone,
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(
        reader: Reader,
        decoder: Decoder,
        slot: Arc<Slot>,
        idle_limit: Duration,
    ) -> Self {
        Self { source: Some(Source { reader, decoder }), slot, stall: Stall::new(), idle_limit }
    }

    pub(in crate::codec) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let frame = loop {
            match source.decoder.decode(&mut source.reader.buffer) {
                Ok(Piece::Data(data)) => break Some(Frame::data(data)),
                Ok(Piece::Trailers(trailers)) => match hygiene::trailer_fields(&trailers) {
                    Ok(()) => break Some(Frame::trailers(trailers)),
                    Err(refusal) => return self.fail(Failed::Malformed(refusal)),
                },
                Ok(Piece::End) => break None,
                Ok(Piece::More) => {}
                Err(refusal) => return self.fail(Failed::Malformed(refusal)),
            }
            self.slot.want();
            match source.reader.poll_fill(cx, BODY_READ_BYTES) {
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(Failed::Gone),
                Poll::Ready(Ok(_)) => self.stall.progress(),
                Poll::Pending => {
                    ready!(self.stall.poll_expired(cx, self.idle_limit));
                    return self.fail(Failed::Idle);
                }
            }
        };
        self.stall.progress();
        if source.decoder == Decoder::Done {
            self.hand_back(None);
        }
        Poll::Ready(frame.map(Ok))
    }

    pub(in crate::codec) fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    pub(in crate::codec) fn size_hint(&self) -> SizeHint {
        match self.source.as_ref().map(|source| source.decoder) {
            Some(Decoder::Length(left)) => SizeHint::with_exact(left),
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }

    fn fail(&mut self, failed: Failed) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.hand_back(Some(failed));
        Poll::Ready(Some(Err(match failed {
            Failed::Malformed(refusal) => BodyError::DownstreamMalformed { reason: refusal.name() },
            Failed::Idle => BodyError::DownstreamIdle,
            Failed::Gone => BodyError::DownstreamGone,
        })))
    }

    fn hand_back(&mut self, failed: Option<Failed>) {
        if let Some(Source { reader, decoder }) = self.source.take() {
            let mut meeting = self.slot.0.lock();
            meeting.returned = Some(Returned { reader, decoder, failed });
            wake(&mut meeting);
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.hand_back(None);
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(awaits_continue: bool) -> Self {
        Self(Mutex::new(Meeting { awaits_continue, ..Meeting::default() }))
    }

    /// The body was asked for and has nothing: the client shall send it.
    fn want(&self) {
        let mut meeting = self.0.lock();
        if meeting.awaits_continue && !meeting.wanted {
            meeting.wanted = true;
            wake(&mut meeting);
        }
    }

    /// Ready once, when `100 Continue` shall be sent.
    pub(super) fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut meeting = self.0.lock();
        if meeting.awaits_continue && meeting.wanted {
            meeting.awaits_continue = false;
            return Poll::Ready(());
        }
        meeting.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the client still waits to be told to send the body. It may then never do so.
    pub(super) fn awaits_continue(&self) -> bool {
        self.0.lock().awaits_continue
    }

    pub(super) fn failed(&self) -> Option<Failed> {
        self.0.lock().returned.as_ref().and_then(|returned| returned.failed)
    }

    /// The reading side, if the body has ended or was dropped.
    pub(super) fn take(&self) -> Option<Returned> {
        self.0.lock().returned.take()
    }

    /// Ready with the reading side, once the body has ended or was dropped.
    pub(super) fn poll_returned(&self, cx: &mut Context<'_>) -> Poll<Returned> {
        let mut meeting = self.0.lock();
        if let Some(returned) = meeting.returned.take() {
            return Poll::Ready(returned);
        }
        meeting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(meeting: &mut Meeting) {
    if let Some(waker) = meeting.waker.take() {
        waker.wake();
    }
}
