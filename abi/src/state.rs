//! What a VM's store carries: its memory, the callback that runs, its streams, its bounds.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use wasmtime::{Memory, ResourceLimiter, StoreContextMut, UpdateDeadline};

use crate::{
    context::{Context, Effect},
    core::Core,
    engine::TABLE_ELEMENTS_MAX,
    host::HttpCallAnswer,
    hostcalls::Promise,
    meter::Meter,
    status::LogLevel,
    ticks::TickCell,
    vm::Vm,
};

/// The root context's id. Streams have higher ones.
pub(crate) const ROOT: u32 = 1;

pub(crate) struct VmState {
    pub(crate) core: Arc<Core>,
    pub(crate) vm: Weak<Vm>,
    pub(crate) memory: Option<Memory>,
    pub(crate) limiter: Limiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) callback: Callback,
    /// The stream that hostcalls act on: the callback's, or the one that the guest chose.
    pub(crate) here: Option<Arc<Context>>,
    pub(crate) hostcalls_left: u32,
    /// The guest's allocator runs for what the host has promised.
    pub(crate) promise: Option<Promise>,
    pub(crate) streams: HashMap<u32, Arc<Context>>,
    pub(crate) effects: Vec<Effect>,
    /// The callout answer that is being delivered.
    pub(crate) answer: Option<HttpCallAnswer>,
    pub(crate) ticks: Arc<TickCell>,
    pub(crate) tokens: u32,
    pub(crate) output: [Vec<u8>; 2],
}

/// The callback that runs, and what it may use.
#[derive(Clone)]
pub(crate) struct Callback {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) cpu: Duration,
    pub(crate) wall: Option<Duration>,
}

/// What a callback means for the hostcalls in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Before the guest has a context: little is allowed.
    Starting,
    VmStart,
    Configure,
    Stream,
    /// A stream's last callbacks: nothing can be answered any more.
    Ending,
    Root,
}

impl Kind {
    pub(crate) fn is_start(self) -> bool {
        matches!(self, Self::Starting | Self::VmStart | Self::Configure)
    }
}

/// Why the host ended a guest.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Halt {
    #[error("CPU deadline")]
    Deadline,
    #[error("stream time limit")]
    StreamWall,
    #[error("more than {0} hostcalls in one callback")]
    Hostcalls(u32),
    #[error("proc_exit({0})")]
    Exit(u32),
    #[error("{0} called from the allocator")]
    InAllocator(&'static str),
}

impl VmState {
    pub(crate) fn new(core: &Arc<Core>, vm: Weak<Vm>, ticks: Arc<TickCell>) -> Self {
        Self {
            core: Arc::clone(core),
            vm,
            memory: None,
            limiter: Limiter::new(core),
            meter: Arc::new(Meter::new()),
            callback: Callback {
                name: "_initialize",
                kind: Kind::Starting,
                cpu: Duration::ZERO,
                wall: None,
            },
            here: None,
            hostcalls_left: 0,
            promise: None,
            streams: HashMap::new(),
            effects: Vec::new(),
            answer: None,
            ticks,
            tokens: 0,
            output: [Vec::new(), Vec::new()],
        }
    }

    pub(crate) fn begin(&mut self, callback: Callback, here: Option<Arc<Context>>) {
        self.callback = callback;
        self.here = here;
        self.hostcalls_left = self.core.spec.limits.hostcalls_per_callback;
        self.promise = None;
        self.effects.clear();
    }

    pub(crate) fn warn_once(&self, what: &'static str) {
        self.core.warn_once(what, self.callback.name);
    }

    /// Writes what the guest has printed without an end of line.
    pub(crate) fn flush_output(&mut self) {
        for (index, level) in [LogLevel::Info, LogLevel::Error].into_iter().enumerate() {
            let line = std::mem::take(&mut self.output[index]);
            if !line.is_empty() {
                self.core.guest_log(level, &line);
            }
        }
    }
}

/// At each tick: over a bound the guest ends, within it the worker is given to others.
pub(crate) fn on_tick(context: StoreContextMut<'_, VmState>) -> wasmtime::Result<UpdateDeadline> {
    let state = context.data();
    state.meter.tick();
    if state.callback.cpu < state.meter.charged() {
        return Err(Halt::Deadline.into());
    }
    if state.callback.wall.is_some_and(|wall| wall < state.meter.wall()) {
        return Err(Halt::StreamWall.into());
    }
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
}

/// Bounds a VM's memory and tables, and counts the memory.
pub(crate) struct Limiter {
    core: Arc<Core>,
    bytes: usize,
}

impl Limiter {
    fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), bytes: 0 }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.core.spec.limits.memory_bytes;
        if limit < desired || maximum.is_some_and(|maximum| maximum < desired) {
            self.core.warn_once("the guest was refused more memory: memory_bytes", "memory.grow");
            return Ok(false);
        }
        self.bytes += desired - current;
        let grown = u64::try_from(desired - current).unwrap_or(0);
        self.core.counters.memory_bytes.fetch_add(grown, Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    /// The guest and its shim.
    fn instances(&self) -> usize {
        2
    }

    fn tables(&self) -> usize {
        2
    }

    fn memories(&self) -> usize {
        1
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        let bytes = u64::try_from(self.bytes).unwrap_or(0);
        self.core.counters.memory_bytes.fetch_sub(bytes, Relaxed);
    }
}
