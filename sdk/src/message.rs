//! A request or response as a callback sees it: headers, body, replies.

use std::ops::{Deref, DerefMut};

use crate::callout::{CallError, CallId, Callout};
use crate::filter::{Flow, RequestId};
use crate::host::{self, Buffer, Map};

/// Which side of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the upstream.
    Response,
}

/// What [`Request`] and [`Response`] share.
#[derive(Debug)]
pub struct Message {
    id: RequestId,
    direction: Direction,
    end_of_stream: bool,
    pub(crate) calls: Vec<CallId>,
    pub(crate) wake_filter: bool,
}

impl Message {
    pub(crate) fn new(id: RequestId, direction: Direction, end_of_stream: bool) -> Self {
        Self { id, direction, end_of_stream, calls: Vec::new(), wake_filter: false }
    }

    /// The exchange's name within its VM; the same for request and response.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Which side this is.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// In a headers callback: neither body nor trailers follow. In a body callback ask the
    /// [`Body`]. When trailers follow a body, no body callback sees the end.
    pub fn end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// The headers, pseudo-headers among them. Change them only while they are held: in the headers
    /// callback, or later if it answered [`Flow::Pause`].
    pub fn headers(&self) -> Headers {
        Headers(match self.direction {
            Direction::Request => Map::RequestHeaders,
            Direction::Response => Map::ResponseHeaders,
        })
    }

    /// The trailers; only in the trailers callback.
    pub fn trailers(&self) -> Headers {
        Headers(match self.direction {
            Direction::Request => Map::RequestTrailers,
            Direction::Response => Map::ResponseTrailers,
        })
    }

    /// Answers the client instead of the upstream, and ends the exchange for later filters. Return
    /// what it gives. Only the first reply counts; none is possible once the response's head has
    /// left.
    ///
    /// * `status` is 200 to 599; another is sent as 500.
    /// * The host adds content-length, and turns the answer to a gRPC request into a gRPC status.
    pub fn reply(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Flow {
        let status = if (200..=599).contains(&status) { status } else { 500 };
        host::reply(u32::from(status), headers, body);
        Flow::Pause
    }

    /// Cuts the exchange without an answer. Return what it gives.
    pub fn reset(&mut self) -> Flow {
        host::reset(self.direction);
        Flow::Pause
    }

    /// Calls an upstream; [`crate::HttpFilter::on_callout`] gets the answer if the exchange lives.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the host refused to send it.
    pub fn call(&mut self, callout: &Callout<'_>) -> Result<CallId, CallError> {
        let call = host::call(callout).map(CallId)?;
        self.calls.push(call);
        Ok(call)
    }

    /// Asks for [`crate::Filter::on_tick`] as soon as the host can (its shortest tick; on most
    /// hosts about 10 ms), for example to make a call that must outlive this request.
    pub fn wake_filter(&mut self) {
        self.wake_filter = true;
    }

    /// An attribute of the exchange, such as `["source", "address"]`, in the host's encoding.
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        host::property(path)
    }
}

/// The client's request.
#[derive(Debug)]
pub struct Request(pub(crate) Message);

impl Request {
    /// `:method`.
    pub fn method(&self) -> String {
        self.headers().get_str(":method").unwrap_or_default()
    }

    /// `:path`, with its query.
    pub fn path(&self) -> String {
        self.headers().get_str(":path").unwrap_or_default()
    }

    /// `:authority`.
    pub fn authority(&self) -> String {
        self.headers().get_str(":authority").unwrap_or_default()
    }

    /// Asks the host to choose the route again, for the headers as they are now. `false`: this host
    /// cannot (Envoy and Waypoint can).
    pub fn clear_route_cache(&mut self) -> bool {
        crate::foreign::call("clear_route_cache", &[]).is_ok()
    }
}

impl Deref for Request {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.0
    }
}

/// The upstream's response, or a reply on its way to the client.
#[derive(Debug)]
pub struct Response(pub(crate) Message);

impl Response {
    /// `:status`; 0 when the host gave none.
    pub fn status(&self) -> u16 {
        self.headers().get_str(":status").and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

impl Deref for Response {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0
    }
}

impl DerefMut for Response {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.0
    }
}

/// A header map at the host. Each method is a hostcall; names are given in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Headers(pub(crate) Map);

impl Headers {
    /// Every name and value, in order; a name may occur more than once.
    pub fn all(self) -> Vec<(String, Vec<u8>)> {
        host::map(self.0)
    }

    /// The first value.
    pub fn get(self, name: &str) -> Option<Vec<u8>> {
        host::map_value(self.0, name)
    }

    /// The first value, if it is UTF-8.
    pub fn get_str(self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| String::from_utf8(value).ok())
    }

    /// Every value of a name: one hostcall for the whole map.
    pub fn values(self, name: &str) -> Vec<Vec<u8>> {
        self.all().into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// Sets a header to one value; others of its name go.
    pub fn set(self, name: &str, value: impl AsRef<[u8]>) {
        host::replace_map_value(self.0, name, value.as_ref());
    }

    /// Adds a value; others of its name stay.
    pub fn add(self, name: &str, value: impl AsRef<[u8]>) {
        host::add_map_value(self.0, name, value.as_ref());
    }

    /// Removes every value of a name.
    pub fn remove(self, name: &str) {
        host::remove_map_value(self.0, name);
    }

    /// Replaces the whole map. Keep the pseudo-headers.
    pub fn replace_all(self, headers: &[(&str, &[u8])]) {
        host::set_map(self.0, headers);
    }
}

/// Whether a text can be a header's name, in any case; no pseudo-header.
///
/// # Source
///
/// RFC 9110, section 5.6.2 (token).
pub fn is_header_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// Whether a text can be a header's value and arrive as it is: not empty, one line, no space
/// around it.
pub fn is_header_value(text: &str) -> bool {
    let line = text.bytes().all(|byte| byte >= 0x20 && byte != 0x7f);
    !text.is_empty() && line && text.trim() == text
}

/// The part of a body that a callback may read and change: the new chunk, after whatever earlier
/// body callbacks kept by answering [`Flow::Pause`].
#[derive(Debug)]
pub struct Body {
    buffer: Buffer,
    len: usize,
    end_of_stream: bool,
}

impl Body {
    pub(crate) fn new(direction: Direction, len: usize, end_of_stream: bool) -> Self {
        let buffer = match direction {
            Direction::Request => Buffer::Request,
            Direction::Response => Buffer::Response,
        };
        Self { buffer, len, end_of_stream }
    }

    /// How many bytes there are, changes included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes: often the callback that only tells the end.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nothing follows, trailers neither. With trailers the last body callback says `false` and the
    /// trailers callback is the end.
    pub fn end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// A copy of all bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.read(0, self.len)
    }

    /// A copy of at most `max` bytes from `start`; shorter at the end.
    pub fn read(&self, start: usize, max: usize) -> Vec<u8> {
        let max = max.min(self.len.saturating_sub(start));
        if max == 0 { Vec::new() } else { host::buffer(self.buffer, start, max) }
    }

    /// Replaces all bytes. The filter removes `content-length` in the headers callback, before it
    /// changes a body's length.
    pub fn replace(&mut self, bytes: &[u8]) {
        host::set_buffer(self.buffer, 0, self.len, bytes);
        self.len = bytes.len();
    }

    /// Puts bytes behind those that are there.
    pub fn append(&mut self, bytes: &[u8]) {
        host::set_buffer(self.buffer, self.len, 0, bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_tokens_and_values_one_trimmed_line() {
        for (name, want) in [
            ("x-a", true),
            ("X_a.1", true),
            ("", false),
            (":path", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_header_name(name), want, "{name}");
        }
        for (value, want) in [
            ("a b", true),
            ("é", true),
            ("", false),
            (" a", false),
            ("a\t", false),
            ("a\nb", false),
            ("a\0", false),
        ] {
            assert_eq!(is_header_value(value), want, "{value:?}");
        }
    }
}
