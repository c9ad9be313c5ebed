//! Buffers: bodies, configurations, a callout's answer.

use bytes::{Bytes, BytesMut};

use crate::{
    hostcalls::{Definitions, Guest, giving, hostcall},
    memory,
    state::{Kind, VmState},
    status::{Direction, Status},
};

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    giving!(imports, GetBuffer, get_buffer, (buffer, start, max; to_ptr, to_len;));
    hostcall!(imports, GetBufferStatus, get_buffer_status, (buffer: u32, to_len: u32, to_flags: u32));
    hostcall!(imports, SetBuffer, set_buffer,
        (buffer: u32, start: u32, size: u32, ptr: u32, len: u32));
    Ok(())
}

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const CALL_BODY: u32 = 4;
const VM_CONFIGURATION: u32 = 6;
const CONFIGURATION: u32 = 7;
const BUFFER_MAX: u32 = 8;

/// The bytes of a buffer; those of connections, gRPC and foreign calls are never there.
fn bytes_of(state: &VmState, buffer: u32) -> Result<Bytes, Status> {
    let configuration = |bytes: &Option<Bytes>| Ok(bytes.clone().unwrap_or_default());
    let body = |direction| {
        let context = state.here.as_ref().ok_or(Status::NotFound)?;
        Ok(context.state.lock().side(direction).window().clone())
    };
    match buffer {
        REQUEST_BODY => body(Direction::Request),
        RESPONSE_BODY => body(Direction::Response),
        CALL_BODY => state.answer.as_ref().map(|a| a.body.clone()).ok_or(Status::NotFound),
        VM_CONFIGURATION => configuration(&state.core.spec.vm_configuration),
        // Before the filter is configured it has the VM's configuration only.
        CONFIGURATION if state.callback.kind == Kind::Starting => Err(Status::NotFound),
        CONFIGURATION => configuration(&state.core.spec.configuration),
        buffer if buffer <= BUFFER_MAX => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}

fn get_buffer(guest: &mut Guest<'_>, buffer: u32, start: u32, max: u32) -> Result<Bytes, Status> {
    start.checked_add(max).ok_or(Status::BadArgument)?;
    let bytes = bytes_of(guest.state, buffer)?;
    let window = window(bytes.len(), start, max);
    Ok(bytes.slice(window))
}

/// What there is of `start..start + size`; past the end it is empty, at the end.
fn window(len: usize, start: u32, size: u32) -> std::ops::Range<usize> {
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(len);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    start..start.saturating_add(size).min(len)
}

fn get_buffer_status(
    guest: &mut Guest<'_>,
    buffer: u32,
    to_len: u32,
    to_flags: u32,
) -> Result<(), Status> {
    let len = bytes_of(guest.state, buffer)?.len();
    memory::write_u32(guest.memory, to_len, u32::try_from(len).unwrap_or(u32::MAX))?;
    memory::write_u32(guest.memory, to_flags, 0)
}

/// Replaces any window of a body: before its start inserts, past its end appends.
fn set_buffer(
    guest: &mut Guest<'_>,
    buffer: u32,
    start: u32,
    size: u32,
    ptr: u32,
    len: u32,
) -> Result<(), Status> {
    let direction = match buffer {
        REQUEST_BODY => Direction::Request,
        RESPONSE_BODY => Direction::Response,
        _ => return Err(Status::BadArgument),
    };
    let data = memory::read(guest.memory, ptr, len)?;
    let written = guest.state.here.as_ref().is_some_and(|context| {
        let mut stream = context.state.lock();
        let Some(body) = stream.side(direction).window_mut() else { return false };
        *body = splice(body, window(body.len(), start, size), data);
        true
    });
    if !written {
        guest.state.warn_once("a body was written that the filter does not hold: not done");
    }
    Ok(())
}

fn splice(body: &Bytes, window: std::ops::Range<usize>, data: &[u8]) -> Bytes {
    if window.len() == body.len() {
        return Bytes::copy_from_slice(data);
    }
    let mut spliced = BytesMut::with_capacity(body.len() - window.len() + data.len());
    spliced.extend_from_slice(&body[..window.start]);
    spliced.extend_from_slice(data);
    spliced.extend_from_slice(&body[window.end..]);
    spliced.freeze()
}
