//! What is cheap to send and dear to answer, again and again.

use super::Ends::{Goaway, Serves};
use super::{
    ENHANCE_YOUR_CALM, PROTOCOL_ERROR, Script, get, get_block, head, post, post_silent, repeated,
    reset, script,
};
use crate::http2_frames::{
    ACK, CONTINUATION, DATA, GOAWAY, HEADERS, PADDED, PING, PRIORITY, SETTINGS, WINDOW_UPDATE,
    block, frame,
};

/// Requests, each with a frame for which its stream must be reset.
fn provoked(wrong: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    repeated(1_000, |id| [post_silent(id), wrong(id)].concat())
}

fn continued(times: usize, part: &[u8]) -> Vec<u8> {
    let rest = frame(CONTINUATION, 0, 1, part).repeat(times);
    [frame(HEADERS, 0, 1, &get_block()), rest].concat()
}

pub(super) const ALL: &[Script] = &[
    script(
        "requests that are reset at once",
        "CVE-2023-44487",
        || repeated(2_000, |id| [get(id), reset(id)].concat()),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "made to reset: a window of 0",
        "CVE-2025-8671: the first one ends the connection",
        // Fewer than what is counted as a flood.
        || repeated(50, |id| [post_silent(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "made to reset: a window past 2^31",
        "CVE-2025-8671",
        || provoked(|id| frame(WINDOW_UPDATE, 0, id, &[0x7f, 255, 255, 255])),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "made to reset: DATA behind the end",
        "CVE-2025-8671: the first one ends the connection",
        || repeated(1_000, |id| [get(id), frame(DATA, 0, id, b"x")].concat()),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "made to reset: HEADERS behind the end",
        "CVE-2025-8671: the first one ends the connection",
        || repeated(1_000, |id| [get(id), get(id)].concat()),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "made to reset: PRIORITY of 4 bytes",
        "CVE-2025-8671: the first one ends the connection",
        || provoked(|id| frame(PRIORITY, 0, id, &[0; 4])),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "made to reset: PRIORITY on itself",
        "CVE-2025-8671",
        || provoked(|id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[1]].concat())),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "made to reset: trailers without an end",
        "CVE-2025-8671",
        || provoked(|id| head(id, &block(&[("x", "y")]), false)),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "made to reset: malformed heads",
        "CVE-2025-8671",
        || repeated(1_000, |id| head(id, &block(&[("x", "y")]), true)),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "streams past the most that there may be",
        "CVE-2019-9514",
        || repeated(3_000, post_silent),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "CONTINUATION without end",
        "CVE-2024-27316",
        || continued(100, &[b'x'; 1_000]),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "empty CONTINUATION without end",
        "CVE-2024-27316",
        || continued(10_000, b""),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "empty HEADERS that go on in empty CONTINUATION",
        "CVE-2019-9518",
        || [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, 0, 1, b"").repeat(1_000)].concat(),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "fields of no name and no value",
        "CVE-2019-9516",
        || head(1, &[get_block(), [0, 0, 0].repeat(500)].concat(), true),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "empty DATA",
        "CVE-2019-9518",
        || [post(1), frame(DATA, 0, 1, b"").repeat(20_000)].concat(),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "DATA of padding",
        "RUSTSEC-2026-0258",
        || {
            [post(1), frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat()).repeat(2_000)]
                .concat()
        },
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "PING",
        "CVE-2019-9512",
        || frame(PING, 0, 0, &[0; 8]).repeat(5_000),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "SETTINGS",
        "CVE-2019-9515",
        || frame(SETTINGS, 0, 0, b"").repeat(5_000),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "SETTINGS that change the table",
        "CVE-2019-9515",
        || frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]).repeat(5_000),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "SETTINGS with a thousand settings each",
        "CVE-2019-9515",
        || frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(1_000)).repeat(100),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "SETTINGS that acknowledge",
        "CVE-2019-9515",
        || frame(SETTINGS, ACK, 0, b"").repeat(5_000),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "PRIORITY",
        "CVE-2019-9513",
        || frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(20_000),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "PING that acknowledge",
        "RFC 9113, 10.5: nothing is answered, nothing is kept",
        || frame(PING, ACK, 0, &[0; 8]).repeat(20_000),
        Serves,
    ),
    script(
        "frames of an unknown type",
        "RFC 9113, 10.5: nothing is answered, nothing is kept",
        || frame(0xfe, 0, 0, b"").repeat(50_000),
        Serves,
    ),
    script("GOAWAY", "RFC 9113, 6.8", || frame(GOAWAY, 0, 0, &[0; 8]).repeat(5_000), Goaway(0)),
    script(
        "HEADERS on a stream that is closed",
        "CVE-2019-9514; h2 says PROTOCOL_ERROR for STREAM_CLOSED",
        || [get(1), reset(1), get(1).repeat(1_000)].concat(),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "frames behind the end of a stream that was reset",
        "RFC 9113, 5.4.2: ignored for a while",
        || [post(1), reset(1), frame(DATA, 0, 1, b"x").repeat(1_000)].concat(),
        Goaway(ENHANCE_YOUR_CALM),
    ),
];
