//! The proxy-wasm ABI 0.2.1 on wasmtime: bounded guests behind a small host trait.
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
pub use limits::Limits;
pub use module::{AbiVersion, BadSignature, Hooks, LoadError, Module};
pub use outcome::{Fault, FaultKind, Flow, Held, LocalReply, Outcome};
pub use pairs::{PAIRS_BYTES_MAX, PAIRS_MAX, decode_pairs, encode_pairs};
pub use shared::{GuestMetric, MetricValue, Shared};
pub use spec::{Bodies, FilterSpec, Isolation};
pub use stats::{Stats, Verdicts};
pub use status::{Direction, LogLevel, Status};
pub use stream::Stream;
