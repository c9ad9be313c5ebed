//! One filter between a body's producer and its consumer: each frame passes it as it streams.
//!
//! Nothing is read ahead: a frame is pulled from the producer when the consumer asks, so a slow
//! reader holds back the writer. What a filter keeps back is bounded by its `bufferedBody` limit.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body::Frame;
use tokio::time::{Instant, timeout_at};
use waypoint_abi::{Direction, Fault, FaultKind, Flow, Outcome};

use super::pass::{HOLD_MAX, Held};
use super::{Attached, Exchange, Interruption, InterruptionSlot, convert};
use crate::codec::body::{Body, BodyError};
use crate::error::RequestError;

/// Most bytes that one callback is given; a larger frame is given in pieces, so that the work of a
/// callback, and with it its CPU time, does not grow with what a peer sends at once.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A body that passes one filter.
pub(super) struct Layer {
    attached: Arc<Attached>,
    direction: Direction,
    inner: Body,
    /// The rest of a frame that is given in pieces.
    rest: Bytes,
    /// Frames that the filter has released and the consumer has not taken.
    ready: VecDeque<Frame<Bytes>>,
    /// The filter has been given the end of the message.
    fed_all: bool,
    /// Nothing follows what is ready.
    done: bool,
    slot: InterruptionSlot,
}

impl Layer {
    pub(super) fn new(
        attached: &Arc<Attached>,
        direction: Direction,
        held: Held,
        inner: Body,
        fed_all: bool,
        slot: &InterruptionSlot,
    ) -> Self {
        let ready = frames(held);
        let slot = Arc::clone(slot);
        let (attached, rest) = (Arc::clone(attached), Bytes::new());
        Self { attached, direction, inner, rest, ready, fed_all, done: fed_all, slot }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_frames(stream::unfold(self, |mut layer| async move {
            let frame = layer.next().await?;
            Some((frame, layer))
        }))
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(Ok(frame));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.done = true;
                return Some(Err(error));
            }
        }
    }

    /// Reads one frame and follows the filter's verdicts on it.
    async fn advance(&mut self) -> Result<(), BodyError> {
        let frame = self.read().await?;
        if self.attached.is_bypassed() {
            self.pass_by(frame);
            return Ok(());
        }
        let mut next = self.give(frame).await;
        loop {
            let outcome = match next {
                Ok(outcome) => outcome,
                Err(fault) => return self.failed(fault),
            };
            let flow = self.take(outcome);
            next = match flow {
                Flow::Continue => {
                    self.done = self.fed_all;
                    return Ok(());
                }
                Flow::Buffer if !self.fed_all => return Ok(()),
                Flow::Buffer | Flow::Hold => self.hold().await,
                Flow::Reply(reply) => {
                    let filter = self.attached.name().into();
                    return Err(self.interrupt(Interruption::Reply { filter, reply }));
                }
                Flow::Reset => {
                    let filter = self.attached.name().to_owned();
                    return Err(self.interrupt(RequestError::FilterReset { filter }.into()));
                }
            };
        }
    }

    /// The next frame, or the next piece of one.
    async fn read(&mut self) -> Result<Option<Frame<Bytes>>, BodyError> {
        if self.rest.is_empty() {
            let frame = match self.inner.frame().await.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => data,
                Some(Err(trailers)) => return Ok(Some(trailers)),
                None => return Ok(None),
            };
            self.rest = frame;
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        Ok(Some(Frame::data(piece)))
    }

    async fn give(&mut self, frame: Option<Frame<Bytes>>) -> Result<Outcome, Fault> {
        let stream = &self.attached.stream;
        match frame.map(Frame::into_data) {
            None => {
                self.fed_all = true;
                stream.body(self.direction, Bytes::new(), true).await
            }
            Some(Ok(data)) => {
                let last = self.rest.is_empty() && http_body::Body::is_end_stream(&self.inner);
                self.fed_all = last;
                stream.body(self.direction, data, last).await
            }
            Some(Err(frame)) => {
                self.fed_all = true;
                let trailers = frame.into_trailers().unwrap_or_default();
                stream.trailers(self.direction, convert::trailers(&trailers)).await
            }
        }
    }

    /// Keeps what an outcome released, and gives its verdict.
    fn take(&mut self, outcome: Outcome) -> Flow {
        let Outcome { flow, body, trailers, .. } = outcome;
        self.ready.extend(frames(Held { body: vec![body], trailers, finished: false }));
        flow
    }

    /// `&mut`: a body may move between threads but is not shared.
    async fn hold(&mut self) -> Result<Outcome, Fault> {
        timeout_at(Instant::now() + HOLD_MAX, self.attached.stream.resumed(self.direction))
            .await
            .unwrap_or_else(|_| {
                Err(Fault { kind: FaultKind::StreamWall, held: Default::default() })
            })
    }

    fn pass_by(&mut self, frame: Option<Frame<Bytes>>) {
        match frame {
            Some(frame) => self.ready.push_back(frame),
            None => self.done = true,
        }
    }

    fn failed(&mut self, fault: Fault) -> Result<(), BodyError> {
        let too_large = matches!(fault.kind, FaultKind::BodyTooLarge { .. });
        self.attached.bypass();
        if self.attached.is_open() && !too_large {
            let held = Held {
                body: vec![fault.held.body],
                trailers: fault.held.trailers,
                finished: false,
            };
            self.ready.extend(frames(held));
            self.done = self.fed_all;
            return Ok(());
        }
        let filter = self.attached.name().to_owned();
        Err(self.interrupt(RequestError::of_filter(filter, fault.kind, self.direction).into()))
    }

    /// Leaves the reason where the journey finds it, and ends the body. The first one counts.
    fn interrupt(&self, interruption: Interruption) -> BodyError {
        self.slot.lock().get_or_insert(interruption);
        BodyError::Filter
    }
}

fn frames(held: Held) -> VecDeque<Frame<Bytes>> {
    let data = held.body.into_iter().filter(|body| !body.is_empty()).map(Frame::data);
    let trailers = held.trailers.map(|list| Frame::trailers(convert::header_map(&list)));
    data.chain(trailers).collect()
}

/// A body that begins with what a filter held and goes on with the rest.
pub(super) fn after(mut held: Held, rest: Body) -> Body {
    let ended = http_body::Body::is_end_stream(&rest);
    match (held.body.len(), &held.trailers, ended) {
        (0, None, _) => rest,
        (1, None, true) => held.body.pop().map_or_else(Body::empty, Body::full),
        _ => {
            let first = frames(held);
            Body::from_frames(stream::unfold((first, rest), |(mut first, mut rest)| async move {
                let frame = match first.pop_front() {
                    Some(frame) => Ok(frame),
                    None => rest.frame().await?,
                };
                Some((frame, (first, rest)))
            }))
        }
    }
}

/// Keeps `content-length` and the body in agreement: corrected where the whole body is in hand,
/// enforced while it streams. A filter that forgot to remove the header cannot make stray bytes
/// reach the next request; one that wrote it twice, or not as a number, has not written it.
pub(super) fn check_length(headers: &mut HeaderMap, exchange: Exchange) -> Body {
    let body = exchange.body;
    if !headers.contains_key(CONTENT_LENGTH) {
        return body;
    }
    let exact = http_body::Body::size_hint(&body).exact();
    match (exact, declared_length(headers)) {
        (Some(length), _) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            body
        }
        (None, Some(length)) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            enforce(body, length)
        }
        (None, None) => {
            headers.remove(CONTENT_LENGTH);
            body
        }
    }
}

/// What all the lines of `content-length` say, if they agree.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let first = lines.next()?;
    if lines.any(|line| line != first) || !first.as_bytes().iter().all(u8::is_ascii_digit) {
        return None;
    }
    first.to_str().ok()?.parse().ok()
}

fn enforce(body: Body, declared: u64) -> Body {
    Body::from_frames(stream::unfold((body, declared), |(mut body, left)| async move {
        match body.frame().await {
            None if left == 0 => None,
            None => Some((Err(BodyError::TooShort), (Body::empty(), 0))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(left) => Some((Ok(frame), (body, left))),
                    None => Some((Err(BodyError::TooLong), (Body::empty(), 0))),
                }
            }
            Some(Err(error)) => Some((Err(error), (Body::empty(), 0))),
        }
    }))
}
