//! The wasmtime engine: one configuration for compiling and running, a bounded pool, a ticker.

use std::sync::Arc;

use wasmtime::{
    Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    WasmBacktraceDetails,
};

use crate::{
    artifact::Artefact,
    hostcalls::{self, Imports},
    module::{LoadError, Module},
    ticker::Ticker,
};

/// Stack of a guest, in bytes. Past it the guest traps.
pub(crate) const GUEST_STACK_BYTES: usize = 256 << 10;
/// Stack of a fiber: the guest's, and room for the host functions it calls.
const FIBER_STACK_BYTES: usize = 512 << 10;
/// Elements of a guest's table; Go modules need more than 10 000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Slots whose pages the pool keeps after their VM ended, so that the next one starts quickly.
const WARM_SLOTS_MAX: u32 = 4;
/// Bytes of a linear memory that stay resident in a warm slot.
const WARM_MEMORY_BYTES: usize = 64 << 10;
/// Instances of each VM: the guest and its shim.
const INSTANCES_PER_VM: u32 = 2;

/// How large the pool of VMs is.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// VMs of all filters together. Past it none starts: [`FaultKind::NoVm`] where there is no
    /// other.
    ///
    /// [`FaultKind::NoVm`]: crate::FaultKind::NoVm
    pub vms_max: u32,
    /// The largest linear memory that any filter may be given, in bytes.
    pub memory_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { vms_max: 128, memory_bytes_max: 64 << 20 }
    }
}

/// What runs guests: the wasmtime engine with its pool, and the thread that ticks it.
///
/// A clone is another handle on the same engine; the ticker ends with the last one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    imports: Imports,
    ticker: Ticker,
}

/// An engine that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused: address space, stacks, or the processor.
    #[error("the WebAssembly engine cannot start: {0}")]
    Wasmtime(String),
    /// The shim's artefact cannot be mapped.
    #[error("the shim of the VMs cannot be loaded: {0}")]
    Shim(#[source] LoadError),
    /// The ticker's thread could not be started.
    #[error("the engine's clock thread cannot start: {0}")]
    Ticker(std::io::Error),
}

impl Engine {
    /// Reserves the pool's address space and starts the ticker. `shim` is the artefact of
    /// [`SHIM`](crate::SHIM).
    ///
    /// # Errors
    ///
    /// When the address space cannot be reserved, the shim not be linked, or the thread not be
    /// started.
    pub fn new(options: EngineOptions, shim: &Artefact) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError::Wasmtime(format!("{error:#}"));
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
        let wasmtime = wasmtime::Engine::new(&config).map_err(failed)?;
        let shim = shim.map(&wasmtime).map_err(EngineError::Shim)?;
        let imports = hostcalls::link(&wasmtime, &shim).map_err(failed)?;
        let ticker = Ticker::start(wasmtime.weak()).map_err(EngineError::Ticker)?;
        Ok(Self { inner: Arc::new(Inner { wasmtime, imports, ticker }) })
    }

    /// Maps a compiled module and checks that it is a filter that this host can run.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what is missing or wrong, all of it at once.
    pub fn load(&self, artefact: &Artefact) -> Result<Module, LoadError> {
        let compiled = artefact.map(&self.inner.wasmtime)?;
        Module::check(self, compiled, &self.inner.imports)
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(crate) fn imports(&self) -> &Imports {
        &self.inner.imports
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }
}

/// The configuration that compiled code depends on; compiler and runtime must agree on it.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .concurrency_support(false);
    config
}

fn pool(options: EngineOptions) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let instances = options.vms_max.saturating_mul(INSTANCES_PER_VM);
    pool.total_core_instances(instances)
        .total_memories(options.vms_max)
        .total_tables(instances)
        .total_stacks(options.vms_max)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(options.memory_bytes_max)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .linear_memory_keep_resident(WARM_MEMORY_BYTES);
    pool
}
