//! Properties and foreign functions.
//!
//! What headers tell is answered here; the rest is the embedder's ([`Attributes`]); what the
//! guest has set itself comes last, so that it cannot hide the truth from another callback.
//!
//! # Source
//!
//! Envoy's attributes; `wasm.<path>` is where its filters find what they have set.
//!
//! [`Attributes`]: crate::Attributes

use bytes::Bytes;

use crate::{
    core::Readiness,
    flow::Side,
    headers::Headers,
    hostcalls::{Definitions, Guest, giving, hostcall},
    memory,
    pairs::encode_pairs,
    state::VmState,
    status::Status,
};

/// The most words of a property's path; a longer path is not found.
const PATH_WORDS_MAX: usize = 32;
/// The longest answer of a foreign function that a guest gets, in bytes.
const FOREIGN_ANSWER_BYTES_MAX: usize = 1 << 20;

pub(super) fn link(imports: &mut Definitions) -> wasmtime::Result<()> {
    giving!(imports, GetProperty, get, (path, path_len; to_ptr, to_len;));
    hostcall!(imports, SetProperty, set, (path: u32, path_len: u32, value: u32, value_len: u32));
    giving!(imports, Foreign, foreign, (name, name_len, arguments, arguments_len; to_ptr, to_len;));
    Ok(())
}

fn get(guest: &mut Guest<'_>, path: u32, path_len: u32) -> Result<Bytes, Status> {
    let path = memory::read(guest.memory, path, path_len)?;
    // Some SDKs end the path with a zero byte.
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let text = std::str::from_utf8(path).map_err(|_| Status::NotFound)?;
    let words: Vec<&str> = text.split('\0').take(PATH_WORDS_MAX + 1).collect();
    if PATH_WORDS_MAX < words.len() {
        return Err(Status::NotFound);
    }
    known(guest.state, &words).or_else(|| own(guest.state, path)).ok_or(Status::NotFound)
}

/// What the guest has set, with or without `wasm` before it.
fn own(state: &VmState, path: &[u8]) -> Option<Bytes> {
    let path = path.strip_prefix(b"wasm\0").or(path.strip_prefix(b"wasm.")).unwrap_or(path);
    state.here.as_ref()?.state.lock().property(path)
}

fn known(state: &VmState, words: &[&str]) -> Option<Bytes> {
    let spec = &state.core.spec;
    match words {
        ["plugin_name"] => return Some(Bytes::copy_from_slice(spec.name.as_bytes())),
        ["plugin_root_id"] => return Some(Bytes::copy_from_slice(spec.root_id.as_bytes())),
        ["plugin_vm_id"] => return Some(Bytes::copy_from_slice(spec.owner.as_bytes())),
        ["wasm", ..] => return None,
        _ => {}
    }
    let context = state.here.as_ref()?;
    let told = match words {
        ["request", rest @ ..] => request(&context.state.lock().request, rest),
        ["response", rest @ ..] => response(&context.state.lock().response, rest),
        _ => None,
    };
    told.or_else(|| context.attributes.get(words).map(Bytes::from))
}

fn request(side: &Side, words: &[&str]) -> Option<Bytes> {
    let headers = side.head()?;
    let path = || headers.get(":path").cloned();
    match words {
        ["path"] => path(),
        ["url_path"] => path().map(|path| split_query(&path).0),
        ["query"] => path().map(|path| split_query(&path).1),
        ["host"] => headers.get(":authority").cloned(),
        ["scheme"] => headers.get(":scheme").cloned(),
        ["method"] => headers.get(":method").cloned(),
        ["referer"] => headers.get("referer").cloned(),
        ["useragent"] => headers.get("user-agent").cloned(),
        ["id"] => headers.get("x-request-id").cloned(),
        ["headers_bytes"] => Some(integer(headers.wire_bytes())),
        ["headers"] => Some(encode_pairs(headers)),
        ["headers", name] => header(headers, name),
        _ => None,
    }
}

fn response(side: &Side, words: &[&str]) -> Option<Bytes> {
    let headers = side.head()?;
    match words {
        ["code"] => {
            let code = std::str::from_utf8(headers.get(":status")?).ok()?.parse().ok()?;
            Some(integer(code))
        }
        ["grpc_status"] => {
            let in_trailers = side.trailers().and_then(|trailers| trailers.get("grpc-status"));
            let text = in_trailers.or_else(|| headers.get("grpc-status"))?;
            Some(integer(std::str::from_utf8(text).ok()?.parse().ok()?))
        }
        ["headers"] => Some(encode_pairs(headers)),
        ["headers", name] => header(headers, name),
        ["trailers"] => Some(encode_pairs(side.trailers()?)),
        ["trailers", name] => header(side.trailers()?, name),
        _ => None,
    }
}

/// Repeated lines joined, as attributes have it.
fn header(headers: &Headers, name: &str) -> Option<Bytes> {
    let name = name.to_ascii_lowercase();
    let mut values = headers.get_all(&name);
    let first = values.next()?.clone();
    let rest: Vec<&Bytes> = values.collect();
    if rest.is_empty() {
        return Some(first);
    }
    let all = std::iter::once(&first).chain(rest).map(AsRef::as_ref).collect::<Vec<&[u8]>>();
    Some(all.join(&b","[..]).into())
}

fn split_query(path: &Bytes) -> (Bytes, Bytes) {
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (path.slice(..at), path.slice(at + 1..)),
        None => (path.clone(), Bytes::new()),
    }
}

fn integer(value: usize) -> Bytes {
    Bytes::copy_from_slice(&i64::try_from(value).unwrap_or(i64::MAX).to_le_bytes())
}

fn set(
    guest: &mut Guest<'_>,
    path: u32,
    path_len: u32,
    value: u32,
    value_len: u32,
) -> Result<(), Status> {
    let path = memory::read(guest.memory, path, path_len)?;
    let value = memory::read(guest.memory, value, value_len)?;
    let context = guest.state.here.as_ref().ok_or(Status::NotFound)?;
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let stored = context.state.lock().set_property(path, Bytes::copy_from_slice(value));
    if !stored {
        guest.state.warn_once("a stream's properties are full: not set");
    }
    Ok(())
}

fn foreign(
    guest: &mut Guest<'_>,
    name: u32,
    name_len: u32,
    arguments: u32,
    arguments_len: u32,
) -> Result<Bytes, Status> {
    let name = memory::read(guest.memory, name, name_len)?;
    let arguments = memory::read(guest.memory, arguments, arguments_len)?;
    match name {
        b"clear_route_cache" => clear_route(guest.state),
        b"waypoint_ready" => say_ready(guest.state, arguments),
        _ => {
            let core = &guest.state.core;
            let name = std::str::from_utf8(name).map_err(|_| Status::NotFound)?;
            let answer = core.host.foreign(&core.spec, name, arguments);
            let answer = answer.ok_or(Status::NotFound)??;
            if FOREIGN_ANSWER_BYTES_MAX < answer.len() {
                return Err(Status::InternalFailure);
            }
            Ok(answer.into())
        }
    }
}

fn clear_route(state: &VmState) -> Result<Bytes, Status> {
    match &state.here {
        Some(context) => context.state.lock().clear_route = true,
        None => state.warn_once("clear_route_cache was called without a stream: not done"),
    }
    Ok(Bytes::new())
}

fn say_ready(state: &VmState, arguments: &[u8]) -> Result<Bytes, Status> {
    let said = match arguments {
        [0] => Readiness::Waiting,
        [1] => Readiness::Ready,
        _ => return Err(Status::BadArgument),
    };
    state.core.ready.send_if_modified(|now| {
        let news = *now != Readiness::Ready && *now != said;
        if news {
            *now = said;
        }
        news
    });
    Ok(Bytes::new())
}
