//! Heads between the `http` crate's form and the guests' ordered list with pseudo-headers.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, response};
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

pub(super) fn request_head<B>(request: &Request<B>) -> Headers {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let authority = request.uri().authority().map_or("", Authority::as_str);
    let pseudo = [
        (":authority", authority),
        (":path", path),
        (":method", request.method().as_str()),
        (":scheme", request.uri().scheme_str().unwrap_or("http")),
    ];
    list(&pseudo, request.headers())
}

pub(super) fn response_head(parts: &response::Parts) -> Headers {
    list(&[(":status", parts.status.as_str())], &parts.headers)
}

pub(super) fn trailers(map: &HeaderMap) -> Headers {
    list(&[], map)
}

/// Pseudo-headers and fields as one list, whose lines share one allocation.
fn list(pseudo: &[(&str, &str)], map: &HeaderMap) -> Headers {
    let lines = || {
        let fields = map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        pseudo.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).chain(fields)
    };
    let bytes = lines().map(|(name, value)| name.len() + value.len()).sum();
    let mut text = BytesMut::with_capacity(bytes);
    for (name, value) in lines() {
        text.extend_from_slice(name);
        text.extend_from_slice(value);
    }
    let mut text = text.freeze();
    let mut cut = |part: &[u8]| text.split_to(part.len());
    lines().map(|(name, value)| (cut(name), cut(value))).collect()
}

/// Sets a request's head, which was `before`, to what the filters made of it. What they removed or
/// broke of the pseudo-headers keeps its former value: a request without them cannot be framed.
///
/// The path goes through the codec's normalisation again, so that policy and upstream keep seeing
/// one path; a path that it refuses is not taken over.
pub(super) fn apply_request<B>(before: &Headers, after: &Headers, request: &mut Request<B>) {
    let new = |name: &str| pseudo(after, name).filter(|value| before.get(name) != Some(value));
    if let Some(method) = new(":method").and_then(|value| Method::from_bytes(value).ok())
        && method != Method::CONNECT
    {
        *request.method_mut() = method;
    }
    let path = new(":path").and_then(|value| normalised_target(value));
    let authority = new(":authority").and_then(|value| plain_authority(value));
    if path.is_some() || authority.is_some() {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.path_and_query = path.or(uri.path_and_query);
        uri.authority = authority.or(uri.authority);
        uri.scheme.get_or_insert(Scheme::HTTP);
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    }
    apply_fields(before, after, request.headers_mut());
}

/// Sets a response's head, which was `before`, to what the filters made of it; an unusable status
/// keeps its former value.
pub(super) fn apply_response(before: &Headers, after: &Headers, parts: &mut response::Parts) {
    let status = pseudo(after, ":status").and_then(|value| StatusCode::from_bytes(value).ok());
    if let Some(status) = status.filter(|status| (200..600).contains(&status.as_u16())) {
        parts.status = status;
    }
    apply_fields(before, after, &mut parts.headers);
}

/// Sets the fields whose values are not those of `before`: most of a head stays as it was.
fn apply_fields(before: &Headers, after: &Headers, map: &mut HeaderMap) {
    for name in changed(before, after) {
        let Some(name) = field_name(name) else { continue };
        map.remove(&name);
        for value in after.get_all(name.as_str()) {
            if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
                map.append(name.clone(), value);
            }
        }
    }
}

/// The names of which one list has other values than the other, or in another order; a name may be
/// given twice. One walk, for guests leave the order of what they do not touch.
fn changed<'a>(before: &'a Headers, after: &'a Headers) -> Vec<&'a Bytes> {
    let mut names = Vec::new();
    let mut old = before.iter().peekable();
    for (name, value) in after.iter() {
        while let Some((removed, _)) = old.next_if(|(old, _)| *old != name) {
            names.push(removed);
        }
        if old.next().is_none_or(|(_, old)| old != value) {
            names.push(name);
        }
    }
    names.extend(old.map(|(name, _)| name));
    names
}

fn pseudo<'a>(head: &'a Headers, name: &str) -> Option<&'a Bytes> {
    head.get(name).filter(|value| !value.is_empty())
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
        let value = HeaderValue::from_maybe_shared(value.clone());
        if let (Some(name), Ok(value)) = (field_name(name), value) {
            map.append(name, value);
        }
    }
    map
}

/// A name that a filter may set; `None` for pseudo-headers and what only the codecs may write.
fn field_name(name: &[u8]) -> Option<HeaderName> {
    if name.starts_with(b":") || is_framing(name) {
        return None;
    }
    HeaderName::from_bytes(name).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(lines: &[(&'static str, &'static str)]) -> Headers {
        lines.iter().copied().collect()
    }

    #[test]
    fn the_fields_become_those_that_the_filters_left_whatever_they_changed() {
        let before = [(":path", "/"), ("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")];
        let before = list_of(&before);
        let after: [&[(&str, &str)]; 9] = [
            &[(":path", "/"), ("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")],
            &[(":path", "/x"), ("a", "1"), ("b", "2"), ("a", "2"), ("c", "1")],
            &[(":path", "/"), ("b", "1"), ("c", "1")],
            &[(":path", "/"), ("a", "1"), ("b", "1"), ("c", "1")],
            &[(":path", "/"), ("a", "2"), ("b", "1"), ("a", "1"), ("c", "1")],
            &[
                (":path", "/"),
                ("a", "1"),
                ("b", "1"),
                ("a", "2"),
                ("c", "1"),
                ("b", "0"),
                ("d", "1"),
            ],
            &[("d", "1"), (":path", "/"), ("c", "1"), ("a", "2"), ("b", "1"), ("a", "1")],
            &[("x", "1"), ("transfer-encoding", "chunked"), ("bad name", "1")],
            &[],
        ];
        for after in after {
            let after = list_of(after);
            let mut map = header_map(&before);
            apply_fields(&before, &after, &mut map);
            assert_eq!(map, header_map(&after), "{after:?}");
        }
    }
}
