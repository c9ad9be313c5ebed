//! The host functions: what a guest can ask for, and how each request is let in.
//!
//! Every function passes [`enter`]: it counts, and answers for the host while the guest may not
//! have what it asks for. Functions that give data to the guest need its allocator, so they stand
//! behind a shim (`shim.wat`). What a function does to a stream's course is only noted,
//! and happens after the callback has returned.

mod buffers;
mod callout;
mod headers;
mod import;
mod log;
mod metric;
mod property;
mod shared;
mod shim;
mod stream;
mod wasi;

use std::collections::HashMap;

use wasmtime::{Caller, Extern, FuncType, InstancePre, Linker, ValType, WasmTy};

pub(crate) use import::{Allowed, Import};
pub use shim::SHIM;
pub(crate) use shim::{Called, Promise, set_called};

use crate::{
    module::MEMORY,
    state::{Halt, Kind, VmState},
    status::Status,
};

/// The linker that every module is linked with, and the types that it expects.
pub(crate) struct Imports {
    pub(crate) linker: Linker<VmState>,
    pub(crate) types: HashMap<(String, String), FuncType>,
    /// What gives data to guests; each VM has an instance.
    pub(crate) shim: InstancePre<VmState>,
}

/// The imports while they are being defined.
struct Definitions {
    linker: Linker<VmState>,
    types: HashMap<(String, String), FuncType>,
}

/// A guest during a hostcall: its memory and its VM's state.
pub(crate) struct Guest<'a> {
    pub(crate) memory: &'a mut [u8],
    pub(crate) state: &'a mut VmState,
}

/// Defines a host function of the ABI that answers a status.
macro_rules! hostcall {
    ($imports:expr, $import:ident, $body:path, ($($arg:ident: $ty:ty),*)) => {
        $imports.describe(crate::hostcalls::Import::$import, vec![$(crate::hostcalls::wire::<$ty>()),*]);
        $imports.linker.func_wrap(
            crate::hostcalls::ENV,
            crate::hostcalls::Import::$import.name(),
            |mut caller: wasmtime::Caller<'_, crate::state::VmState>, $($arg: $ty),*| {
                crate::hostcalls::answer(&mut caller, crate::hostcalls::Import::$import, |guest| {
                    $body(guest, $($arg),*)
                })
            },
        )?;
    };
}

/// Defines the host's side of a function of the ABI that gives bytes to the guest. Between the
/// semicolons stand the two arguments that say where the pointer and the length go.
macro_rules! giving {
    ($imports:expr, $import:ident, $body:path,
     ($($arg:ident),*; $to_ptr:ident, $to_len:ident; $($after:ident),*)) => {
        $imports.describe(
            crate::hostcalls::Import::$import,
            [$(stringify!($arg),)* "", "", $(stringify!($after),)*]
                .map(|_| wasmtime::ValType::I32)
                .to_vec(),
        );
        $imports.linker.func_wrap(
            crate::hostcalls::shim::HOST,
            crate::hostcalls::Import::$import.name(),
            |mut caller: wasmtime::Caller<'_, crate::state::VmState>,
             $($arg: u32,)* $to_ptr: u32, $to_len: u32 $(, $after: u32)*| {
                crate::hostcalls::shim::promise(
                    &mut caller,
                    crate::hostcalls::Import::$import,
                    ($to_ptr, $to_len),
                    |guest| $body(guest, $($arg,)* $($after,)*),
                )
            },
        )?;
    };
}

pub(crate) use giving;
pub(crate) use hostcall;

pub(crate) const ENV: &str = "env";

/// Links every function of the ABI and of WASI.
pub(crate) fn link(
    engine: &wasmtime::Engine,
    shim: &wasmtime::Module,
) -> wasmtime::Result<Imports> {
    let mut imports = Definitions { linker: Linker::new(engine), types: HashMap::new() };
    log::link(&mut imports)?;
    buffers::link(&mut imports)?;
    headers::link(&mut imports)?;
    stream::link(&mut imports)?;
    callout::link(&mut imports)?;
    shared::link(&mut imports)?;
    metric::link(&mut imports)?;
    property::link(&mut imports)?;
    wasi::link(&mut imports)?;
    let Definitions { mut linker, types } = imports;
    let shim = shim::link(&mut linker, shim)?;
    Ok(Imports { linker, types, shim })
}

impl Definitions {
    fn describe(&mut self, import: Import, params: Vec<ValType>) {
        self.describe_as(ENV, import.name(), params, vec![ValType::I32]);
    }

    fn describe_as(
        &mut self,
        module: &str,
        name: &str,
        params: Vec<ValType>,
        results: Vec<ValType>,
    ) {
        let ty = FuncType::new(self.linker.engine(), params, results);
        self.types.insert((module.to_owned(), name.to_owned()), ty);
    }

    /// A function of the ABI that this host does not have: it answers the same whatever it is
    /// given.
    fn refuse(&mut self, import: Import, params: usize, status: Status) -> wasmtime::Result<()> {
        self.describe(import, vec![ValType::I32; params]);
        let ty =
            FuncType::new(self.linker.engine(), vec![ValType::I32; params], vec![ValType::I32]);
        self.linker.func_new(ENV, import.name(), ty, move |mut caller, _, results| {
            let refused = answer(&mut caller, import, |_| Err(status))?;
            results[0] = wasmtime::Val::I32(refused.cast_signed());
            Ok(())
        })?;
        Ok(())
    }
}

fn wire<T: WasmTy + Wire>() -> ValType {
    T::TYPE
}

/// How an argument crosses the border.
trait Wire {
    const TYPE: ValType;
}

impl Wire for u32 {
    const TYPE: ValType = ValType::I32;
}

impl Wire for i32 {
    const TYPE: ValType = ValType::I32;
}

impl Wire for i64 {
    const TYPE: ValType = ValType::I64;
}

/// Lets a hostcall in, or says what it is answered instead.
///
/// # Errors
///
/// The guest ends: too many hostcalls, or one from its allocator that would enter it again.
pub(crate) fn enter(state: &mut VmState, import: Import) -> wasmtime::Result<Option<Status>> {
    if state.hostcalls_left == 0 {
        return Err(Halt::Hostcalls(state.core.spec.limits.hostcalls_per_callback).into());
    }
    state.hostcalls_left -= 1;
    if state.promise.is_some() && !import.allowed_in_allocator() {
        return Err(Halt::InAllocator(import.name()).into());
    }
    let early = state.callback.kind == Kind::Starting && !import.allowed_at_start();
    if early || !state.core.allowed.has(import) {
        state.warn_once(import.restricted());
        return Ok(Some(Status::InternalFailure));
    }
    Ok(None)
}

fn answer(
    caller: &mut Caller<'_, VmState>,
    import: Import,
    body: impl FnOnce(&mut Guest<'_>) -> Result<(), Status>,
) -> wasmtime::Result<u32> {
    if let Some(status) = enter(caller.data_mut(), import)? {
        return Ok(status as u32);
    }
    let status = match with_guest(caller, body) {
        Some(Ok(())) => Status::Ok,
        Some(Err(status)) => status,
        None => Status::InvalidMemoryAccess,
    };
    Ok(status as u32)
}

/// The guest's memory and state together; `None` before it has a memory.
pub(crate) fn with_guest<R>(
    caller: &mut Caller<'_, VmState>,
    body: impl FnOnce(&mut Guest<'_>) -> R,
) -> Option<R> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // A module's start function runs before the instance is there.
        None => caller.get_export(MEMORY).and_then(Extern::into_memory)?,
    };
    let (memory, state) = memory.data_and_store_mut(caller);
    Some(body(&mut Guest { memory, state }))
}
