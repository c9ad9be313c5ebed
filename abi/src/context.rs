//! One stream as host and guest share it: both directions, what the guest asked for, its budget.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use crate::{
    flow::Side,
    host::Attributes,
    limits::Limits,
    meter::Bucket,
    outcome::{Fault, FaultKind, Flow, LocalReply, Outcome},
    status::Direction,
};

/// The most bytes of properties that a guest may set on one stream; past it a set is dropped.
const PROPERTY_BYTES_MAX: usize = 64 << 10;

/// A stream's context. The VM's lock orders the callbacks; `state` is locked only for moments.
pub(crate) struct Context {
    pub(crate) id: u32,
    pub(crate) attributes: Arc<dyn Attributes>,
    pub(crate) state: Mutex<State>,
    pub(crate) cpu: Bucket,
    pub(crate) wall: Bucket,
    /// The guest called `proxy_done`.
    pub(crate) done: Notify,
    wake: [Notify; 2],
    body_limit: usize,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) request: Side,
    pub(crate) response: Side,
    pub(crate) properties: Vec<(Vec<u8>, Bytes)>,
    /// The guest knows the context.
    pub(crate) created: bool,
    /// `proxy_on_done` answered false, and `proxy_done` has not come.
    pub(crate) done_pending: bool,
    pub(crate) clear_route: bool,
    /// Callouts under way.
    pub(crate) callouts: u32,
    /// The VM ended.
    pub(crate) death: Option<FaultKind>,
    reply: Option<Box<LocalReply>>,
    /// In which direction the one local reply was given out.
    replied: Option<Direction>,
    reset: bool,
    failed: [Option<FaultKind>; 2],
}

/// What a guest asked for during a callback; it happens after the callback has returned.
///
/// # Source
///
/// proxy-wasm-cpp-host defers the same calls: made at once they would enter the guest again.
pub(crate) enum Effect {
    Continue(Arc<Context>, Direction),
    Close(Arc<Context>),
    Reply(Arc<Context>, Box<LocalReply>),
    Done(Arc<Context>),
}

impl Effect {
    /// Whether this overrides the action that a callback of `context` returned.
    pub(crate) fn ends(&self, context: &Arc<Context>) -> bool {
        match self {
            Self::Close(ended) | Self::Reply(ended, _) => Arc::ptr_eq(ended, context),
            Self::Continue(..) | Self::Done(_) => false,
        }
    }

    pub(crate) fn apply(self) {
        match self {
            Self::Continue(context, direction) => {
                context.state.lock().side(direction).continue_stream();
                context.wake(direction);
            }
            Self::Close(context) => {
                context.state.lock().reset = true;
                context.wake_all();
            }
            Self::Reply(context, reply) => {
                context.state.lock().offer_reply(reply);
                context.wake_all();
            }
            Self::Done(context) => {
                context.state.lock().done_pending = false;
                context.done.notify_one();
            }
        }
    }
}

// === impl Context ===

impl Context {
    pub(crate) fn new(
        now: Instant,
        id: u32,
        attributes: Arc<dyn Attributes>,
        limits: &Limits,
    ) -> Self {
        let refill = limits.stream_cpu_per_second;
        Self {
            id,
            attributes,
            state: Mutex::default(),
            cpu: Bucket::new(now, refill, refill),
            wall: Bucket::new(now, limits.stream_wall, refill * 2),
            done: Notify::new(),
            wake: [Notify::new(), Notify::new()],
            body_limit: limits.buffered_body_bytes,
        }
    }

    /// Resolves at the next wake after this call.
    pub(crate) fn woken(&self, direction: Direction) -> Notified<'_> {
        self.wake[index(direction)].notified()
    }

    fn wake(&self, direction: Direction) {
        self.wake[index(direction)].notify_waiters();
    }

    fn wake_all(&self) {
        self.wake(Direction::Request);
        self.wake(Direction::Response);
    }

    /// The VM ended: whoever waits for the guest has waited in vain.
    pub(crate) fn die(&self, kind: &FaultKind) {
        self.state.lock().death = Some(kind.clone());
        self.wake_all();
    }

    pub(crate) fn outcome(&self, direction: Direction) -> Outcome {
        self.state.lock().outcome(direction, self.body_limit)
    }

    pub(crate) fn fault(&self, direction: Direction, kind: FaultKind) -> Fault {
        let mut state = self.state.lock();
        state.failed[index(direction)] = Some(kind.clone());
        Fault { kind, held: state.side(direction).take_held() }
    }

    /// Waits while nothing may be fed in this direction.
    pub(crate) async fn until_fed(&self, direction: Direction) {
        let limit = self.body_limit;
        self.until(direction, |state| {
            let over = state.reset || state.reply.is_some() || state.death.is_some();
            (over || !state.side(direction).is_stopped(limit)).then_some(())
        })
        .await;
    }

    /// Waits until a held direction has something to go on with.
    pub(crate) async fn until_ready(&self, direction: Direction) -> Result<Outcome, FaultKind> {
        let limit = self.body_limit;
        self.until(direction, |state| {
            if state.reset || state.reply.is_some() || state.side(direction).is_ready() {
                return Some(Ok(state.outcome(direction, limit)));
            }
            state.death.clone().map(Err)
        })
        .await
    }

    async fn until<T>(
        &self,
        direction: Direction,
        mut check: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        loop {
            let woken = self.woken(direction);
            let mut woken = std::pin::pin!(woken);
            // Registered before the check, so that no wake falls between the two.
            woken.as_mut().enable();
            if let Some(found) = check(&mut self.state.lock()) {
                return found;
            }
            woken.await;
        }
    }
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Request => 0,
        Direction::Response => 1,
    }
}

// === impl State ===

impl State {
    pub(crate) fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// What forbids another callback in this direction, decided before the guest is called.
    pub(crate) fn ended(&self, direction: Direction) -> Option<Ended> {
        if self.reset {
            return Some(Ended::Told);
        }
        if let Some(kind) = &self.failed[index(direction)] {
            return Some(Ended::Failed(kind.clone()));
        }
        match self.replied {
            // A reply from the response is final and does not pass the filter again; what is
            // left of the request goes nowhere.
            Some(Direction::Response) if direction == Direction::Response => Some(Ended::Passed),
            Some(_) if direction == Direction::Request => Some(Ended::Told),
            _ if self.reply.is_some() => Some(Ended::Told),
            _ => None,
        }
    }

    /// Only the first reply counts.
    fn offer_reply(&mut self, reply: Box<LocalReply>) {
        if self.reply.is_none() && self.replied.is_none() {
            self.reply = Some(reply);
        }
    }

    fn outcome(&mut self, direction: Direction, limit: usize) -> Outcome {
        let nothing = |flow| Outcome {
            flow,
            head: None,
            body: Bytes::new(),
            trailers: None,
            clear_route: false,
        };
        if let Some(reply) = self.reply.take() {
            self.replied = Some(direction);
            if !self.response.head_taken() {
                return nothing(Flow::Reply(reply));
            }
            self.reset = true; // Too late for another head.
        }
        let request_is_over = direction == Direction::Request && self.replied.is_some();
        if self.reset || request_is_over {
            return nothing(Flow::Reset);
        }
        let flow = self.side(direction).flow(limit);
        let mut out = self.side(direction).take_out();
        Outcome {
            flow,
            body: out.body(),
            head: out.head,
            trailers: out.trailers,
            clear_route: direction == Direction::Request && std::mem::take(&mut self.clear_route),
        }
    }

    pub(crate) fn property(&self, path: &[u8]) -> Option<Bytes> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value.clone())
    }

    /// `false` if there is no room.
    pub(crate) fn set_property(&mut self, path: &[u8], value: Bytes) -> bool {
        let others = self.properties.iter().filter(|(name, _)| name != path);
        let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if PROPERTY_BYTES_MAX < used + path.len() + value.len() {
            return false;
        }
        self.properties.retain(|(name, _)| name != path);
        self.properties.push((path.to_vec(), value));
        true
    }
}

/// Why a direction is not given to the guest any more.
pub(crate) enum Ended {
    /// A reply or reset is to be told, or was.
    Told,
    /// It failed before.
    Failed(FaultKind),
    /// It goes by without the guest.
    Passed,
}
