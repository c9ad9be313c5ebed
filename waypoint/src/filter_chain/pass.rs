//! One filter sees one head: callbacks, pauses and holds until the head goes on.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use waypoint_abi::{Direction, Fault, FaultKind, Flow, Outcome};

use super::layer::{self, Layer};
use super::{Attached, Exchange, Interruption, InterruptionSlot};
use crate::codec::body::BodyError;
use crate::error::RequestError;

/// How long a filter may hold a head for a callout or a timer, unless it sets `bodyWait`; past it,
/// the failure policy.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(60);
/// How long a filter with `bodies: BeforeHeaders` may wait for the body, unless it sets another.
pub(crate) const BODY_WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// Gives the exchange's head to a filter and leaves in its place what the filter made of it.
pub(super) async fn head(
    attached: &std::sync::Arc<Attached>,
    direction: Direction,
    exchange: &mut Exchange,
    slot: &InterruptionSlot,
) -> Result<(), Interruption> {
    let hooks = attached.filter.running.generation.hooks();
    let (on_headers, on_body, on_trailers) = match direction {
        Direction::Request => (hooks.request_headers, hooks.request_body, hooks.request_trailers),
        Direction::Response => {
            (hooks.response_headers, hooks.response_body, hooks.response_trailers)
        }
    };
    if attached.is_bypassed() {
        return Ok(());
    }
    let mut held = Held::default();
    if on_headers {
        let first = attached.stream.head(direction, exchange.head.clone(), exchange.ended).await;
        settle(attached, direction, exchange, &mut held, first).await?;
    }
    let streams = (on_body || on_trailers) && !attached.is_bypassed() && !held.finished;
    let rest = std::mem::take(&mut exchange.body);
    exchange.body = if streams && !(exchange.ended && held.is_empty()) {
        Layer::new(attached, direction, held, rest, exchange.ended, slot).into_body()
    } else {
        layer::after(held, rest)
    };
    exchange.ended = http_body::Body::is_end_stream(&exchange.body);
    Ok(())
}

/// Body bytes and trailers that a filter released together with the head.
#[derive(Default)]
pub(super) struct Held {
    pub(super) body: Vec<Bytes>,
    pub(super) trailers: Option<waypoint_abi::Headers>,
    /// The whole message has been fed and released: nothing is left to stream.
    pub(super) finished: bool,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.body.is_empty() && self.trailers.is_none()
    }

    fn push(&mut self, body: Bytes) {
        if !body.is_empty() {
            self.body.push(body);
        }
    }
}

/// Follows the filter's verdicts until the head is released or the message is ended.
async fn settle(
    attached: &Attached,
    direction: Direction,
    exchange: &mut Exchange,
    held: &mut Held,
    first: Result<Outcome, Fault>,
) -> Result<(), Interruption> {
    let started = Instant::now();
    let set = attached.filter.config.limits.body_wait;
    let (body_wait, hold_until) =
        (set.unwrap_or(BODY_WAIT_DEFAULT), started + set.unwrap_or(HOLD_MAX));
    let mut fed_all = exchange.ended;
    let mut next = first;
    loop {
        let outcome = match next {
            Ok(outcome) => outcome,
            Err(fault) => return failed(attached, direction, exchange, held, fault),
        };
        if let Some(head) = outcome.head {
            exchange.head = head;
        }
        held.push(outcome.body);
        held.trailers = outcome.trailers.or(held.trailers.take());
        next = match outcome.flow {
            Flow::Continue => {
                held.finished = fed_all;
                return Ok(());
            }
            Flow::Reply(reply) => {
                return Err(Interruption::Reply { filter: attached.name().into(), reply });
            }
            Flow::Reset => {
                return Err(RequestError::FilterReset { filter: attached.name().to_owned() }.into());
            }
            Flow::Hold => hold(attached, direction, hold_until).await,
            Flow::Buffer if fed_all => hold(attached, direction, hold_until).await,
            Flow::Buffer => {
                let until = started + body_wait;
                let fed = timeout_at(until, feed(attached, direction, exchange, &mut fed_all));
                match fed.await {
                    Ok(Ok(fed)) => fed,
                    Ok(Err(error)) => return Err(RequestError::RequestBody(error).into()),
                    Err(_) => return Err(too_slow(attached, body_wait).into()),
                }
            }
        };
    }
}

/// Waits until the guest lets the stream go on; past the bound it counts as failed.
async fn hold(attached: &Attached, direction: Direction, until: Instant) -> Result<Outcome, Fault> {
    timeout_at(until, attached.stream.resumed(direction))
        .await
        .unwrap_or_else(|_| Err(Fault { kind: FaultKind::StreamWall, held: Default::default() }))
}

/// Reads one frame of the body and gives it to the filter, which holds the head meanwhile.
async fn feed(
    attached: &Attached,
    direction: Direction,
    exchange: &mut Exchange,
    fed_all: &mut bool,
) -> Result<Result<Outcome, Fault>, BodyError> {
    let fed = match exchange.body.frame().await {
        None => {
            *fed_all = true;
            attached.stream.body(direction, Bytes::new(), true).await
        }
        Some(frame) => match frame?.into_data() {
            Ok(data) => {
                *fed_all = http_body::Body::is_end_stream(&exchange.body);
                attached.stream.body(direction, data, *fed_all).await
            }
            Err(frame) => {
                *fed_all = true;
                let trailers = frame.into_trailers().unwrap_or_default();
                attached.stream.trailers(direction, super::convert::trailers(&trailers)).await
            }
        },
    };
    Ok(fed)
}

/// Applies the failure policy: under `Open` the message goes on as if the filter were not there.
fn failed(
    attached: &Attached,
    direction: Direction,
    exchange: &mut Exchange,
    held: &mut Held,
    fault: Fault,
) -> Result<(), Interruption> {
    let refused = matches!(fault.kind, FaultKind::BodyTooLarge { .. });
    if !attached.is_open() || refused {
        attached.bypass();
        let filter = attached.name().to_owned();
        return Err(RequestError::of_filter(filter, fault.kind, direction).into());
    }
    attached.bypass();
    if let Some(head) = fault.held.head {
        exchange.head = head;
    }
    held.push(fault.held.body);
    held.trailers = fault.held.trailers.or(held.trailers.take());
    Ok(())
}

fn too_slow(attached: &Attached, waited: Duration) -> RequestError {
    attached.bypass();
    RequestError::BodyWait {
        filter: attached.name().to_owned(),
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    }
}
