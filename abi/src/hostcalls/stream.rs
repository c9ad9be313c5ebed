//! The course of a stream: continue, close, answer. All of it happens after the callback.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    context::{Context, Effect},
    headers::Headers,
    hostcalls::{Definitions, Guest, Import, giving, hostcall},
    hygiene::{self, MapKind, Write},
    memory,
    outcome::LocalReply,
    pairs::decode_pairs,
    state::{Kind, VmState},
    status::{Direction, Status},
};

/// The longest response code details, in bytes; the rest is cut.
const DETAILS_BYTES_MAX: u32 = 256;
/// The highest gRPC status.
const GRPC_STATUS_MAX: u32 = 16;

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    hostcall!(imports, ContinueStream, continue_stream, (stream: u32));
    hostcall!(imports, CloseStream, close_stream, (stream: u32));
    giving!(imports, GetStatus, get_status, (to_code; to_ptr, to_len;));
    hostcall!(imports, SendLocalResponse, send_local_response,
        (status: u32, details: u32, details_len: u32, body: u32, body_len: u32,
         headers: u32, headers_len: u32, grpc_status: i32));
    // Dispatching answers what SDKs take for "not sent"; the rest cannot be reached then.
    imports.refuse(Import::GrpcCall, 12, Status::InternalFailure)?;
    imports.refuse(Import::GrpcStream, 9, Status::InternalFailure)?;
    imports.refuse(Import::GrpcSend, 4, Status::NotFound)?;
    imports.refuse(Import::GrpcCancel, 1, Status::NotFound)?;
    imports.refuse(Import::GrpcClose, 1, Status::NotFound)
}

fn direction(stream: u32) -> Result<Direction, Status> {
    match stream {
        0 => Ok(Direction::Request),
        1 => Ok(Direction::Response),
        2 | 3 => Err(Status::Unimplemented),
        _ => Err(Status::BadArgument),
    }
}

/// The stream that the callback is about. Without one, or at its end, there is nothing to do.
fn target(state: &VmState) -> Option<Arc<Context>> {
    if state.here.is_none() || state.callback.kind == Kind::Ending {
        state.warn_once("a stream was continued, closed or answered without being there: not done");
        return None;
    }
    state.here.clone()
}

fn continue_stream(guest: &mut Guest<'_>, stream: u32) -> Result<(), Status> {
    let direction = direction(stream)?;
    if let Some(context) = target(guest.state) {
        guest.state.effects.push(Effect::Continue(context, direction));
    }
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, stream: u32) -> Result<(), Status> {
    direction(stream)?;
    if let Some(context) = target(guest.state) {
        guest.state.effects.push(Effect::Close(context));
    }
    Ok(())
}

/// The status of the gRPC call that is being delivered: there is none.
fn get_status(guest: &mut Guest<'_>, to_code: u32) -> Result<Bytes, Status> {
    memory::write_u32(guest.memory, to_code, 0)?;
    Ok(Bytes::new())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
fn send_local_response(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: i32,
) -> Result<(), Status> {
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let status = status.ok_or(Status::BadArgument)?;
    let details = memory::read(guest.memory, details, details_len.min(DETAILS_BYTES_MAX))?;
    let body = memory::read(guest.memory, body, body_len)?;
    let lines = memory::read(guest.memory, headers, headers_len)?;
    let lines = decode_pairs(lines).ok_or(Status::BadArgument)?;
    let Some(context) = target(guest.state) else { return Ok(()) };
    let reply = LocalReply {
        status,
        details: details_word(details),
        headers: reply_headers(guest.state, &lines),
        body: Bytes::copy_from_slice(body),
        grpc_status: u32::try_from(grpc_status).ok().filter(|code| *code <= GRPC_STATUS_MAX),
    };
    guest.state.effects.push(Effect::Reply(context, Box::new(reply)));
    Ok(())
}

/// Details are one word: they go into the access log.
fn details_word(details: &[u8]) -> String {
    let text = String::from_utf8_lossy(details);
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

fn reply_headers(state: &VmState, lines: &Headers) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in lines.iter() {
        let limits = &state.core.spec.limits;
        let written = hygiene::write(MapKind::Plain, &mut headers, Write::Add, name, value, limits);
        if let Err(complaint) = written {
            state.warn_once(complaint);
        }
    }
    headers
}
