//! One stream of a filter.

mod call;
mod end;

use std::{
    future::Future,
    sync::Arc,
    task::{self, Waker},
};

use bytes::Bytes;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    context::{Context, Ended},
    core::Core,
    flow::HeadAction,
    headers::Headers,
    outcome::{Fault, FaultKind, Flow, Held, Outcome},
    pool::Place,
    run::RunToEnd,
    status::Direction,
};

use self::call::Run;

/// One guest context.
///
/// Request and response may be driven at the same time; the VM's lock orders the callbacks.
pub struct Stream {
    open: Option<Open>,
}

struct Open {
    place: Place,
    context: Arc<Context>,
}

/// What the embedder gives in one call.
enum Given {
    Head(Headers, bool),
    Body(Bytes, bool),
    Trailers(Headers),
}

impl Stream {
    pub(crate) fn new(place: Place, context: Arc<Context>) -> Self {
        Self { open: Some(Open { place, context }) }
    }

    /// Gives the head of a direction, once.
    ///
    /// # Errors
    ///
    /// [`Fault`] with what the guest had not released of this direction.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a callback that has begun runs on in a task, and what it released is
    /// lost. Dropped while it waits for the VM, it only leaves the queue.
    pub async fn head(
        &self,
        direction: Direction,
        headers: Headers,
        end_of_stream: bool,
    ) -> Result<Outcome, Fault> {
        self.feed(direction, Given::Head(headers, end_of_stream)).await
    }

    /// Gives body bytes of a direction, in order, after its head.
    ///
    /// A call that is made while the direction is held ([`Flow::Hold`]) waits until it goes on.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    ///
    /// # Cancel safety
    ///
    /// As [`head`](Self::head).
    pub async fn body(
        &self,
        direction: Direction,
        bytes: Bytes,
        end_of_stream: bool,
    ) -> Result<Outcome, Fault> {
        self.feed(direction, Given::Body(bytes, end_of_stream)).await
    }

    /// Gives the trailers of a direction, which end it.
    ///
    /// A body that the guest still holds is shown to it once more, whole and with its end, before
    /// it sees the trailers.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    ///
    /// # Cancel safety
    ///
    /// As [`head`](Self::head).
    pub async fn trailers(&self, direction: Direction, headers: Headers) -> Result<Outcome, Fault> {
        self.feed(direction, Given::Trailers(headers)).await
    }

    /// Waits until a held direction goes on: `continue_stream`, a local reply or a reset, from
    /// any callback of the VM.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head): the VM ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken before it is ready.
    pub async fn resumed(&self, direction: Direction) -> Result<Outcome, Fault> {
        let open = self.open()?;
        match open.context.until_ready(direction).await {
            Ok(outcome) => {
                open.place.core().counters.verdict(&outcome.flow);
                Ok(outcome)
            }
            Err(kind) => Err(open.context.fault(direction, kind)),
        }
    }

    /// Ends the context: `on_log`, `on_done`, `on_delete`. Dropping the stream does the same at
    /// once; only what cannot be done at once (the VM is busy, the guest puts its end off) is left
    /// to a task.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to a task.
    pub async fn finish(mut self) {
        if let Some(open) = self.open.take() {
            let host = Arc::clone(&open.place.core().host);
            RunToEnd::new(&host, open.end()).await;
        }
    }

    fn open(&self) -> Result<&Open, Fault> {
        let closed = || Fault { kind: FaultKind::Closed, held: Held::default() };
        self.open.as_ref().ok_or_else(closed)
    }

    async fn feed(&self, direction: Direction, given: Given) -> Result<Outcome, Fault> {
        let open = self.open()?;
        let outcome = open.feed(direction, given).await;
        if let Ok(outcome) = &outcome {
            open.place.core().counters.verdict(&outcome.flow);
        }
        outcome
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let host = Arc::clone(&open.place.core().host);
        let mut end = Box::pin(open.end());
        // A task for each stream costs more than its last callbacks. Outside of a runtime, as when
        // one ends, there are no timers.
        let done = Handle::try_current().is_ok()
            && end.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_ready();
        if !done {
            host.spawn(end);
        }
    }
}

// === impl Open ===

impl Open {
    async fn feed(&self, direction: Direction, given: Given) -> Result<Outcome, Fault> {
        if !matches!(given, Given::Head(..)) {
            self.context.until_fed(direction).await;
            // A body waits its turn: it comes slower, where a head would be refused.
            self.context.cpu.until_room().await;
        }
        let ended = self.context.state.lock().ended(direction);
        if let Some(ended) = ended {
            return after_end(&self.context, direction, ended, given);
        }
        if !self.wants(direction, &given) {
            self.pass(direction, given);
            return Ok(self.context.outcome(direction));
        }
        if let Err(kind) = self.may_call() {
            return Err(self.refuse(direction, kind, given));
        }
        let guard = match self.place.vm().lock_bounded().await {
            Ok(guard) => guard,
            Err(kind) => return Err(self.refuse(direction, kind, given)),
        };
        let context = Arc::clone(&self.context);
        let host = &self.place.core().host;
        RunToEnd::new(host, async move { Run { guard, context, direction }.feed(given).await })
            .await
    }

    /// Whether the guest has a callback for this.
    fn wants(&self, direction: Direction, given: &Given) -> bool {
        let callbacks = Callbacks::of(self.place.core(), direction);
        match given {
            Given::Head(..) => callbacks.head,
            Given::Body(..) => callbacks.body,
            Given::Trailers(_) => {
                let shown_again = || self.context.state.lock().side(direction).begin_body_end();
                callbacks.trailers || (callbacks.body && shown_again().is_some())
            }
        }
    }

    fn may_call(&self) -> Result<(), FaultKind> {
        if let Some(kind) = self.place.vm().death.get() {
            return Err(kind.clone());
        }
        let now = Instant::now();
        if self.context.cpu.is_full(now) {
            return Err(FaultKind::StreamCpu);
        }
        if self.context.wall.is_full(now) { Err(FaultKind::StreamWall) } else { Ok(()) }
    }

    fn pass(&self, direction: Direction, given: Given) {
        let mut state = self.context.state.lock();
        let side = state.side(direction);
        let bodies = self.place.core().spec.bodies;
        match given {
            Given::Head(headers, end_of_stream) => {
                side.begin_head(headers, end_of_stream);
                side.after_head(HeadAction::Continue, bodies, false);
            }
            Given::Body(bytes, end_of_stream) => side.pass_body(bytes, end_of_stream),
            Given::Trailers(headers) => side.pass_trailers(headers),
        }
    }

    /// A fault before the guest was called: what was given is held too, at the end.
    fn refuse(&self, direction: Direction, kind: FaultKind, given: Given) -> Fault {
        if self.place.vm().death.get().is_none() {
            self.place.core().counters.fault(&kind); // Otherwise counted when the VM ended.
        }
        self.pass_unseen(direction, given);
        self.context.fault(direction, kind)
    }

    fn pass_unseen(&self, direction: Direction, given: Given) {
        let mut state = self.context.state.lock();
        let side = state.side(direction);
        match given {
            Given::Head(headers, end_of_stream) => side.begin_head(headers, end_of_stream),
            Given::Body(bytes, _) => side.keep_original(bytes),
            Given::Trailers(headers) => side.begin_trailers(headers),
        }
    }
}

/// Which callbacks one direction has.
struct Callbacks {
    head: bool,
    body: bool,
    trailers: bool,
}

impl Callbacks {
    fn of(core: &Core, direction: Direction) -> Self {
        let hooks = core.hooks;
        match direction {
            Direction::Request => Self {
                head: hooks.request_headers,
                body: hooks.request_body,
                trailers: hooks.request_trailers,
            },
            Direction::Response => Self {
                head: hooks.response_headers,
                body: hooks.response_body,
                trailers: hooks.response_trailers,
            },
        }
    }
}

/// The guest is not called any more: what was told is told again, and what comes goes by.
fn after_end(
    context: &Context,
    direction: Direction,
    ended: Ended,
    given: Given,
) -> Result<Outcome, Fault> {
    match ended {
        Ended::Told => Ok(context.outcome(direction)),
        Ended::Failed(kind) => Err(Fault { kind, held: given.held() }),
        Ended::Passed => {
            let Held { head, body, trailers } = given.held();
            Ok(Outcome { flow: Flow::Continue, head, body, trailers, clear_route: false })
        }
    }
}

impl Given {
    fn held(self) -> Held {
        match self {
            Self::Head(headers, _) => Held { head: Some(headers), ..Held::default() },
            Self::Body(body, _) => Held { body, ..Held::default() },
            Self::Trailers(headers) => Held { trailers: Some(headers), ..Held::default() },
        }
    }
}
