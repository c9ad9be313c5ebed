//! What a guest writes into a header map, made fit for the wire.
//!
//! A refusal would end most guests (SDKs know only "OK" here), so what cannot be sent is escaped
//! or left out, with a warning: bytes that end a line or a field become `%0d` and the like, a
//! name that is no name is dropped, a map does not grow past its bounds, and pseudo-headers stay
//! what they must be.
//!
//! # Source
//!
//! RFC 9110 sections 5.1 and 5.5 (field names and values), RFC 9113 section 8.3 (pseudo-headers).

use bytes::Bytes;

use crate::{headers::Headers, limits::Limits};

/// Which map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    Request,
    Response,
    /// Trailers, and the header lines of a local reply: no pseudo-headers.
    Plain,
}

/// What was not done as the guest asked; each is also the text of the warning.
pub(crate) type Complaint = &'static str;

const ESCAPED: Complaint = "a header had bytes that cannot be sent: escaped";
const NO_NAME: Complaint = "a header without a name: dropped";
const FRAMING: Complaint = "a header that frames the message is the host's to set: dropped";
const PSEUDO: Complaint =
    "a pseudo-header that cannot stand here, or not with this value: not done";
const TOO_MANY: Complaint = "headers_max or header_bytes_max is reached: not done";

/// Set by whoever frames the message, never by a guest.
const FRAMING_NAMES: [&str; 3] = ["connection", "transfer-encoding", "keep-alive"];

/// How a name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Add,
    Replace,
}

/// The name as the maps have it: lower case, `host` of a request as `:authority`.
pub(crate) fn name_of(kind: MapKind, name: &[u8]) -> Vec<u8> {
    let name = name.to_ascii_lowercase();
    if kind == MapKind::Request && name == b"host" { b":authority".to_vec() } else { name }
}

/// Writes one line.
pub(crate) fn write(
    kind: MapKind,
    headers: &mut Headers,
    write: Write,
    name: &[u8],
    value: &[u8],
    limits: &Limits,
) -> Result<(), Complaint> {
    let name = name_of(kind, name);
    if name.starts_with(b":") {
        return write_pseudo(kind, headers, name, value);
    }
    let (name, value, escaped) = clean(&name, value)?;
    let grows =
        write == Write::Add || std::str::from_utf8(&name).is_ok_and(|n| headers.get(n).is_none());
    let bytes = headers.wire_bytes() + name.len() + value.len() + Headers::LINE_OVERHEAD_BYTES;
    if (grows && limits.headers_max <= headers.len()) || limits.header_bytes_max < bytes {
        return Err(TOO_MANY);
    }
    match write {
        Write::Add => headers.push(name, value),
        Write::Replace => headers.replace(name, value),
    }
    if escaped { Err(ESCAPED) } else { Ok(()) }
}

/// Removes every line of a name.
pub(crate) fn remove(kind: MapKind, headers: &mut Headers, name: &[u8]) -> Result<(), Complaint> {
    let name = name_of(kind, name);
    if name.starts_with(b":") {
        return Err(PSEUDO);
    }
    if let Ok(name) = std::str::from_utf8(&name) {
        headers.remove(name);
    }
    Ok(())
}

/// Replaces a whole map; pseudo-headers that are missing or wrong stay as they were.
pub(crate) fn set(
    kind: MapKind,
    headers: &mut Headers,
    lines: &Headers,
    limits: &Limits,
) -> Result<(), Complaint> {
    let mut fresh: Headers = headers
        .iter()
        .filter(|(name, _)| name.starts_with(b":"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut complaint = Ok(());
    for (name, value) in lines.iter() {
        match write(kind, &mut fresh, Write::Add, name, value, limits) {
            Err(TOO_MANY) => return Err(TOO_MANY),
            Err(other) => complaint = Err(other),
            Ok(()) => {}
        }
    }
    *headers = fresh;
    complaint
}

fn clean(name: &[u8], value: &[u8]) -> Result<(Bytes, Bytes, bool), Complaint> {
    if name.is_empty() {
        return Err(NO_NAME);
    }
    let (name, name_escaped) = escape(name, is_token);
    if FRAMING_NAMES.iter().any(|framing| framing.as_bytes() == name) {
        return Err(FRAMING);
    }
    let (value, value_escaped) = escape(value.trim_ascii(), is_field);
    Ok((name, value, name_escaped || value_escaped))
}

fn escape(bytes: &[u8], fits: fn(u8) -> bool) -> (Bytes, bool) {
    if bytes.iter().all(|byte| fits(*byte)) {
        return (Bytes::copy_from_slice(bytes), false);
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 8);
    for byte in bytes {
        if fits(*byte) {
            escaped.push(*byte);
        } else {
            escaped.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    (escaped.into(), true)
}

fn hex(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 15)]
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_field(byte: u8) -> bool {
    byte == b'\t' || (0x20 <= byte && byte != 0x7f)
}

fn write_pseudo(
    kind: MapKind,
    headers: &mut Headers,
    name: Vec<u8>,
    value: &[u8],
) -> Result<(), Complaint> {
    let fits = match (kind, name.as_slice()) {
        (MapKind::Request, b":method") => !value.is_empty() && value.iter().all(|b| is_token(*b)),
        (MapKind::Request, b":path") => {
            value == b"*" || (value.starts_with(b"/") && value.iter().all(|b| is_target(*b)))
        }
        (MapKind::Request, b":authority") => {
            !value.is_empty() && value.iter().all(|b| is_authority(*b))
        }
        (MapKind::Request, b":scheme") => value == b"http" || value == b"https",
        (MapKind::Response, b":status") => is_status(value),
        _ => false,
    };
    if !fits {
        return Err(PSEUDO);
    }
    let known = std::str::from_utf8(&name).is_ok_and(|name| headers.get(name).is_some());
    let value = Bytes::copy_from_slice(value);
    if known {
        headers.replace(name, value);
        return Ok(());
    }
    // Pseudo-headers stand first.
    let rest = std::mem::take(headers);
    headers.push(name, value);
    rest.iter().for_each(|(name, value)| headers.push(name.clone(), value.clone()));
    Ok(())
}

fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// A final status; 1xx answers are not a filter's to make.
fn is_status(value: &[u8]) -> bool {
    let code = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u16>().ok());
    value.len() == 3 && code.is_some_and(|code| (200..=599).contains(&code))
}

#[cfg(test)]
mod tests;
