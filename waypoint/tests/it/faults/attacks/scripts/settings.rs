//! The preface, SETTINGS and windows.

use super::Ends::{Full, Goaway, Http1, Reset, Serves, Status};
use super::{
    FLOW_CONTROL_ERROR, PROTOCOL_ERROR, Script, get, post_silent, post_unread, repeated, reset,
    script,
};
use crate::http2_frames::{ACK, DATA, PING, PREFACE, SETTINGS, WINDOW_UPDATE, frame};

const HEADER_TABLE_SIZE: u8 = 1;
const ENABLE_PUSH: u8 = 2;
const MAX_CONCURRENT_STREAMS: u8 = 3;
const INITIAL_WINDOW_SIZE: u8 = 4;
const MAX_FRAME_SIZE: u8 = 5;
const MAX_HEADER_LIST_SIZE: u8 = 6;

const LARGEST_WINDOW: u32 = 0x7fff_ffff;

fn set(identifier: u8, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, identifier], &value.to_be_bytes()[..]].concat())
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) const ALL: &[Script] = &[
    script(
        "a preface that goes on as another protocol's",
        "RFC 9113, 3.4",
        || b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        Http1(505),
    )
    .bare(),
    script(
        "a preface without SETTINGS",
        "RFC 9113, 3.4",
        || [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat(),
        Goaway(PROTOCOL_ERROR),
    )
    .bare(),
    script(
        "a preface whose SETTINGS acknowledge",
        "RFC 9113, 3.4",
        || [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat(),
        Goaway(PROTOCOL_ERROR),
    )
    .bare(),
    script(
        "SETTINGS of a stream",
        "RFC 9113, 6.5",
        || frame(SETTINGS, 0, 1, &[]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "SETTINGS of 5 bytes",
        "RFC 9113, 6.5; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(SETTINGS, 0, 0, &[0; 5]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "SETTINGS that acknowledge and set",
        "RFC 9113, 6.5; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(SETTINGS, ACK, 0, &[0, HEADER_TABLE_SIZE, 0, 0, 16, 0]),
        Goaway(PROTOCOL_ERROR),
    ),
    script("an unknown setting", "RFC 9113, 6.5.2", || set(0x7a, 1), Serves),
    script("ENABLE_PUSH of 2", "RFC 9113, 6.5.2", || set(ENABLE_PUSH, 2), Goaway(PROTOCOL_ERROR)),
    script(
        "INITIAL_WINDOW_SIZE of 2^31",
        "RFC 9113, 6.5.2; h2 says PROTOCOL_ERROR for FLOW_CONTROL_ERROR",
        || set(INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "MAX_FRAME_SIZE of 16383",
        "RFC 9113, 6.5.2",
        || set(MAX_FRAME_SIZE, (1 << 14) - 1),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "MAX_FRAME_SIZE of 2^24",
        "RFC 9113, 6.5.2",
        || set(MAX_FRAME_SIZE, 1 << 24),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a table of HPACK of 4 GiB",
        "RFC 7541, 4.2",
        || set(HEADER_TABLE_SIZE, u32::MAX),
        Serves,
    ),
    script(
        "no streams and no fields from the server",
        "RFC 9113, 6.5.2: both bind what we begin, and we begin nothing; the size is advice",
        || [set(MAX_CONCURRENT_STREAMS, 0), set(MAX_HEADER_LIST_SIZE, 0)].concat(),
        Serves,
    ),
    script(
        "windows of 0 while a head waits",
        "RFC 9113, 6.9: heads are not counted",
        || [set(INITIAL_WINDOW_SIZE, 0), get(1)].concat(),
        Status(1, 200),
    ),
    script(
        "windows of one byte, and as many answers as there may be",
        "CVE-2019-9511",
        || [set(INITIAL_WINDOW_SIZE, 1), repeated(100, get)].concat(),
        Full,
    ),
    script(
        "WINDOW_UPDATE of 0 for the connection",
        "RFC 9113, 6.9",
        || window(0, 0),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "WINDOW_UPDATE of 0 for a stream",
        "RFC 9113, 6.9; h2 ends the connection, where the stream would do",
        || [get(1), window(1, 0)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "WINDOW_UPDATE of 3 bytes",
        "RFC 9113, 6.9; h2 says PROTOCOL_ERROR for FRAME_SIZE_ERROR",
        || frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "WINDOW_UPDATE past 2^31 for the connection",
        "RFC 9113, 6.9.1",
        || window(0, LARGEST_WINDOW),
        Goaway(FLOW_CONTROL_ERROR),
    ),
    script(
        "WINDOW_UPDATE past 2^31 for a stream",
        "RFC 9113, 6.9.1",
        || [post_silent(1), window(1, LARGEST_WINDOW)].concat(),
        Reset(1, FLOW_CONTROL_ERROR),
    ),
    script(
        "SETTINGS that lift a stream's window past 2^31",
        "RFC 9113, 6.9.2",
        || {
            let lifted = window(1, LARGEST_WINDOW - 65_535);
            [post_silent(1), lifted, set(INITIAL_WINDOW_SIZE, 65_536)].concat()
        },
        Goaway(FLOW_CONTROL_ERROR),
    ),
    script(
        "SETTINGS that make a stream's window negative",
        "RFC 9113, 6.9.2: allowed",
        || [set(INITIAL_WINDOW_SIZE, 10), get(1), set(INITIAL_WINDOW_SIZE, 0)].concat(),
        Status(1, 200),
    ),
    script(
        "WINDOW_UPDATE for a stream that nobody began",
        "RFC 9113, 5.1",
        || window(1, 1),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "WINDOW_UPDATE for a stream that is closed",
        "RFC 9113, 5.1: may come late",
        || [get(1), reset(1), window(1, 1)].concat(),
        Serves,
    ),
    script(
        "bodies past the connection's window",
        "RFC 9113, 6.9.1: each within its stream's",
        || {
            repeated(2, |id| {
                [post_unread(id), frame(DATA, 0, id, &[b'x'; 16_384]).repeat(15)].concat()
            })
        },
        Goaway(FLOW_CONTROL_ERROR),
    ),
    script(
        "bodies without an answer, as many as there may be",
        "CVE-2019-9517",
        || repeated(100, |id| [post_silent(id), frame(DATA, 0, id, &[b'x'; 500])].concat()),
        Full,
    ),
];
