//! C3: attacks on HTTP/2, each from twenty connections at once, against a whole process.
//!
//! Each script says how its connections must end; what one of them makes the process grow by is
//! bounded for all. Scripts without an end of their own hold their connection until it is closed or
//! the test has measured.
//!
//! # Source
//!
//! CVE-2023-44487, CVE-2025-8671, CVE-2024-27316, CVE-2019-9511 to 9518; the frames are those of RFC
//! 9113, section 6, and RFC 7541.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::scene::Holds;
use super::{Length, row};
use crate::harness::{PATIENCE, Waypoint, gateway_to, get, service};
use crate::origin::{Origin, Speaks};

const CONNECTIONS: usize = 20;
/// What one hostile connection may make the process grow by, and what twenty may besides: arenas of
/// threads, buffers of the log. A debug build's futures are several times as large as those of a
/// release build: a hundred streams that stand still take 2 MiB.
const GROWN_KIB: u64 = if cfg!(debug_assertions) { 3 << 10 } else { 1 << 10 };
const BESIDES_KIB: u64 = 16 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// GOAWAY with one of these reasons, and the connection closed.
    Goaway(&'static [u32]),
    /// Closed, with whatever word, within the time for a head.
    Closed,
    /// It may live: what it holds is all that counts.
    Held,
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;
/// A flood is called so; a frame that is wrong already at the first time by its own name.
const CALM: Ends = Ends::Goaway(&[ENHANCE_YOUR_CALM]);
const WRONG: Ends = Ends::Goaway(&[
    PROTOCOL_ERROR,
    FLOW_CONTROL_ERROR,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
]);

/// One attack: its bytes behind the preface, and how it ends.
type Script = (&'static str, fn() -> Vec<u8>, Ends);

const SCRIPTS: [Script; 24] = [
    (
        "rapid reset",
        || repeated(2_000, |id| [head(id, &get_block(), true), reset(id)].concat()),
        CALM,
    ),
    ("made to reset: window of 0", || provoked(|id| frame(WINDOW_UPDATE, 0, id, &[0; 4])), CALM),
    (
        "made to reset: window over 2^31",
        || provoked(|id| frame(WINDOW_UPDATE, 0, id, &[0x7f, 255, 255, 255])),
        CALM,
    ),
    ("made to reset: data behind the end", || provoked(|id| frame(DATA, 0, id, b"x")), WRONG),
    ("made to reset: a second head", || provoked(|id| head(id, &get_block(), true)), WRONG),
    (
        "made to reset: PRIORITY of 4 bytes",
        || provoked(|id| frame(PRIORITY, 0, id, &[0; 4])),
        WRONG,
    ),
    (
        "made to reset: PRIORITY on itself",
        || provoked(|id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[1]].concat())),
        WRONG,
    ),
    ("CONTINUATION without end", || continued(100, &[b'x'; 1_000]), WRONG),
    ("empty CONTINUATION without end", || continued(10_000, b""), WRONG),
    ("empty DATA", || [posted(1), many(20_000, &frame(DATA, 0, 1, b""))].concat(), CALM),
    (
        "DATA that is padding only",
        || [posted(1), many(2_000, &frame(DATA, 8, 1, &padding()))].concat(),
        Ends::Held,
    ),
    ("PING", || many(5_000, &frame(PING, 0, 0, &[0; 8])), CALM),
    ("SETTINGS", || many(5_000, &frame(SETTINGS, 0, 0, b"")), CALM),
    (
        "SETTINGS that change the table",
        || many(5_000, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0])),
        CALM,
    ),
    ("PRIORITY", || many(20_000, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])), CALM),
    ("WINDOW_UPDATE of 0", || many(5_000, &frame(WINDOW_UPDATE, 0, 0, &[0; 4])), WRONG),
    (
        "WINDOW_UPDATE over 2^31",
        || many(5, &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])),
        WRONG,
    ),
    (
        "a list of fields over the bound",
        || repeated(100, |id| head(id, &bomb(4_000), true)),
        Ends::Held,
    ),
    (
        "lists of fields just under the bound",
        || repeated(200, |id| head(id, &bomb(90), false)),
        Ends::Held,
    ),
    ("an index that is not in the table", || head(1, &[0xff, 0xff, 0xff, 0x7f], true), WRONG),
    (
        "windows of one byte",
        || [window_of_one(), repeated(100, |id| head(id, &get_block(), true))].concat(),
        Ends::Held,
    ),
    (
        "windows that never open, and bodies",
        || repeated(100, |id| [posted(id), frame(DATA, 0, id, &[b'x'; 1_000])].concat()),
        Ends::Held,
    ),
    ("a preface and nothing else", Vec::new, Ends::Held),
    ("a head that never ends", || frame(HEADERS, 0, 1, &get_block()), Ends::Closed),
];

/// Stream ids of clients, in order.
fn repeated(times: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..times).flat_map(|index| frames(1 + 2 * index)).collect()
}

fn many(times: usize, frame: &[u8]) -> Vec<u8> {
    frame.repeat(times)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn head(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    // Larger ones go on in CONTINUATION.
    let mut parts = block.chunks(16_000);
    let flags = if ends { END_STREAM } else { 0 };
    let first = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    let ended = |is_last: bool| if is_last { END_HEADERS } else { 0 };
    let mut all = frame(HEADERS, flags | ended(rest.is_empty()), stream, first);
    for (index, part) in rest.iter().enumerate() {
        all.extend(frame(CONTINUATION, ended(index + 1 == rest.len()), stream, part));
    }
    all
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// `GET http://a/`, all but the authority from the static table.
fn get_block() -> Vec<u8> {
    vec![0x82, 0x86, 0x84, 0x41, 1, b'a']
}

/// The head of a POST whose body is to come.
fn posted(stream: u32) -> Vec<u8> {
    head(stream, &[0x83, 0x86, 0x84, 0x41, 1, b'a'], false)
}

/// A request, and then a frame for which its stream or its connection must be reset.
fn provoked(wrong: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    repeated(1_000, |id| [head(id, &get_block(), true), wrong(id)].concat())
}

fn continued(times: usize, part: &[u8]) -> Vec<u8> {
    let rest = many(times, &frame(CONTINUATION, 0, 1, part));
    [frame(HEADERS, 0, 1, &get_block()), rest].concat()
}

/// 255 bytes of padding and no data.
fn padding() -> Vec<u8> {
    let mut padding = vec![0; 256];
    padding[0] = 255;
    padding
}

/// A request with so many fields, each of one byte: a large one that is put into the table first.
fn bomb(fields: usize) -> Vec<u8> {
    let mut block = get_block();
    // With indexing, a new name `x-b`, and a value of 100 bytes.
    block.extend_from_slice(&[0x40, 3, b'x', b'-', b'b', 100]);
    block.resize(block.len() + 100, b'v');
    // The first entry of the dynamic table.
    block.resize(block.len() + fields, 0x80 | 62);
    block
}

fn window_of_one() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])
}

row!(attacks:
    attacks_on_http2_end_and_hold_little,
    attacks_on_http2_ten_times_over_end_and_hold_little);

async fn attacks(length: Length) {
    let origin = Origin::start(Speaks::Http1, |_| {
        http::Response::new(Bytes::from_static(&[b'x'; 64 << 10]))
    })
    .await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    for (name, bytes, ends) in SCRIPTS {
        let waypoint = Waypoint::start(&resources).await;
        assert_eq!(get(waypoint.http(), "/").await.status(), 200);
        let before = Holds::of(&waypoint).await;
        let resident = waypoint.resident_kib();
        for _ in 0..length.either(1, 10) {
            run(name, &waypoint, bytes().into(), ends, resident).await;
        }
        assert_eq!(get(waypoint.http(), "/").await.status(), 200, "{name}: others are served");
        before.again(&waypoint, CONNECTIONS as u64 * GROWN_KIB + BESIDES_KIB).await;
    }
}

async fn run(name: &str, waypoint: &Waypoint, bytes: Bytes, ends: Ends, resident: u64) {
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        running.spawn(attack(waypoint.http(), bytes.clone(), ends));
    }
    let mut held = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (stream, reason) = ended.expect("no panic");
        match ends {
            Ends::Goaway(reasons) => assert!(
                reason.is_some_and(|reason| reasons.contains(&reason)),
                "{name}: ended with {reason:?}"
            ),
            Ends::Closed | Ends::Held => held.push(stream),
        }
    }
    let grown = waypoint.resident_kib().saturating_sub(resident);
    let most = CONNECTIONS as u64 * GROWN_KIB + BESIDES_KIB;
    eprintln!("{name}: {CONNECTIONS} connections, {grown} KiB");
    assert!(grown <= most, "{name}: the process grew by {grown} KiB");
}

/// What one connection holds in a test of what may live.
const HELD_FOR: Duration = Duration::from_secs(1);

/// Sends everything, reads whatever comes; gives the reason of a GOAWAY, once closed.
async fn attack(address: SocketAddr, bytes: Bytes, ends: Ends) -> (TcpStream, Option<u32>) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut seen = Vec::new();
    {
        let (mut read, mut write) = stream.split();
        let writing = async {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            // It may be closed before all is sent.
            let _ = write.write_all(preface).await;
            let _ = write.write_all(&bytes).await;
            std::future::pending::<()>().await;
        };
        let reading = async {
            match ends {
                Ends::Held => {
                    let _ = timeout(HELD_FOR, read.read_to_end(&mut seen)).await;
                }
                Ends::Goaway(_) | Ends::Closed => {
                    let closed = timeout(PATIENCE, read.read_to_end(&mut seen)).await;
                    assert!(closed.is_ok(), "it is not closed");
                }
            }
        };
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    }
    (stream, goaway(&seen))
}

/// The reason of the last GOAWAY among these frames.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    let mut reason = None;
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == GOAWAY
            && let Some(code) = rest.get(4..8)
        {
            reason = Some(u32::from_be_bytes(code.try_into().expect("four bytes")));
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    reason
}
