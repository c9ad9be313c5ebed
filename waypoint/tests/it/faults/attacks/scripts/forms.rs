//! Frames of a wrong length, on a wrong stream, with a wrong padding; and what must be ignored.

use super::Ends::{Goaway, Reset, Serves, Status};
use super::{
    FRAME_SIZE_ERROR, NO_ERROR, PROTOCOL_ERROR, Script, get, get_block, head, post, reset, script,
};
use crate::http2_frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, WITH_PRIORITY, frame,
};

const UNKNOWN: u8 = 0xfe;
/// The bit before a stream's number.
const RESERVED: u32 = 1 << 31;

/// A whole GET on stream 1, with something before its block.
fn prefixed(flags: u8, prefix: &[u8]) -> Vec<u8> {
    let payload = [prefix, &get_block()[..]].concat();
    frame(HEADERS, END_STREAM | END_HEADERS | flags, 1, &payload)
}

pub(super) const ALL: &[Script] = &[
    script(
        "frames of an unknown type",
        "RFC 9113, 4.1",
        || [frame(UNKNOWN, 0xff, 0, b"x"), frame(UNKNOWN, 0, 5, b""), get(1)].concat(),
        Status(1, 200),
    ),
    script(
        "a frame of an unknown type that is too long",
        "RFC 9113, 4.2",
        || frame(UNKNOWN, 0, 0, &[0; 16_385]),
        Goaway(FRAME_SIZE_ERROR),
    ),
    script(
        "the reserved bit before a stream's number",
        "RFC 9113, 4.1",
        || head(1 | RESERVED, &get_block(), true),
        Status(1, 200),
    ),
    script(
        "flags that a type does not have",
        "RFC 9113, 4.1",
        || [frame(PING, 0xfe, 0, &[1; 8]), prefixed(0xd2, &[])].concat(),
        Status(1, 200),
    ),
    script(
        "DATA without a stream",
        "RFC 9113, 6.1",
        || frame(DATA, 0, 0, b"x"),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "DATA of 16385 bytes",
        "RFC 9113, 4.2",
        || [post(1), frame(DATA, 0, 1, &[b'x'; 16_385])].concat(),
        Goaway(FRAME_SIZE_ERROR),
    ),
    script(
        "DATA with more padding than there is",
        "RFC 9113, 6.1",
        || [post(1), frame(DATA, PADDED, 1, &[6, 0, 0, 0, 0, 0])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "DATA with padding, and no byte that says how much",
        "RFC 9113, 6.1",
        || [post(1), frame(DATA, PADDED, 1, &[])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "DATA with padding that is right",
        "RFC 9113, 6.1",
        || [post(1), frame(DATA, PADDED | END_STREAM, 1, &[2, b'x', 0, 0])].concat(),
        Status(1, 200),
    ),
    script(
        "HEADERS without a stream",
        "RFC 9113, 6.2",
        || head(0, &get_block(), true),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "HEADERS with more padding than there is",
        "RFC 9113, 6.2",
        || prefixed(PADDED, &[200]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "HEADERS too short for their priority",
        "RFC 9113, 6.2; 4.2; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &[0; 4]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "HEADERS with padding and a priority",
        "RFC 9113, 6.2: priority is not used, and taken",
        || {
            let payload = [&[1, 0, 0, 0, 3, 9], &get_block()[..], &[0]].concat();
            let flags = END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY;
            frame(HEADERS, flags, 1, &payload)
        },
        Status(1, 200),
    ),
    script(
        "HEADERS that depend on themselves",
        "RFC 7540, 5.3.1",
        || prefixed(WITH_PRIORITY, &[0, 0, 0, 1, 0]),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "PRIORITY without a stream",
        "RFC 9113, 6.3",
        || frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PRIORITY of 4 bytes",
        "RFC 9113, 6.3; h2 ends the connection, where the stream would do",
        || [post(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PRIORITY on itself",
        "RFC 7540, 5.3.1",
        || [post(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1])].concat(),
        Reset(1, PROTOCOL_ERROR),
    ),
    script(
        "PRIORITY for a stream that nobody began",
        "RFC 9113, 5.1: allowed",
        || frame(PRIORITY, 0, 9, &[0, 0, 0, 3, 1]),
        Serves,
    ),
    script("RST_STREAM without a stream", "RFC 9113, 6.4", || reset(0), Goaway(PROTOCOL_ERROR)),
    script(
        "RST_STREAM of 3 bytes",
        "RFC 9113, 6.4; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || [post(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "RST_STREAM for a reason that nobody knows",
        "RFC 9113, 7",
        || [post(1), frame(RST_STREAM, 0, 1, &[0xff; 4])].concat(),
        Serves,
    ),
    script(
        "PING of a stream",
        "RFC 9113, 6.7",
        || frame(PING, 0, 1, &[0; 8]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PING of 7 bytes",
        "RFC 9113, 6.7; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(PING, 0, 0, &[0; 7]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PING that acknowledges what nobody asked",
        "RFC 9113, 6.7",
        || frame(PING, ACK, 0, &[7; 8]),
        Serves,
    ),
    script(
        "GOAWAY of a stream",
        "RFC 9113, 6.8",
        || frame(GOAWAY, 0, 1, &[0; 8]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "GOAWAY of 7 bytes",
        "RFC 9113, 6.8; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(GOAWAY, 0, 0, &[0; 7]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "GOAWAY while nothing runs",
        "RFC 9113, 6.8",
        || frame(GOAWAY, 0, 0, &[0; 8]),
        Goaway(NO_ERROR),
    ),
    script(
        "PUSH_PROMISE of a client",
        "RFC 9113, 8.4",
        || {
            [
                post(1),
                frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &get_block()[..]].concat()),
            ]
            .concat()
        },
        Goaway(PROTOCOL_ERROR),
    ),
];
