//! One call of the embedder while it has the VM.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    context::{Context, Effect},
    core::Core,
    flow::{BodyAction, HeadAction, Side},
    headers::Headers,
    outcome::{Fault, FaultKind, Outcome},
    state::{Kind, ROOT},
    status::Direction,
    stream::{Callbacks, Given, after_end},
    vm::{Call, Guard, Vm},
};

/// A direction of a stream, with its VM's lock.
pub(super) struct Run {
    pub(super) guard: Guard,
    pub(super) context: Arc<Context>,
    pub(super) direction: Direction,
}

impl Run {
    pub(super) async fn feed(mut self, given: Given) -> Result<Outcome, Fault> {
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
        let (direction, id, end) = (self.direction, self.context.id, u32::from(end_of_stream));
        let call = self.call("proxy_on_request_headers", "proxy_on_response_headers");
        let answer = if direction == Direction::Request && begin(&mut self.guard, &self.context) {
            self.guard.call(|exports| exports.open.as_ref(), (id, ROOT, lines, end), call).await?
        } else {
            ensure_created(&mut self.guard, &self.context).await?;
            let params = (id, lines, end);
            self.guard.call(|exports| exports.of(direction).headers.as_ref(), params, call).await?
        };
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
        act: impl FnOnce(&mut Side, bool) -> Result<(), FaultKind>,
    ) -> Result<(), FaultKind> {
        let effects = self.guard.effects();
        let acted = if effects.iter().any(|effect| effect.ends(&self.context)) {
            Ok(())
        } else {
            let mut state = self.context.state.lock();
            let callouts = 0 < state.callouts;
            act(state.side(self.direction), callouts)
        };
        effects.into_iter().for_each(Effect::apply);
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

/// Tells the guest about the context before its first callback.
pub(super) async fn ensure_created(
    guard: &mut Guard,
    context: &Arc<Context>,
) -> Result<(), FaultKind> {
    if !begin(guard, context) {
        return Ok(());
    }
    let call = Call {
        name: "proxy_on_context_create",
        kind: Kind::Stream,
        stream: Some(Arc::clone(context)),
    };
    guard.call(|e| e.context_create.as_ref(), (context.id, ROOT), call).await.map(|_| ())
}

/// Whether the guest has yet to be told about the context; from now on it is known to the VM.
fn begin(guard: &mut Guard, context: &Arc<Context>) -> bool {
    let fresh = !std::mem::replace(&mut context.state.lock().created, true);
    if let (true, Some(live)) = (fresh, guard.live()) {
        live.store.data_mut().streams.insert(context.id, Arc::clone(context));
    }
    fresh
}
