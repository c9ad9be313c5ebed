//! Heads between the `http` crate's form and the guests' ordered list with pseudo-headers.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri, request, response};
use waypoint_abi::Headers;

use crate::codec::hygiene::{self, EncodedSlashes, normalise_path};

/// Whether a message is gRPC (but not gRPC-Web, which is left as it is).
///
/// # Source
///
/// grpc/doc/PROTOCOL-HTTP2.md: `application/grpc`, optionally `+proto` or `;…`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    value
        .as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

pub(super) fn request_head(parts: &request::Parts) -> Headers {
    let mut head = Headers::with_capacity(parts.headers.len() + 4);
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let authority = parts.uri.authority().map_or("", Authority::as_str);
    head.push(":authority", Bytes::copy_from_slice(authority.as_bytes()));
    head.push(":path", Bytes::copy_from_slice(path.as_bytes()));
    head.push(":method", Bytes::copy_from_slice(parts.method.as_str().as_bytes()));
    head.push(
        ":scheme",
        Bytes::copy_from_slice(parts.uri.scheme_str().unwrap_or("http").as_bytes()),
    );
    push_fields(&mut head, &parts.headers);
    head
}

pub(super) fn response_head(parts: &response::Parts) -> Headers {
    let mut head = Headers::with_capacity(parts.headers.len() + 1);
    head.push(":status", Bytes::copy_from_slice(parts.status.as_str().as_bytes()));
    push_fields(&mut head, &parts.headers);
    head
}

pub(super) fn trailers(map: &HeaderMap) -> Headers {
    let mut list = Headers::with_capacity(map.len());
    push_fields(&mut list, map);
    list
}

fn push_fields(head: &mut Headers, map: &HeaderMap) {
    for (name, value) in map {
        head.push(
            Bytes::copy_from_slice(name.as_str().as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        );
    }
}

/// Sets a request's head to what a filter made of it. What a filter removed or broke of the
/// pseudo-headers keeps its former value: a request without them cannot be framed.
///
/// The path goes through the codec's normalisation again, so that policy and upstream keep seeing
/// one path; a path that it refuses is not taken over.
pub(super) fn apply_request(head: &Headers, parts: &mut request::Parts) {
    if let Some(method) = pseudo(head, ":method").and_then(|value| Method::from_bytes(value).ok())
        && method != Method::CONNECT
    {
        parts.method = method;
    }
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    if let Some(path) = pseudo(head, ":path").and_then(normalised_target) {
        uri.path_and_query = Some(path);
    }
    if let Some(authority) = pseudo(head, ":authority").and_then(plain_authority) {
        uri.authority = Some(authority);
    }
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.headers = header_map(head);
}

/// Sets a response's head to what a filter made of it; an unusable status keeps its former value.
pub(super) fn apply_response(head: &Headers, parts: &mut response::Parts) {
    let status = pseudo(head, ":status").and_then(|value| StatusCode::from_bytes(value).ok());
    if let Some(status) = status.filter(|status| (200..600).contains(&status.as_u16())) {
        parts.status = status;
    }
    parts.headers = header_map(head);
}

fn pseudo<'a>(head: &'a Headers, name: &str) -> Option<&'a [u8]> {
    head.get(name).map(|value| value.as_ref()).filter(|value| !value.is_empty())
}

fn normalised_target(value: &[u8]) -> Option<PathAndQuery> {
    let text = std::str::from_utf8(value).ok()?;
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let mut target = normalise_path(path, EncodedSlashes::default()).ok()?.into_owned();
    if let Some(query) = query {
        let _ = write!(target, "?{query}");
    }
    PathAndQuery::try_from(target).ok()
}

/// An authority as the codec would have let it in.
fn plain_authority(value: &[u8]) -> Option<Authority> {
    Authority::try_from(hygiene::authority(value).ok()?.as_bytes()).ok()
}

/// The fields of a list, without pseudo-headers and what only the codecs may write.
pub fn header_map(list: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(list.len());
    for (name, value) in list.iter() {
        if name.starts_with(b":") || is_framing(name) {
            continue;
        }
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value.clone()))
        else {
            continue;
        };
        map.append(name, value);
    }
    map
}

/// Fields that describe a connection: a filter cannot set them (a filter that wrote
/// `transfer-encoding` could smuggle bytes into the next request).
fn is_framing(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"connection",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ];
    NAMES.iter().any(|framing| name.eq_ignore_ascii_case(framing))
}
