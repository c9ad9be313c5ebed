//! Frames that a stream's state does not allow.

use super::Ends::{Full, Goaway, Reset, Serves, Status};
use super::{
    CANCEL, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, STREAM_CLOSED, Script, get, get_block, head, post,
    post_silent, post_timed, repeated, reset, script,
};
use crate::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, block, frame,
};

/// The beginning of a head on stream 1.
fn begun() -> Vec<u8> {
    frame(HEADERS, END_STREAM, 1, &get_block())
}

pub(super) const ALL: &[Script] = &[
    script(
        "DATA for a stream that nobody began",
        "RFC 9113, 5.1",
        || frame(DATA, END_STREAM, 1, b"x"),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "RST_STREAM for a stream that nobody began",
        "RFC 9113, 6.4",
        || reset(1),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "DATA behind the end",
        "RFC 9113, 5.1, half-closed; h2 ends the connection, where the stream would do",
        || [post_silent(1), frame(DATA, END_STREAM, 1, b""), frame(DATA, 0, 1, b"x")].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "HEADERS behind the end",
        "RFC 9113, 5.1, half-closed; h2 ends the connection, where the stream would do",
        || [post_silent(1), frame(DATA, END_STREAM, 1, b""), get(1)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "DATA behind RST_STREAM",
        "RFC 9113, 5.1, closed",
        || [post(1), reset(1), frame(DATA, 0, 1, b"x")].concat(),
        Reset(1, STREAM_CLOSED),
    ),
    script(
        "HEADERS behind RST_STREAM",
        "RFC 9113, 5.1, closed; h2 says PROTOCOL_ERROR for STREAM_CLOSED",
        || [post(1), reset(1), get(1)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script("a stream of an even number", "RFC 9113, 5.1.1", || get(2), Goaway(PROTOCOL_ERROR)),
    script(
        "a stream of a lower number than the last",
        "RFC 9113, 5.1.1",
        || [get(5), get(3)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "trailers without END_STREAM",
        "RFC 9113, 8.1",
        || [post(1), head(1, &block(&[("x", "y")]), false)].concat(),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "trailers with a pseudo-field",
        "RFC 9113, 8.3: malformed; h2 drops the field, and nobody sees it",
        || [post(1), head(1, &block(&[(":path", "/y")]), true)].concat(),
        Status(1, 200),
    ),
    script(
        "trailers with a field of framing",
        "RFC 9110, 6.5.1",
        || [post(1), head(1, &block(&[("content-length", "3")]), true)].concat(),
        Status(1, 400),
    ),
    script(
        "one stream more than there may be",
        "RFC 9113, 5.1.2",
        || repeated(100, post_silent),
        Full,
    ),
    script(
        "CONTINUATION that continues nothing",
        "RFC 9113, 6.10",
        || frame(CONTINUATION, END_HEADERS, 1, &get_block()),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "CONTINUATION behind a whole head",
        "RFC 9113, 6.10",
        || [post(1), frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]))].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "CONTINUATION of another stream",
        "RFC 9113, 6.10",
        || [begun(), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "CONTINUATION without a stream",
        "RFC 9113, 6.10",
        || [begun(), frame(CONTINUATION, END_HEADERS, 0, &[])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PING within a head",
        "RFC 9113, 4.3",
        || [begun(), frame(PING, 0, 0, &[0; 8])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a frame of an unknown type within a head",
        "RFC 9113, 5.5",
        || [begun(), frame(0xfe, 0, 1, &[])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "the head of another stream within a head",
        "RFC 9113, 4.3",
        || [begun(), get(3)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a head in three frames",
        "RFC 9113, 6.10",
        || {
            let end = block(&[("x", "y")]);
            let frames = [begun(), frame(CONTINUATION, 0, 1, &end[..2])];
            [frames.concat(), frame(CONTINUATION, END_HEADERS, 1, &end[2..])].concat()
        },
        Status(1, 200),
    ),
    script(
        "a request that is given up at once",
        "RFC 9113, 5.4.2",
        || [get(1), reset(1)].concat(),
        Serves,
    ),
    script(
        "a body that stops",
        "slow bodies: the route's 15 s are over before the 300 s for a byte",
        || [post_timed(1), frame(DATA, 0, 1, b"x")].concat(),
        Status(1, 504),
    )
    .slow(),
    script(
        "an answer that nobody reads",
        "CVE-2019-9517: 30 s without a byte; the window is one byte short",
        || get(1),
        Reset(1, CANCEL),
    )
    .slow(),
    script(
        "a head that never ends",
        "slow heads: the time for a head",
        begun,
        Goaway(ENHANCE_YOUR_CALM),
    )
    .slow(),
];
