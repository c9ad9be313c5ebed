//! From an answer or a request to the bytes of its head.

use std::io::Write;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};

use crate::codec::{Refusal, date::date, hygiene, sending::Sending};

#[cfg(test)]
mod tests;

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It stays, as it does by itself on HTTP/1.1.
    Stays,
    /// It stays, and a client of HTTP/1.0 must be told so.
    StaysAsAsked,
    Closes,
    /// It becomes a WebSocket.
    Switches,
}

/// Writes the status line and the fields, those of this hop and `date` added.
pub(super) fn head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    sending: Sending,
    afterwards: Afterwards,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    // Without a body the length tells of another answer: that to GET, or the one not modified.
    let keeps_length = sending == Sending::Nothing && status != StatusCode::NO_CONTENT;
    for (name, value) in headers {
        let skipped = hygiene::is_connection_specific(name)
            || (!keeps_length && name == header::CONTENT_LENGTH);
        if !skipped {
            field(out, name, value);
        }
    }
    framing(out, sending);
    if !headers.contains_key(header::DATE) && !status.is_informational() {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&date());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(match afterwards {
        Afterwards::Stays => b"\r\n",
        Afterwards::StaysAsAsked => b"connection: keep-alive\r\n\r\n",
        Afterwards::Closes => b"connection: close\r\n\r\n",
        Afterwards::Switches => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    });
}

/// Writes a request's line and fields, those of this hop added. The target has no authority: that is
/// the `host`, if there is one.
pub(super) fn request_head<B>(
    out: &mut Vec<u8>,
    request: &Request<B>,
    sending: Sending,
    upgrade: bool,
) {
    let (uri, headers) = (request.uri(), request.headers());
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = uri.authority() {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(authority.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in headers {
        let skipped = hygiene::is_connection_specific(name)
            || name == header::CONTENT_LENGTH
            || name == header::TE
            || (name == header::HOST && uri.authority().is_some());
        if !skipped {
            field(out, name, value);
        }
    }
    framing(out, sending);
    out.extend_from_slice(match (upgrade, headers.contains_key(header::TE)) {
        (true, _) => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n".as_slice(),
        (false, true) => b"te: trailers\r\nconnection: te\r\n\r\n",
        (false, false) => b"\r\n",
    });
}

/// Writes a head of 1xx that comes before the answer.
pub(super) fn interim(out: &mut Vec<u8>, response: &Response<()>) {
    head(out, response.status(), response.headers(), Sending::Nothing, Afterwards::Stays);
}

/// Writes the whole answer to a request that was refused.
pub(super) fn refusal(out: &mut Vec<u8>, refusal: Refusal) {
    let text = refusal.name();
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let sending = Sending::Length(text.len() as u64);
    head(out, refusal.status(), &headers, sending, Afterwards::Closes);
    out.extend_from_slice(text.as_bytes());
}

/// Writes the line before a chunk's data.
pub(super) fn chunk_line(out: &mut Vec<u8>, length: usize) {
    write(out, format_args!("{length:x}\r\n"));
}

/// Writes the last chunk and the trailers, but for those that nobody may act on.
pub(super) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !hygiene::is_forbidden_trailer(name) {
            field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn framing(out: &mut Vec<u8>, sending: Sending) {
    match sending {
        Sending::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Sending::Open => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Sending::Nothing | Sending::UntilClose => {}
    }
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a number. Every answer has one, and the formatting machinery takes 300 instructions.
fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while first == digits.len() || number != 0 {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[first..]);
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}
