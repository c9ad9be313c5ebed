//! Request heads as an endpoint must get them, response heads as downstream may get them.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body::Body as _;

use super::{Protocol, UpstreamError};
use crate::codec::body::Body;
use crate::codec::{Upgrade, remove_connection_specific};

/// Writes the request's head for the endpoint's protocol; says whether it asks for a WebSocket.
pub(super) fn prepare(
    request: &mut Request<Body>,
    protocol: Protocol,
) -> Result<bool, UpstreamError> {
    let upgrade = matches!(request.extensions().get(), Some(Upgrade::WebSocket));
    // The codec removed the caller's; a filter may have set them again.
    remove_connection_specific(request.headers_mut());
    match protocol {
        Protocol::Http1 => prepare_http1(request, upgrade)?,
        Protocol::Http2 if upgrade => return Err(UpstreamError::UpgradeUnsupported),
        Protocol::Http2 => prepare_http2(request)?,
    }
    Ok(upgrade)
}

/// Origin form and `host`, the body's framing, and what this hop says to the next.
fn prepare_http1(request: &mut Request<Body>, upgrade: bool) -> Result<(), UpstreamError> {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| NO_AUTHORITY)?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(path(request.uri()));
    } else if !request.headers().contains_key(HOST) {
        return Err(NO_AUTHORITY);
    }
    declare_length(request);
    let headers = request.headers_mut();
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if headers.contains_key(TE) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        // hyper would send a GET's body of unknown length as none.
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
    Ok(())
}

/// Absolute form without `host`; gRPC asks for trailers.
fn prepare_http2(request: &mut Request<Body>) -> Result<(), UpstreamError> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => host.as_bytes().try_into().map_err(|_| NO_AUTHORITY)?,
        (None, None) => return Err(NO_AUTHORITY),
    };
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority);
    let uri = uri.path_and_query(path(request.uri())).build();
    *request.uri_mut() =
        uri.map_err(|_| UpstreamError::InvalidRequest { reason: "the target is no URI" })?;
    declare_length(request);
    let headers = request.headers_mut();
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc || headers.contains_key(TE) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

const NO_AUTHORITY: UpstreamError =
    UpstreamError::InvalidRequest { reason: "the authority is missing or no header value" };

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// `content-length` says what the body is now: a filter may have changed it.
fn declare_length(request: &mut Request<Body>) {
    let body = request.body();
    let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    let declared = request.headers().get(CONTENT_LENGTH).map(parse_length);
    let expects_body = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    );
    match (length, declared) {
        (Some(length), Some(Some(declared))) if length == declared => {}
        (Some(0), None) if !expects_body => {}
        (Some(length), _) => {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        (None, Some(_)) => {
            request.headers_mut().remove(CONTENT_LENGTH);
        }
        (None, None) => {}
    }
}

/// A request without a body as it was before it was sent, for a second try.
pub(super) fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Removes what concerned the hop to the endpoint only.
///
/// # Errors
///
/// Framing that a second reader could read another way: a transfer coding besides chunked,
/// lengths that differ.
pub(super) fn clean_response(headers: &mut HeaderMap) -> Result<(), UpstreamError> {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !is_own(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        let alone = headers.get_all(TRANSFER_ENCODING).iter().count() == 1;
        if !alone || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(malformed("a transfer coding besides chunked"));
        }
        headers.remove(CONTENT_LENGTH);
    }
    remove_connection_specific(headers);
    unite_lengths(headers)
}

/// The length that a cleaned head declares.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(parse_length)
}

/// Options of a connection that are no header names, or those of headers that go anyway.
fn is_own(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Leaves one `content-length`, as digits.
fn unite_lengths(headers: &mut HeaderMap) -> Result<(), UpstreamError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next().map(parse_length), lengths.next()) {
        (None, _) | (Some(Some(_)), None) => return Ok(()),
        _ => united_length(headers).ok_or_else(|| malformed("lengths that differ"))?,
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// The one length that all values and list items say.
fn united_length(headers: &HeaderMap) -> Option<u64> {
    let mut items = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|item| digits(item.trim_ascii()));
    let first = items.next()??;
    items.all(|item| item == Some(first)).then_some(first)
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    digits(value.as_bytes())
}

fn digits(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| digits)?.parse().ok()
}

fn malformed(reason: &'static str) -> UpstreamError {
    UpstreamError::MalformedResponse { source: reason.into() }
}
