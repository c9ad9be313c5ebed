//! The proxy-wasm ABI 0.2.1 on wasmtime: bounded guests behind a small host trait.
//!
//! ```text
//!  compile (child process) ─► ArtefactCache ─► Engine::load ─► Module
//!                                                               │ + FilterSpec, Shared, Host
//!  Stream ◄─ Generation::open ◄─ Generation (a pool of VMs) ◄───┘
//!    └ head, body, trailers, resumed, finish ─► Outcome { flow, what was released } or Fault
//! ```
//!
//! One [`Generation`] is one configured filter of one owner; its VMs never serve another. A VM
//! stands behind a first-come lock, and a guest yields its worker at every tick of a millisecond.
//! Modules of ABI 0.2.0 run too: it differs by one function that they do not import.
//!
//! # Bounds
//!
//! [`Limits`] names each with what happens past it. CPU time of a callback is the thread's, summed
//! over its polls. Until a tick has hit, a poll is charged its wall time, at most one tick; from
//! then on the thread's CPU clock is read at the start of each poll and at each tick. A loop is so
//! stopped within its budget and two ticks of CPU, and waiting for a busy machine costs nothing.
//! A hostcall, and one bulk operation on memory, is not interrupted.
//!
//! # Where it differs from Envoy, on purpose
//!
//! | what | Envoy | here |
//! | --- | --- | --- |
//! | a held head (`BeforeHeaders`), then a body or trailers callback that continues | goes on | waits while a callout of the stream is under way |
//! | a paused body at trailers | flushed unseen | shown once more, whole, with its end |
//! | headers after they left | gone, `BAD_ARGUMENT` | readable to the end; a late write is dropped, OK, and told once |
//! | what cannot be sent in a header | sent | escaped (`%0d`), or dropped; OK, and told once |
//! | pseudo-headers removed, or set to what they cannot be | sent so | stay as they were; OK, and told once |
//! | `connection`, `keep-alive`, `transfer-encoding` by a guest | sent | dropped; OK, and told once |
//! | malformed pairs | the map is wiped, OK | `PARSE_FAILURE`, nothing changes |
//! | `set_buffer_bytes` | prepend, replace all, append | any window |
//! | shared data without a value at pointer 0 | stored empty | deleted |
//! | a callout in `on_configure` | refused | sent |
//! | local reply with a status outside 200..=599 | sent | `BAD_ARGUMENT` |
//! | a second local reply | dropped | dropped |
//! | headers action 2 (`ContinueAndEndStream`) | ends the stream | continues |
//!
//! # What a guest may import but not have
//!
//! | function | answer |
//! | --- | --- |
//! | `proxy_grpc_call`, `proxy_grpc_stream` | `INTERNAL_FAILURE` (SDKs take it for "not sent") |
//! | `proxy_grpc_send`, `_cancel`, `_close` | `NOT_FOUND`: there is no such call |
//! | `proxy_register_shared_queue` | `UNIMPLEMENTED` |
//! | `proxy_resolve_`, `_enqueue_`, `_dequeue_shared_queue` | `NOT_FOUND`: there is no such queue |
//! | `proxy_continue_stream`, `proxy_close_stream` of a connection | `UNIMPLEMENTED` |
//! | buffers of connections, gRPC and foreign calls; maps of gRPC | `NOT_FOUND`; empty |
//! | foreign functions but `clear_route_cache`, `waypoint_ready` | the embedder's, else `NOT_FOUND` |
//! | ABI 0.1.0; connection, queue, gRPC and foreign callbacks | refused at load; never called |
//! | WASI beyond log, clock, random, environment | errors without effect |
//!
//! An import that the operator withholds answers `INTERNAL_FAILURE`, a function of WASI
//! `ENOTCAPABLE`; most SDKs end the guest then.
#![deny(missing_docs)]

mod artifact;
mod context;
mod core;
mod engine;
mod exports;
mod flow;
mod generation;
mod headers;
mod host;
mod hostcalls;
mod hygiene;
mod limits;
mod memory;
mod meter;
mod module;
mod outcome;
mod pairs;
mod pool;
mod run;
mod shared;
mod spec;
mod start;
mod state;
mod stats;
mod status;
mod stream;
mod ticker;
mod ticks;
mod vm;

pub use artifact::{
    Artefact, ArtefactCache, CACHE_BYTES_MAX, CacheError, CompileError, MODULE_BYTES_MAX, compile,
};
pub use engine::{Engine, EngineError, EngineOptions};
pub use generation::{Generation, StartError};
pub use headers::Headers;
pub use host::{Attributes, BoxFuture, CallRefused, Host, HttpCall, HttpCallAnswer};
pub use hostcalls::SHIM;
pub use limits::Limits;
pub use module::{AbiVersion, BadSignature, Hooks, LoadError, Module};
pub use outcome::{Fault, FaultKind, Flow, Held, LocalReply, Outcome};
pub use pairs::{PAIRS_BYTES_MAX, PAIRS_MAX, decode_pairs, encode_pairs};
pub use shared::{GuestMetric, MetricValue, Shared};
pub use spec::{Bodies, FilterSpec, Isolation};
pub use stats::{Stats, Verdicts};
pub use status::{Direction, LogLevel, Status};
pub use stream::Stream;
