//! The body of an HTTP/2 request: what was read is given back to the client's window when the next
//! frame is asked for, so that a journey that holds bytes back holds the client back too.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::codec::{BodyError, Refusal, hygiene, idle::Stall};

/// A request's body that still arrives.
pub(in crate::codec) struct RequestBody {
    receive: RecvStream,
    /// Given to the journey, in bytes, and not yet given back to the window.
    unreleased: usize,
    /// What is still to come, where the head said so.
    length: Option<u64>,
    phase: Phase,
    stall: Stall,
    idle_limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Done,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(receive: RecvStream, length: Option<u64>, idle_limit: Duration) -> Self {
        let (phase, stall) = (Phase::Data, Stall::new());
        Self { receive, unreleased: 0, length, phase, stall, idle_limit }
    }

    pub(in crate::codec) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        self.release();
        let polled = match self.phase {
            Phase::Data => self.poll_data(cx),
            Phase::Trailers => self.poll_trailers(cx),
            Phase::Done => return Poll::Ready(None),
        };
        if polled.is_ready() {
            self.stall.progress();
            return polled;
        }
        ready!(self.stall.poll_expired(cx, self.idle_limit));
        self.fail(BodyError::DownstreamIdle)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Polled {
        match ready!(self.receive.poll_data(cx)) {
            Some(Ok(data)) => {
                self.unreleased = data.len();
                self.length = self.length.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => self.fail(body_error(&error)),
            None => {
                self.phase = Phase::Trailers;
                self.poll_trailers(cx)
            }
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Polled {
        match ready!(self.receive.poll_trailers(cx)) {
            Ok(Some(trailers)) => self.trailers(trailers),
            Ok(None) => {
                self.phase = Phase::Done;
                Poll::Ready(None)
            }
            Err(error) => self.fail(body_error(&error)),
        }
    }

    fn trailers(&mut self, trailers: HeaderMap) -> Polled {
        if let Err(refusal) = hygiene::trailer_fields(&trailers) {
            return self.fail(BodyError::DownstreamMalformed { reason: refusal.name() });
        }
        self.phase = Phase::Done;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    pub(in crate::codec) fn is_end_stream(&self) -> bool {
        self.phase == Phase::Done || self.receive.is_end_stream()
    }

    pub(in crate::codec) fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }

    fn fail(&mut self, error: BodyError) -> Polled {
        self.phase = Phase::Done;
        Poll::Ready(Some(Err(error)))
    }

    fn release(&mut self) {
        let bytes = std::mem::take(&mut self.unreleased);
        if 0 < bytes {
            // It fails only for more than was received, which is not the case.
            let _ = self.receive.flow_control().release_capacity(bytes);
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.release();
    }
}

/// Whose fault it was: h2 itself finds what is malformed, all else means that the client is gone.
fn body_error(error: &h2::Error) -> BodyError {
    if error.is_library() && error.is_reset() {
        BodyError::DownstreamMalformed { reason: Refusal::StreamMalformed.name() }
    } else {
        BodyError::DownstreamGone
    }
}
