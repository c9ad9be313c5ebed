//! Fields that concern this hop only, and fields that stand where they must not.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, Entry},
};

use super::{Framing, Refusal};
use crate::codec::Upgrade;

#[cfg(test)]
mod tests;

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Fields that `Connection` may not have removed: what frames, routes or authenticates.
static KEPT_FROM_CONNECTION: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
];

/// What a request said to this hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::codec) struct Hop {
    pub(in crate::codec) close: bool,
    pub(in crate::codec) keep_alive: bool,
    pub(in crate::codec) upgrade: Option<Upgrade>,
}

/// Reads and removes what an HTTP/1 request says to this hop; `te: trailers` stays.
pub(in crate::codec) fn take_hop(
    method: &Method,
    version: Version,
    framing: Framing,
    headers: &mut HeaderMap,
) -> Result<Hop, Refusal> {
    let mut hop = Hop::default();
    let mut asks_upgrade = false;
    let mut named = Vec::new();
    for token in headers.get_all(header::CONNECTION).iter().flat_map(tokens) {
        match token {
            _ if token.eq_ignore_ascii_case(b"close") => hop.close = true,
            _ if token.eq_ignore_ascii_case(b"keep-alive") => hop.keep_alive = true,
            _ if token.eq_ignore_ascii_case(b"upgrade") => asks_upgrade = true,
            _ => named.push(removable(token)?),
        }
    }
    if asks_upgrade && version == Version::HTTP_11 {
        hop.upgrade = websocket(method, framing, headers)?;
    }
    let trailers = headers.get_all(header::TE).iter().flat_map(tokens).any(is_trailers);
    named.extend(headers.keys().filter(|name| is_hop(name)).cloned());
    for name in named {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, TRAILERS);
    }
    Ok(hop)
}

/// Whether a field concerns this hop only.
fn is_hop(name: &HeaderName) -> bool {
    is_connection_specific(name) || matches!(name.as_str(), "http2-settings" | "te")
}

fn removable(token: &[u8]) -> Result<HeaderName, Refusal> {
    let name = HeaderName::from_bytes(token).map_err(|_| Refusal::FieldMalformed)?;
    if KEPT_FROM_CONNECTION.contains(&name) { Err(Refusal::ConnectionNamesField) } else { Ok(name) }
}

/// The WebSocket upgrade, if exactly that is asked for; any other protocol is ignored, as a server
/// may (RFC 9110, 7.8).
fn websocket(
    method: &Method,
    framing: Framing,
    headers: &HeaderMap,
) -> Result<Option<Upgrade>, Refusal> {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(None);
    };
    if !value.as_bytes().eq_ignore_ascii_case(b"websocket") || method != Method::GET {
        return Ok(None);
    }
    // What follows the head would be a body to one reader and the new protocol to another.
    if framing != Framing::None {
        return Err(Refusal::UpgradeWithBody);
    }
    Ok(Some(Upgrade::WebSocket))
}

/// Reads and removes `Expect`: whether the client waits for `100 Continue`.
pub(in crate::codec) fn expects_continue(
    version: Version,
    headers: &mut HeaderMap,
) -> Result<bool, Refusal> {
    let Entry::Occupied(entry) = headers.entry(header::EXPECT) else {
        return Ok(false);
    };
    let known = entry.iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    entry.remove_entry_mult();
    match known {
        true => Ok(version != Version::HTTP_10),
        false => Err(Refusal::ExpectUnsupported),
    }
}

/// Passes an HTTP/2 head that has no field of HTTP/1's connections.
pub(in crate::codec) fn refuse_connection_specific(headers: &HeaderMap) -> Result<(), Refusal> {
    let connection = headers.keys().any(is_connection_specific);
    let te = headers.get_all(header::TE).iter().any(|te| te != TRAILERS);
    if connection || te { Err(Refusal::ConnectionSpecificField) } else { Ok(()) }
}

/// Puts the pieces into which HTTP/2 clients cut their cookies back together (RFC 9113, 8.2.3).
pub(in crate::codec) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let joined = pieces.collect::<Vec<_>>().join(b"; ".as_slice());
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether a field belongs to one connection of HTTP/1 and never to a message that passes on.
pub(in crate::codec) fn is_connection_specific(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// Removes every field that belongs to one connection of HTTP/1. One look at what is there is
/// cheaper than a search for each of them.
pub fn remove_connection_specific(headers: &mut HeaderMap) {
    remove_where(headers, is_connection_specific);
}

fn remove_where(headers: &mut HeaderMap, is_gone: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<_> = headers.keys().filter(|name| is_gone(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Passes trailers that nobody could take for part of the head.
pub(in crate::codec) fn trailer_fields(trailers: &HeaderMap) -> Result<(), Refusal> {
    if trailers.keys().any(is_forbidden_trailer) {
        return Err(Refusal::TrailerForbidden);
    }
    trailers.keys().try_for_each(|name| super::field_name(name.as_str().as_bytes()))?;
    trailers.values().try_for_each(|value| super::field_value(value.as_bytes()))
}

/// Removes what only a head may say from an answer's trailers: nobody may act on it there.
pub(in crate::codec) fn remove_forbidden_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, is_forbidden_trailer);
}

/// Whether the peer closes the connection after this message.
pub(in crate::codec) fn says_close(headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(header::CONNECTION).iter().flat_map(tokens);
    options.any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Whether a field may only stand in the head.
pub(in crate::codec) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    FORBIDDEN_TRAILERS.contains(name) || is_connection_specific(name)
}

/// What frames, routes, authenticates, conditions or describes a message (RFC 9110, 6.5.1).
static FORBIDDEN_TRAILERS: [HeaderName; 27] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::VARY,
    header::WWW_AUTHENTICATE,
];

fn is_trailers(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"trailers")
}

/// The members of a comma-separated list; empty ones are skipped.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}
