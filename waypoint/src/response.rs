//! Stage 8: the answer, from the upstream, from a filter or from the proxy itself.
//!
//! Takes what the earlier stages gave; gives the response that the codec writes, with the request's
//! record and its filter contexts attached to the body. It refuses nothing: once the head has left,
//! a failure resets the stream, or ends a gRPC stream with its status. Dropping the body writes the
//! record.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use waypoint_abi::LocalReply;

use crate::access_log::Record;
use crate::codec::body::{Body, BodyError, Source};
use crate::error::{self, RequestError};
use crate::filter_chain::{Chain, Interruption};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The proxy's own answer to an error. A gRPC request gets HTTP 200 with a gRPC status.
///
/// The body names the check and nothing of the request.
pub fn of_error(error: &RequestError, grpc: bool) -> Response<Body> {
    let outcome = error.outcome();
    if grpc {
        return trailers_only(outcome.grpc_status, outcome.name);
    }
    let mut response = Response::new(Body::full(Bytes::from(format!("{}\n", outcome.name))));
    *response.status_mut() = status(outcome.status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if matches!(outcome.status, 429 | 503) {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A rule's redirect. The location is made of what was checked; one that still is no header value
/// is left out.
pub fn of_redirect(code: u16, location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status(code);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    response
}

/// The answer to a preflight; its rule writes into it what is allowed.
pub fn of_preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The answer of the proxy as such: `OPTIONS` finds that it is there, and nothing else is for it.
///
/// # Source
///
/// RFC 9110, 9.3.7 (`OPTIONS`) and 9.3.8 (`TRACE`, which it does not reflect: 15.5.6).
pub fn of_ourselves(method: &Method) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if method != Method::OPTIONS {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("OPTIONS"));
    }
    response
}

/// A filter's own reply.
///
/// # Source
///
/// Envoy's local replies: `content-type: text/plain` where the filter set none and there is a
/// body; for gRPC requests the HTTP status is mapped and an explicit gRPC status wins.
pub fn of_reply(reply: LocalReply, grpc: bool) -> Response<Body> {
    if grpc {
        let code = reply.grpc_status.unwrap_or_else(|| grpc_of_http(reply.status));
        let mut response = trailers_only(code, &String::from_utf8_lossy(&reply.body));
        copy_absent(crate::filter_chain::header_map(&reply.headers), response.headers_mut());
        return response;
    }
    let mut headers = crate::filter_chain::header_map(&reply.headers);
    headers.remove(http::header::CONTENT_LENGTH);
    if !reply.body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let mut response = Response::new(Body::full(reply.body));
    *response.status_mut() = status(reply.status);
    *response.headers_mut() = headers;
    response
}

/// What ended a request, as a response.
pub fn of_interruption(interruption: Interruption, grpc: bool) -> Response<Body> {
    match interruption {
        Interruption::Reply { reply, .. } => of_reply(*reply, grpc),
        Interruption::Error(error) => of_error(&error, grpc),
    }
}

fn copy_absent(from: HeaderMap, to: &mut HeaderMap) {
    for name in [WWW_AUTHENTICATE, http::header::RETRY_AFTER] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// # Source
///
/// grpc/doc/PROTOCOL-HTTP2.md, Trailers-Only.
fn trailers_only(code: u32, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    set_status(headers, code, message);
    response
}

fn set_status(headers: &mut HeaderMap, code: u32, message: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(value) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert(GRPC_MESSAGE, value);
    }
}

/// Percent-encodes what a `grpc-message` may not hold.
fn percent_encoded(message: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(message.len());
    for byte in message.trim_end().bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// # Source
///
/// grpc/doc/http-grpc-status-mapping.md
fn grpc_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Who made an answer. An endpoint's may go on for ever and is cut when a generation that it keeps
/// alive is retired; one of our own is short and always goes out whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    Upstream,
    Waypoint,
}

/// Attaches the record and the filter contexts to a response's body: both end with it.
///
/// An upgraded connection leaves the filters behind: their contexts end here.
pub fn recorded(
    response: Response<Body>,
    record: Box<Record>,
    mut chain: Chain,
    answerer: Answerer,
) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        chain.end_contexts();
    }
    response.map(|body| {
        Body::wrap(RecordedBody { body, record, answerer, failed: false, retirement: None, chain })
    })
}

/// A response body that carries its request's record and filter contexts to its end.
struct RecordedBody {
    body: Body,
    record: Box<Record>,
    answerer: Answerer,
    /// The body has ended with a gRPC status of ours.
    failed: bool,
    /// Resolves when a generation of the chain is retired; made when the body first has nothing.
    retirement: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Held so that the contexts end after the last byte.
    chain: Chain,
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = {
            let _unwinding = Unwinding(&mut this.record);
            Pin::new(&mut this.body).poll_frame(context)
        };
        let Poll::Ready(frame) = polled else {
            return this.poll_retired(context).map(|()| Some(this.fail(BodyError::Retired)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                this.record.sent(&frame);
                if this.body.is_end_stream() {
                    this.record.complete();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(this.fail(error)),
            None if this.failed => None,
            None => {
                this.record.complete();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Source for RecordedBody {
    fn hold(mut self: Pin<&mut Self>, context: &mut Context<'_>) {
        let this = &mut *self;
        let _unwinding = Unwinding(&mut this.record);
        Pin::new(&mut this.body).hold(context);
    }
}

/// Tells the record when what it stands beside panics.
struct Unwinding<'a>(&'a mut Record);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.0.unwound();
    }
}

impl RecordedBody {
    /// Polled only while the body has nothing: a stream that moves pays nothing for it.
    fn poll_retired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.answerer == Answerer::Waypoint {
            return Poll::Pending;
        }
        let waiting = self.retirement.get_or_insert_with(|| Box::pin(self.chain.retired()));
        waiting.as_mut().poll(context)
    }

    /// Records why the body failed. A gRPC caller is told by trailers, anybody else by a reset.
    fn fail(&mut self, error: BodyError) -> Result<Frame<Bytes>, BodyError> {
        let mut outcome = error::body_outcome(&error);
        match self.chain.take_interruption() {
            Some(Interruption::Error(reason)) => outcome = reason.outcome(),
            Some(Interruption::Reply { .. }) => {
                (outcome.flag, outcome.name) = ("-", "filter_reply_after_head");
            }
            None => {}
        }
        self.record.failed(&outcome);
        // Elsewhere trailers may be dropped on the way, and what was cut would look whole.
        if !self.record.grpc || self.record.version != http::Version::HTTP_2 {
            return Err(error);
        }
        (self.body, self.failed) = (Body::empty(), true);
        let mut trailers = HeaderMap::new();
        set_status(&mut trailers, outcome.grpc_status, outcome.name);
        let frame = Frame::trailers(trailers);
        self.record.sent(&frame);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_request_gets_its_error_as_a_grpc_status() {
        let response = of_error(&RequestError::NoRoute, true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["grpc-message"], "route_not_found");
    }

    #[test]
    fn a_grpc_message_is_percent_encoded() {
        assert_eq!(percent_encoded("a b%\u{e4}\n"), "a b%25%C3%A4");
    }
}
