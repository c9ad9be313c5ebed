//! How a VM begins: instantiate, initialise, start, configure.
//!
//! # Source
//!
//! proxy-wasm ABI 0.2.1, "Initialization"; the order of proxy-wasm-cpp-host.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::time::Instant;
use wasmtime::{Instance, PoolConcurrencyLimitError, Store, Trap};

use crate::{
    core::Core,
    engine::Engine,
    exports::Exports,
    generation::StartError,
    hostcalls::{Called, ENV, Imports, set_called},
    meter::Metered,
    module::{MEMORY, Module},
    outcome::FaultKind,
    pool::Pool,
    state::{Callback, Halt, Kind, ROOT, VmState, on_tick},
    vm::{Call, Guard, Live, START_CPU_MAX, Vm, classify},
};

/// Starts and configures a VM.
///
/// # Cancel safety
///
/// Dropping it ends the VM that was starting.
pub(crate) async fn start(core: &Arc<Core>, pool: &Weak<Pool>) -> Result<Arc<Vm>, StartError> {
    let vm = Vm::new(core, pool);
    let mut guard = vm.lock().await;
    let live = instantiate(core, &vm).await?;
    guard.set_live(live);
    initialise(&mut guard).await?;
    configure(&mut guard, core).await?;
    guard.settle();
    drop(guard);
    core.counters.vm_starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(vm)
}

async fn instantiate(core: &Arc<Core>, vm: &Arc<Vm>) -> Result<Live, StartError> {
    let engine: &Engine = core.module.engine();
    let state = VmState::new(core, Arc::downgrade(vm), Arc::clone(&vm.ticks));
    let mut store = Store::new(engine.wasmtime(), state);
    store.limiter(|state| &mut state.limiter);
    store.epoch_deadline_callback(on_tick);
    let callback =
        Callback { name: "(start)", kind: Kind::Starting, cpu: START_CPU_MAX, wall: None };
    store.data_mut().begin(callback, None);
    store.set_epoch_deadline(1);
    let meter = Arc::clone(&store.data().meter);
    let ticking = engine.ticker().running();
    let instantiated = Metered::new(&meter, Instant::now(), link(&core.module, &mut store)).await;
    drop(ticking);
    core.share.charge(meter.ended().0, meter.charged());
    let (shim, instance) = instantiated.map_err(|error| refused(&error))?;
    let memory = instance.get_memory(&mut store, MEMORY);
    store.data_mut().memory = memory;
    let exports = Exports::resolve(&mut store, &shim, &instance, core);
    let exports = exports.map_err(|error| refused(&error))?;
    Ok(Live { store, exports })
}

/// Makes the shim and then the guest, whose giving imports are the shim's.
async fn link(
    module: &Module,
    store: &mut Store<VmState>,
) -> wasmtime::Result<(Instance, Instance)> {
    let Imports { linker, shim, .. } = module.engine().imports();
    let shim = shim.instantiate_async(&mut *store).await?;
    let mut externs = Vec::new();
    for import in module.compiled().imports() {
        let given =
            if import.module() == ENV { shim.get_export(&mut *store, import.name()) } else { None };
        let found = given.or_else(|| linker.get_by_import(&mut *store, &import));
        // Every import was found when the module was loaded.
        externs.extend(found);
    }
    let guest = Instance::new_async(&mut *store, module.compiled(), &externs).await?;
    let allocator = guest.get_func(&mut *store, module.allocator());
    set_called(store, &shim, Called::Allocator, allocator)?;
    Ok((shim, guest))
}

/// A reactor is initialised, and then its `main` run; anything else is started as a command.
async fn initialise(guard: &mut Guard) -> Result<(), StartError> {
    let call = |name| Call { name, kind: Kind::Starting, stream: None };
    let fault = |callback| move |kind| StartError::Fault { callback, kind };
    let initialised = guard
        .call(|exports| exports.initialize.as_ref(), (), call("_initialize"))
        .await
        .map_err(fault("_initialize"))?;
    if initialised.is_none() {
        let started = guard.call(|exports| exports.start.as_ref(), (), call("_start")).await;
        return started.map(|_| ()).map_err(fault("_start"));
    }
    let main = guard
        .call(|exports| exports.main.as_ref(), (0, 0), call("main"))
        .await
        .map_err(fault("main"))?;
    if main.is_none() {
        let main = guard.call(|e| e.main_void.as_ref(), (), call("__main_void")).await;
        main.map_err(fault("__main_void"))?;
    }
    Ok(())
}

async fn configure(guard: &mut Guard, core: &Core) -> Result<(), StartError> {
    let create = Call { name: "proxy_on_context_create", kind: Kind::VmStart, stream: None };
    guard
        .call(|exports| exports.context_create.as_ref(), (ROOT, 0), create)
        .await
        .map_err(|kind| StartError::Fault { callback: "proxy_on_context_create", kind })?;
    let spec = &core.spec;
    let params = (ROOT, size(spec.vm_configuration.as_ref()));
    let call = Call { name: "proxy_on_vm_start", kind: Kind::VmStart, stream: None };
    let answer = guard.call(|exports| exports.vm_start.as_ref(), params, call).await;
    accepted("proxy_on_vm_start", answer)?;
    let params = (ROOT, size(spec.configuration.as_ref()));
    let call = Call { name: "proxy_on_configure", kind: Kind::Configure, stream: None };
    let answer = guard.call(|exports| exports.configure.as_ref(), params, call).await;
    accepted("proxy_on_configure", answer)
}

fn accepted(
    callback: &'static str,
    answer: Result<Option<u32>, FaultKind>,
) -> Result<(), StartError> {
    match answer {
        Ok(Some(0)) => Err(StartError::Refused { callback }),
        Ok(_) => Ok(()),
        Err(kind) => Err(StartError::Fault { callback, kind }),
    }
}

fn size(configuration: Option<&Bytes>) -> u32 {
    configuration.map_or(0, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// The pool is full, the module wants more than it may have, or its start section failed.
fn refused(error: &wasmtime::Error) -> StartError {
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return StartError::NoVm(format!("every slot of the engine is in use: {error}"));
    }
    if error.downcast_ref::<Halt>().is_some() || error.downcast_ref::<Trap>().is_some() {
        return StartError::Fault { callback: "(start)", kind: classify(error) };
    }
    StartError::NoVm(format!("{error:#}"))
}
