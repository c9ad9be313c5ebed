//! One stream of a filter.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;

use crate::{
    context::{Context, Ended},
    core::Core,
    flow::{BodyAction, HeadAction},
    headers::Headers,
    outcome::{Fault, FaultKind, Flow, Held, Outcome},
    pool::Place,
    run::RunToEnd,
    state::{Kind, ROOT},
    status::Direction,
    vm::{Call, DONE_WAIT_MAX, Guard, Vm},
};

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
        place.core().counters.streams.fetch_add(1, Relaxed);
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

    /// Ends the context: `on_log`, `on_done`, `on_delete`. Dropping the stream does the same in
    /// a task.
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
        if let Some(open) = self.open.take() {
            let host = Arc::clone(&open.place.core().host);
            host.spawn(Box::pin(open.end()));
        }
    }
}

// === impl Open ===

impl Open {
    async fn feed(&self, direction: Direction, given: Given) -> Result<Outcome, Fault> {
        if !matches!(given, Given::Head(..)) {
            self.context.until_fed(direction).await;
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
        if self.context.cpu.is_full() {
            return Err(FaultKind::StreamCpu);
        }
        if self.context.wall.is_full() { Err(FaultKind::StreamWall) } else { Ok(()) }
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

    /// The end of a context; nobody drops it half-way.
    async fn end(self) {
        let Self { place, context } = self;
        let core = Arc::clone(place.core());
        let mut guard = place.vm().lock().await;
        if guard.live().is_none() {
            return;
        }
        let created = context.state.lock().created;
        if !created && !core.hooks.log {
            return;
        }
        let ended = end(&mut guard, &context).await;
        if ended == Ok(Done::Later) {
            drop(guard);
            let _ = tokio::time::timeout(DONE_WAIT_MAX, context.done.notified()).await;
            guard = place.vm().lock().await;
        }
        let call = ending("proxy_on_delete", &context);
        let _ = guard.call(|exports| exports.delete.as_ref(), context.id, call).await;
        guard.settle();
        if let Some(live) = guard.live() {
            live.store.data_mut().streams.remove(&context.id);
        }
        drop(guard);
        drop(place);
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

/// The guest is asked whether the context is done, or still at work.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Now,
    Later,
}

async fn end(guard: &mut Guard, context: &Arc<Context>) -> Result<Done, Stopped> {
    ensure_created(guard, context).await.map_err(|_| Stopped)?;
    let call = ending("proxy_on_log", context);
    guard.call(|e| e.log.as_ref(), context.id, call).await.map_err(|_| Stopped)?;
    guard.settle();
    let call = ending("proxy_on_done", context);
    let done = guard.call(|e| e.done.as_ref(), context.id, call).await.map_err(|_| Stopped)?;
    let later = done == Some(0);
    context.state.lock().done_pending = later;
    guard.settle();
    Ok(if later { Done::Later } else { Done::Now })
}

/// The VM ended meanwhile.
#[derive(Debug, PartialEq, Eq)]
struct Stopped;

fn ending(name: &'static str, context: &Arc<Context>) -> Call {
    Call { name, kind: Kind::Ending, stream: Some(Arc::clone(context)) }
}

/// Tells the guest about the context before its first callback.
async fn ensure_created(guard: &mut Guard, context: &Arc<Context>) -> Result<(), FaultKind> {
    if std::mem::replace(&mut context.state.lock().created, true) {
        return Ok(());
    }
    if let Some(live) = guard.live() {
        live.store.data_mut().streams.insert(context.id, Arc::clone(context));
    }
    let call = Call {
        name: "proxy_on_context_create",
        kind: Kind::Stream,
        stream: Some(Arc::clone(context)),
    };
    guard.call(|e| e.context_create.as_ref(), (context.id, ROOT), call).await.map(|_| ())
}

// === impl Run ===

/// One call of the embedder while it has the VM.
struct Run {
    guard: Guard,
    context: Arc<Context>,
    direction: Direction,
}

impl Run {
    async fn feed(mut self, given: Given) -> Result<Outcome, Fault> {
        // Another callback may have ended the stream while this one waited for the VM.
        let ended = self.context.state.lock().ended(self.direction);
        if let Some(ended) = ended {
            return after_end(&self.context, self.direction, ended, given);
        }
        let fed = match given {
            Given::Head(headers, end_of_stream) => self.head(headers, end_of_stream).await,
            Given::Body(bytes, end_of_stream) => self.body(bytes, end_of_stream).await,
            Given::Trailers(headers) => self.trailers(headers).await,
        };
        match fed {
            Ok(()) => Ok(self.context.outcome(self.direction)),
            Err(kind) => {
                if matches!(kind, FaultKind::BodyTooLarge { .. }) {
                    self.vm().core.counters.fault(&kind);
                }
                Err(self.context.fault(self.direction, kind))
            }
        }
    }

    async fn head(&mut self, headers: Headers, end_of_stream: bool) -> Result<(), FaultKind> {
        let lines = count(headers.len());
        self.context.state.lock().side(self.direction).begin_head(headers, end_of_stream);
        ensure_created(&mut self.guard, &self.context).await?;
        let direction = self.direction;
        let params = (self.context.id, lines, u32::from(end_of_stream));
        let call = self.call("proxy_on_request_headers", "proxy_on_response_headers");
        let answer =
            self.guard.call(|exports| exports.of(direction).headers.as_ref(), params, call).await?;
        let action = HeadAction::from_wire(answer.unwrap_or(0));
        let core = self.core();
        let body_callback = Callbacks::of(&core, direction).body;
        self.settle(|side, _| {
            side.after_head(action, core.spec.bodies, body_callback);
            Ok(())
        })
    }

    async fn body(&mut self, bytes: Bytes, end_of_stream: bool) -> Result<(), FaultKind> {
        let limit = self.limit();
        let begun =
            self.context.state.lock().side(self.direction).begin_body(bytes, end_of_stream, limit);
        let Ok(size) = begun else {
            return Err(FaultKind::BodyTooLarge { limit_bytes: limit });
        };
        self.show_body(size, end_of_stream).await
    }

    async fn show_body(&mut self, size: usize, end_of_stream: bool) -> Result<(), FaultKind> {
        ensure_created(&mut self.guard, &self.context).await?;
        let (direction, limit) = (self.direction, self.limit());
        let params = (self.context.id, count(size), u32::from(end_of_stream));
        let call = self.call("proxy_on_request_body", "proxy_on_response_body");
        let answer =
            self.guard.call(|exports| exports.of(direction).body.as_ref(), params, call).await?;
        let action = BodyAction::from_wire(answer.unwrap_or(0));
        self.settle(|side, callouts| {
            side.after_body(action, callouts, limit)
                .map_err(|_| FaultKind::BodyTooLarge { limit_bytes: limit })
        })
    }

    async fn trailers(&mut self, headers: Headers) -> Result<(), FaultKind> {
        let direction = self.direction;
        let callbacks = Callbacks::of(&self.core(), direction);
        let held = self.context.state.lock().side(direction).begin_body_end();
        if let (true, Some(size)) = (callbacks.body, held) {
            self.show_body(size, true).await?;
            if self.context.state.lock().ended(direction).is_some() {
                return Ok(());
            }
        }
        if !callbacks.trailers {
            self.context.state.lock().side(direction).pass_trailers(headers);
            return Ok(());
        }
        let lines = count(headers.len());
        self.context.state.lock().side(direction).begin_trailers(headers);
        ensure_created(&mut self.guard, &self.context).await?;
        let params = (self.context.id, lines);
        let call = self.call("proxy_on_request_trailers", "proxy_on_response_trailers");
        let answer = self
            .guard
            .call(|exports| exports.of(direction).trailers.as_ref(), params, call)
            .await?;
        let action = BodyAction::from_wire(answer.unwrap_or(0));
        self.settle(|side, callouts| {
            side.after_trailers(action, callouts);
            Ok(())
        })
    }

    /// The action first, then what the guest asked for; a reply or reset stands for the action.
    fn settle(
        &mut self,
        act: impl FnOnce(&mut crate::flow::Side, bool) -> Result<(), FaultKind>,
    ) -> Result<(), FaultKind> {
        let effects = self.guard.effects();
        let acted = if effects.iter().any(|effect| effect.ends(&self.context)) {
            Ok(())
        } else {
            let mut state = self.context.state.lock();
            let callouts = 0 < state.callouts;
            act(state.side(self.direction), callouts)
        };
        effects.into_iter().for_each(crate::context::Effect::apply);
        acted
    }

    fn call(&self, request: &'static str, response: &'static str) -> Call {
        let name = match self.direction {
            Direction::Request => request,
            Direction::Response => response,
        };
        Call { name, kind: Kind::Stream, stream: Some(Arc::clone(&self.context)) }
    }

    fn core(&self) -> Arc<Core> {
        Arc::clone(&self.vm().core)
    }

    fn vm(&self) -> &Arc<Vm> {
        self.guard.vm()
    }

    fn limit(&self) -> usize {
        self.vm().core.spec.limits.buffered_body_bytes
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
