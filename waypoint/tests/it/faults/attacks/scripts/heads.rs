//! Heads whose frames are right and whose meaning is not.

use super::Ends::{Goaway, Reset, Status};
use super::{GET, PROTOCOL_ERROR, Script, get_with, head, script};
use crate::http2_frames::{DATA, END_STREAM, block, frame};

/// [`GET`] with another value of one field.
fn changed(name: &str, value: &str) -> Vec<u8> {
    let fields: Vec<_> =
        GET.iter().map(|field| if field.0 == name { (name, value) } else { *field }).collect();
    head(1, &block(&fields), true)
}

/// [`GET`] without one field.
fn without(name: &str) -> Vec<u8> {
    let fields: Vec<_> = GET.iter().filter(|field| field.0 != name).copied().collect();
    head(1, &block(&fields), true)
}

/// A POST that says how long its body is, and another body.
fn with_length(length: &str, body: &str) -> Vec<u8> {
    let fields = [&[(":method", "POST")], &GET[1..], &[("content-length", length)]].concat();
    [head(1, &block(&fields), false), frame(DATA, END_STREAM, 1, body.as_bytes())].concat()
}

pub(super) const ALL: &[Script] = &[
    script(
        "a name in upper case",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("X", "y")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a name with a space",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("x y", "z")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a name with a colon",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("x:y", "z")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "an empty name",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("", "z")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a value with NUL",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("x", "y\0z")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a value with CR and LF",
        "RFC 9113, 8.2.1; h2 ends the connection, where the stream would do",
        || get_with(&[("x", "y\r\nz: 1")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a value that begins with a space",
        "RFC 9113, 8.2.1",
        || get_with(&[("x", " y")]),
        Status(1, 400),
    ),
    script(
        "a pseudo-field behind a field",
        "RFC 9113, 8.3",
        || head(1, &block(&[&[("x", "y")], GET].concat()), true),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "an unknown pseudo-field",
        "RFC 9113, 8.3; h2 ends the connection, where the stream would do",
        || get_with(&[(":x", "y")]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a pseudo-field of answers",
        "RFC 9113, 8.3",
        || get_with(&[(":status", "200")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "two methods",
        "RFC 9113, 8.3",
        || get_with(&[(":method", "GET")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script("two paths", "RFC 9113, 8.3", || get_with(&[(":path", "/y")]), Reset(1, PROTOCOL_ERROR)),
    script(
        "two authorities",
        "RFC 9113, 8.3",
        || get_with(&[(":authority", "b")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script("no method", "RFC 9113, 8.3.1", || without(":method"), Reset(1, PROTOCOL_ERROR)),
    script("no scheme", "RFC 9113, 8.3.1", || without(":scheme"), Reset(1, PROTOCOL_ERROR)),
    script("no path", "RFC 9113, 8.3.1", || without(":path"), Reset(1, PROTOCOL_ERROR)),
    script("no authority and no host", "RFC 9112, 3.2", || without(":authority"), Status(1, 400)),
    script("an empty path", "RFC 9113, 8.3.1", || changed(":path", ""), Reset(1, PROTOCOL_ERROR)),
    script(
        "a path that does not begin with a slash",
        "RFC 9113, 8.3.1",
        || changed(":path", "a"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script("`*` for a GET", "RFC 9113, 8.3.1", || changed(":path", "*"), Status(1, 400)),
    script(
        "a path that is a whole URI",
        "RFC 9113, 8.3.1",
        || changed(":path", "http://b/"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "a path with a space",
        "RFC 3986, 3.3",
        || changed(":path", "/a b"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "a path with an encoded NUL",
        "RFC 3986, 7.3",
        || changed(":path", "/%00"),
        Status(1, 400),
    ),
    script(
        "a method with a space",
        "RFC 9110, 9.1; h2 ends the connection, where the stream would do",
        || changed(":method", "G T"),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a scheme that is none of HTTP's",
        "RFC 9110, 4.2",
        || changed(":scheme", "ftp"),
        Status(1, 400),
    ),
    script(
        "an authority with a user",
        "RFC 9113, 8.3.1",
        || changed(":authority", "u@a"),
        Status(1, 400),
    ),
    script(
        "another host than the authority",
        "RFC 9113, 8.3.1",
        || get_with(&[("host", "b")]),
        Status(1, 400),
    ),
    script(
        "CONNECT with a path",
        "RFC 9113, 8.5",
        || changed(":method", "CONNECT"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "a protocol without CONNECT",
        "RFC 8441, 4",
        || get_with(&[(":protocol", "websocket")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`connection`",
        "RFC 9113, 8.2.2",
        || get_with(&[("connection", "close")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`proxy-connection`",
        "RFC 9113, 8.2.2",
        || get_with(&[("proxy-connection", "close")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`keep-alive`",
        "RFC 9113, 8.2.2",
        || get_with(&[("keep-alive", "timeout=5")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`transfer-encoding`",
        "RFC 9113, 8.2.2",
        || get_with(&[("transfer-encoding", "chunked")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`upgrade`",
        "RFC 9113, 8.2.2",
        || get_with(&[("upgrade", "h2c")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "`te` that is not trailers",
        "RFC 9113, 8.2.2",
        || get_with(&[("te", "gzip")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script("`te: trailers`", "RFC 9113, 8.2.2", || get_with(&[("te", "trailers")]), Status(1, 200)),
    script(
        "a length and no body",
        "RFC 9113, 8.1.1",
        || get_with(&[("content-length", "3")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "a body shorter than its length",
        "RFC 9113, 8.1.1",
        || with_length("3", "ab"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "a body longer than its length",
        "RFC 9113, 8.1.1",
        || with_length("3", "abcd"),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "two lengths",
        "RFC 9110, 8.6",
        || get_with(&[("content-length", "0"), ("content-length", "1")]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "more fields than there may be",
        "RFC 6585, 5",
        || get_with(&[("x", "y"); 101]),
        Status(1, 431),
    ),
];
