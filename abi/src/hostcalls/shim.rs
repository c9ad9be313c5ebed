//! Giving data to a guest: the host promises, the guest's allocator runs, the host hands over; and
//! callbacks that are made in one go.

use bytes::Bytes;
use wasmtime::{Caller, Func, Instance, InstancePre, Linker, Module, Ref, Store};

use crate::{
    hostcalls::{Guest, Import, enter, with_guest},
    memory,
    state::VmState,
    status::Status,
};

/// Where the shim finds the host's side of its functions.
pub(super) const HOST: &str = "host";
/// The shim's table of what it calls of the guest.
const GUEST: &str = "guest";

/// The module that stands between the host and the guest in every VM: a few hundred bytes, to be
/// compiled as a filter's module is, and given to [`Engine::new`](crate::Engine::new).
pub const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.wasm"));

/// What is to be handed over once the guest has memory for it.
pub(crate) struct Promise {
    bytes: Bytes,
    to_ptr: u32,
    to_len: u32,
}

/// Links the compiled shim.
pub(super) fn link(
    linker: &mut Linker<VmState>,
    shim: &Module,
) -> wasmtime::Result<InstancePre<VmState>> {
    linker.func_wrap(HOST, "hand_over", hand_over)?;
    linker.instantiate_pre(shim)
}

/// What a VM's shim calls of its guest, by its index in the shim's table.
#[derive(Clone, Copy)]
pub(crate) enum Called {
    Allocator,
    ContextCreate,
    RequestHeaders,
    Log,
    Done,
    Delete,
}

/// Tells a VM's shim a function of the guest; `None` is absent or withheld.
pub(crate) fn set_called(
    store: &mut Store<VmState>,
    shim: &Instance,
    called: Called,
    function: Option<Func>,
) -> wasmtime::Result<()> {
    match shim.get_table(&mut *store, GUEST) {
        Some(table) => table.set(store, called as u64, Ref::Func(function)),
        None => Ok(()),
    }
}

/// The host's side of a giving function: how many bytes the guest must find room for, or, not
/// above zero, minus the status.
pub(super) fn promise(
    caller: &mut Caller<'_, VmState>,
    import: Import,
    (to_ptr, to_len): (u32, u32),
    body: impl FnOnce(&mut Guest<'_>) -> Result<Bytes, Status>,
) -> wasmtime::Result<i32> {
    if let Some(status) = enter(caller.data_mut(), import)? {
        return Ok(refusal(status));
    }
    let promised = with_guest(caller, |guest| {
        let bytes = body(guest)?;
        memory::write_u32(guest.memory, to_ptr, 0)?;
        memory::write_u32(guest.memory, to_len, 0)?;
        let wanted = i32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        if 0 < wanted {
            guest.state.promise = Some(Promise { bytes, to_ptr, to_len });
        }
        Ok(wanted)
    });
    Ok(promised.unwrap_or(Err(Status::InvalidMemoryAccess)).unwrap_or_else(refusal))
}

fn refusal(status: Status) -> i32 {
    -(status as u32).cast_signed()
}

/// The guest has allocated: the bytes are its own from here on.
fn hand_over(mut caller: Caller<'_, VmState>, ptr: u32) -> u32 {
    let handed = with_guest(&mut caller, |guest| {
        let promise = guest.state.promise.take().ok_or(Status::InternalFailure)?;
        if ptr == 0 {
            return Err(Status::InvalidMemoryAccess);
        }
        let len = u32::try_from(promise.bytes.len()).map_err(|_| Status::InternalFailure)?;
        memory::write(guest.memory, ptr, &promise.bytes)?;
        memory::write_u32(guest.memory, promise.to_ptr, ptr)?;
        memory::write_u32(guest.memory, promise.to_len, len)
    });
    match handed {
        Some(Ok(())) => Status::Ok as u32,
        Some(Err(status)) => status as u32,
        None => Status::InvalidMemoryAccess as u32,
    }
}
