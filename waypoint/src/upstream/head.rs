//! Request heads as an endpoint must get them, response heads as downstream may get them. What
//! HTTP/1 needs of its own, the codec writes and reads.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use http_body::Body as _;

use super::{Protocol, UpstreamError};
use crate::codec::body::Body;
use crate::codec::{Sending, Upgrade, remove_connection_specific};

/// Writes the request's head for the endpoint's protocol; says whether it asks for a WebSocket.
pub(super) fn prepare(
    request: &mut Request<Body>,
    protocol: Protocol,
    secure: bool,
) -> Result<bool, UpstreamError> {
    let upgrade = matches!(request.extensions().get(), Some(Upgrade::WebSocket));
    // The codec removed the caller's; a filter may have set them again.
    remove_connection_specific(request.headers_mut());
    if upgrade && !request.body().is_end_stream() {
        return Err(UpstreamError::InvalidRequest { reason: "an upgrade has a body" });
    }
    match protocol {
        Protocol::Http1 => check_http1(request)?,
        Protocol::Http2 => prepare_http2(request, secure)?,
    }
    Ok(upgrade)
}

/// Passes what can be written: an authority is known.
fn check_http1(request: &Request<Body>) -> Result<(), UpstreamError> {
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return Err(NO_AUTHORITY);
    }
    Ok(())
}

/// Absolute form without `host`; gRPC asks for trailers.
fn prepare_http2(request: &mut Request<Body>, secure: bool) -> Result<(), UpstreamError> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => host.as_bytes().try_into().map_err(|_| NO_AUTHORITY)?,
        (None, None) => return Err(NO_AUTHORITY),
    };
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority);
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
    match Sending::of_request(request.method(), request.headers(), request.body()) {
        Sending::Length(length) => {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Sending::Nothing | Sending::Open | Sending::UntilClose => {
            request.headers_mut().remove(CONTENT_LENGTH);
        }
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
pub(super) fn clean_response(headers: &mut HeaderMap) {
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
    remove_connection_specific(headers);
}

/// Options of a connection that are no header names, or those of headers that go anyway.
fn is_own(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}
