//! HTTP callouts: sent at once, answered on the root context.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    context::Context,
    core::Core,
    headers::Headers,
    host::{HttpCall, HttpCallAnswer},
    hostcalls::{Definitions, Guest, hostcall},
    hygiene::{self, MapKind},
    memory,
    pairs::decode_pairs,
    state::VmState,
    status::{LogLevel, Status},
};

/// The timeout of a callout that names none, and the longest that one may name.
const CALLOUT_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// How long the embedder's own timeout may be late before the host answers for it.
const TIMEOUT_GRACE: Duration = Duration::from_millis(100);

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, HttpCall, http_call,
        (upstream: u32, upstream_len: u32, headers: u32, headers_len: u32, body: u32,
         body_len: u32, trailers: u32, trailers_len: u32, timeout_ms: u32, to_token: u32));
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
fn http_call(
    guest: &mut Guest<'_>,
    upstream: u32,
    upstream_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout_ms: u32,
    to_token: u32,
) -> Result<(), Status> {
    // Bad pointers must be found out before anything is sent; as `BAD_ARGUMENT`, for SDKs know
    // no other refusal of what they were given.
    let read = |ptr, len| memory::read(guest.memory, ptr, len).map_err(|_| Status::BadArgument);
    let map = |ptr, len| decode_pairs(read(ptr, len)?).ok_or(Status::BadArgument);
    let upstream = std::str::from_utf8(read(upstream, upstream_len)?);
    let call = HttpCall {
        upstream: upstream.map_err(|_| Status::BadArgument)?.to_owned(),
        headers: clean(guest.state, MapKind::Request, &map(headers, headers_len)?),
        body: Bytes::copy_from_slice(read(body, body_len)?),
        trailers: clean(guest.state, MapKind::Plain, &map(trailers, trailers_len)?),
        timeout: timeout(timeout_ms),
    };
    memory::write_u32(guest.memory, to_token, 0).map_err(|_| Status::BadArgument)?;
    let token = send(guest.state, call)?;
    memory::write_u32(guest.memory, to_token, token)
}

fn timeout(timeout_ms: u32) -> Duration {
    match timeout_ms {
        0 => CALLOUT_TIMEOUT_MAX,
        ms => Duration::from_millis(u64::from(ms)).min(CALLOUT_TIMEOUT_MAX),
    }
}

fn clean(state: &VmState, kind: MapKind, lines: &Headers) -> Headers {
    let mut headers = Headers::new();
    if let Err(complaint) = hygiene::set(kind, &mut headers, lines, &state.core.spec.limits) {
        state.warn_once(complaint);
    }
    headers
}

fn send(state: &mut VmState, call: HttpCall) -> Result<u32, Status> {
    let core = Arc::clone(&state.core);
    let Some(slot) = Slot::take(&core, state.here.clone()) else {
        state.warn_once("callouts_per_stream or callouts_max is reached: not sent");
        return Err(Status::InternalFailure);
    };
    let wait = call.timeout + TIMEOUT_GRACE;
    let answer = match core.host.http_call(&core.spec, call) {
        Ok(answer) => answer,
        Err(refused) => {
            let line = format!("a callout was not sent: {refused}");
            core.host_log(LogLevel::Warn, &line);
            return Err(Status::BadArgument);
        }
    };
    core.counters.callouts.fetch_add(1, SeqCst);
    let token = next_token(state);
    let vm = state.vm.clone();
    core.host.spawn(Box::pin(async move {
        let answer = tokio::time::timeout(wait, answer).await.unwrap_or_else(|_| timed_out());
        let Some(vm) = vm.upgrade() else { return };
        vm.answer(token, answer, move || drop(slot)).await;
    }));
    Ok(token)
}

/// Tokens start again after 4 billion callouts, long after the first ones were answered.
fn next_token(state: &mut VmState) -> u32 {
    state.tokens = state.tokens.checked_add(1).unwrap_or(1);
    state.tokens
}

/// As Envoy answers for an upstream that was too slow.
fn timed_out() -> HttpCallAnswer {
    HttpCallAnswer {
        headers: [(":status", "504"), ("content-type", "text/plain")].into_iter().collect(),
        body: Bytes::from_static(b"upstream request timeout"),
        trailers: Headers::new(),
    }
}

/// A callout under way, counted for its filter and its stream.
struct Slot {
    core: Arc<Core>,
    stream: Option<Arc<Context>>,
}

impl Slot {
    fn take(core: &Arc<Core>, stream: Option<Arc<Context>>) -> Option<Self> {
        let limits = &core.spec.limits;
        if !take_one(&core.callouts, limits.callouts_max) {
            return None;
        }
        if let Some(context) = &stream {
            let mut state = context.state.lock();
            if limits.callouts_per_stream <= state.callouts {
                core.callouts.fetch_sub(1, SeqCst);
                return None;
            }
            state.callouts += 1;
        }
        Some(Self { core: Arc::clone(core), stream })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.core.callouts.fetch_sub(1, SeqCst);
        if let Some(context) = &self.stream {
            context.state.lock().callouts -= 1;
        }
    }
}

fn take_one(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(SeqCst, SeqCst, |n| (n < max).then_some(n + 1)).is_ok()
}
