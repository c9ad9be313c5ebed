//! Shared data; queues are not part of this host.

use bytes::Bytes;

use crate::{
    hostcalls::{Definitions, Guest, Import, giving, hostcall},
    memory,
    status::Status,
};

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, SetSharedData, set, (key: u32, key_len: u32, value: u32, value_len: u32, cas: u32));
    giving!(imports, GetSharedData, get, (key, key_len; to_ptr, to_len; to_cas));
    imports.refuse(Import::RegisterQueue, 3, Status::Unimplemented)?;
    imports.refuse(Import::ResolveQueue, 5, Status::NotFound)?;
    imports.refuse(Import::Enqueue, 3, Status::NotFound)?;
    imports.refuse(Import::Dequeue, 3, Status::NotFound)
}

fn get(guest: &mut Guest<'_>, key: u32, key_len: u32, to_cas: u32) -> Result<Bytes, Status> {
    let key = memory::read(guest.memory, key, key_len)?;
    let (value, cas) = guest.state.core.shared.get(key).ok_or(Status::NotFound)?;
    memory::write_u32(guest.memory, to_cas, cas)?;
    Ok(value)
}

/// No value at pointer 0 deletes the key, which is how SDKs spell it.
fn set(
    guest: &mut Guest<'_>,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
    cas: u32,
) -> Result<(), Status> {
    let key = memory::read(guest.memory, key, key_len)?;
    let bytes = memory::read(guest.memory, value, value_len)?;
    let value = (value != 0 || value_len != 0).then(|| Bytes::copy_from_slice(bytes));
    let core = &guest.state.core;
    let stored = core.shared.set(key, value, cas)?;
    if !stored {
        guest.state.warn_once("shared_data_bytes or shared_data_keys is reached: old entries go");
    }
    Ok(())
}
