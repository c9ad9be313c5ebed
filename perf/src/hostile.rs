//! Connections that take as much memory as they can: what one of them costs.
//!
//! # Source
//!
//! RFC 9113 and RFC 7541: frames and fields are written by hand, for no client library would send
//! them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::peers::{Nginx, Peer, Result, Waypoint, free_port};
use crate::resources::{self, ENDPOINTS};

/// Hostile connections before anything is measured: what the process takes once, it has then.
const FIRST: usize = 3;
/// Hostile connections that are measured, all at a time. Their streams and the first ones' are within
/// what may go to [`ENDPOINTS`] (1,024 connections each), and a step of the allocator, which takes
/// 4 MiB at a time from the system, is 70 KiB of each of them.
const CONNECTIONS: usize = 60;
/// Processes that are attacked; their mean counts, so that the steps even out to 10 KiB or so.
const PROCESSES: usize = 5;
/// The process has what it takes when two looks find the same, but for so much.
const STILL_KIB: u64 = 256;
const LOOK: Duration = Duration::from_secs(1);
/// Looks at most; before the waypoint's own bound on a peer that does nothing, 30 s.
const LOOKS: usize = 12;
/// Streams that each of them opens.
const STREAMS: u32 = 100;
/// Fields of each request that fills the list of fields: 95 of 153 bytes, counted as RFC 7541 4.1
/// does, are 14.2 KiB; on the wire they are 95 bytes.
const FIELDS: usize = 95;
/// How long a write may wait for the waypoint to read, and a tenth of what a read may wait for it.
const WAIT_MAX: Duration = Duration::from_secs(1);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
/// SETTINGS_INITIAL_WINDOW_SIZE of 2^31 - 1.
const ALL_OF_EACH_STREAM: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A way to take memory.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    send: fn(&mut TcpStream) -> std::io::Result<()>,
    origin: Origin,
}

/// Who is behind the waypoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Accepts, and reads nothing.
    Silent,
    Http1,
    Http2,
}

impl Attack {
    const fn new(
        name: &'static str,
        send: fn(&mut TcpStream) -> std::io::Result<()>,
        origin: Origin,
    ) -> Self {
        Self { name, send, origin }
    }
}

pub(crate) const ATTACKS: [Attack; 7] = [
    Attack::new("full lists of fields", full_lists, Origin::Silent),
    Attack::new("uploads that the origin does not read", uploads, Origin::Silent),
    Attack::new("answers of HTTP/1 that nobody reads", unread_answers, Origin::Http1),
    Attack::new("answers of HTTP/2 that nobody reads", unread_answers, Origin::Http2),
    Attack::new("the same of HTTP/1, all windows wide", unread_wide, Origin::Http1),
    Attack::new("the same of HTTP/2, all windows wide", unread_wide, Origin::Http2),
    Attack::new("pipelined requests, answers unread", pipelined, Origin::Http1),
];

/// What the process grew by for one connection, in KiB.
pub(crate) struct Held {
    pub(crate) mean: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Accepts connections on every endpoint's address, holds them and reads nothing.
struct Silent {
    port: u16,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Result<Self> {
        let (port, held) = (free_port()?, Arc::<Mutex<Vec<TcpStream>>>::default());
        for address in ENDPOINTS {
            let (listener, held) = (TcpListener::bind((address, port))?, Arc::clone(&held));
            // It ends with this process.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
                }
            });
        }
        Ok(Self { port, held })
    }

    fn forget(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the process grows by for one connection of an attack.
pub(crate) fn connection_kib(attack: &Attack, binary: &Path, origin: &Nginx) -> Result<Held> {
    let silent = Silent::start()?;
    let http2 = (attack.origin == Origin::Http2).then(Nginx::http2_origin).transpose()?;
    let (port, protocol) = match (attack.origin, &http2) {
        (Origin::Silent, _) => (silent.port, "http"),
        (_, Some(http2)) => (http2.port(), "kubernetes.io/h2c"),
        (_, None) => (origin.port(), "http"),
    };
    let mut found = Vec::with_capacity(PROCESSES);
    for _ in 0..PROCESSES {
        let waypoint = Waypoint::start(binary, &resources::wide(port, protocol))?;
        found.push(grown_by(attack, &waypoint)?);
        drop(waypoint);
        silent.forget();
    }
    found.sort_by(f64::total_cmp);
    let mean = found.iter().sum::<f64>() / PROCESSES as f64;
    Ok(Held { mean, least: found[0], most: found[PROCESSES - 1] })
}

fn grown_by(attack: &Attack, waypoint: &Waypoint) -> Result<f64> {
    let first = all_at_once(FIRST, attack, waypoint)?;
    let before = still(waypoint)?;
    let more = all_at_once(CONNECTIONS, attack, waypoint)?;
    let grown = still(waypoint)?.saturating_sub(before);
    drop((first, more));
    Ok(grown as f64 / CONNECTIONS as f64)
}

/// Attacks with so many connections, and holds them.
fn all_at_once(count: usize, attack: &Attack, waypoint: &Waypoint) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = TcpStream::connect(("127.0.0.1", waypoint.port()))?;
        stream.set_write_timeout(Some(WAIT_MAX))?;
        held.push(stream);
    }
    std::thread::scope(|scope| {
        for stream in &mut held {
            // A write that fails has met a bound: it was cut, or is read no longer.
            scope.spawn(move || drop((attack.send)(stream)));
        }
    });
    Ok(held)
}

/// The resident memory once it no longer changes.
fn still(waypoint: &Waypoint) -> Result<u64> {
    let mut last = waypoint.resident_kib()?;
    for _ in 0..LOOKS {
        std::thread::sleep(LOOK);
        let now = waypoint.resident_kib()?;
        if now.abs_diff(last) <= STILL_KIB {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

fn full_lists(stream: &mut TcpStream) -> std::io::Result<()> {
    begin(stream, &[])?;
    for number in 0..STREAMS {
        let mut block = request("/upload");
        // The first one puts the field into the table, all others are its index.
        let indexed = if number == 0 {
            block.extend_from_slice(&[0x40, 1, b'x', 120]);
            block.extend_from_slice(&[b'a'; 120]);
            FIELDS - 1
        } else {
            FIELDS
        };
        block.extend(std::iter::repeat_n(0x80 | 62, indexed));
        frame(stream, HEADERS, END_HEADERS, 2 * number + 1, &block)?;
    }
    Ok(())
}

fn uploads(stream: &mut TcpStream) -> std::io::Result<()> {
    begin(stream, &[])?;
    for number in 0..STREAMS {
        frame(stream, HEADERS, END_HEADERS, 2 * number + 1, &request("/upload"))?;
    }
    // The window of the whole connection at its start (RFC 9113, 6.9.2); then as much again as is
    // given, which is more.
    for _ in 0..3 {
        frame(stream, DATA, 0, 1, &[0; 16 * 1024])?;
    }
    wait_for_window(stream)?;
    for number in 1..13 {
        frame(stream, DATA, 0, 2 * number + 1, &[0; 16 * 1024])?;
    }
    Ok(())
}

/// Reads until the window of the whole connection has grown.
fn wait_for_window(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(10 * WAIT_MAX))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut stream.take(length.into()), &mut std::io::sink())?;
        if (head[3], &head[5..]) == (WINDOW_UPDATE, &[0; 4]) {
            return Ok(());
        }
    }
}

/// The window of the whole connection, 65,535 bytes, is what holds answers back.
fn unread_answers(stream: &mut TcpStream) -> std::io::Result<()> {
    begin(stream, &ALL_OF_EACH_STREAM)?;
    ask(stream)
}

/// Nothing holds answers back but that the client does not read what has come.
fn unread_wide(stream: &mut TcpStream) -> std::io::Result<()> {
    begin(stream, &ALL_OF_EACH_STREAM)?;
    frame(stream, WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0])?;
    ask(stream)
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    for number in 0..STREAMS {
        let flags = END_HEADERS | END_STREAM;
        frame(stream, HEADERS, flags, 2 * number + 1, &request("/big"))?;
    }
    Ok(())
}

fn pipelined(stream: &mut TcpStream) -> std::io::Result<()> {
    (0..10_000).try_for_each(|_| stream.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n"))
}

fn begin(stream: &mut TcpStream, settings: &[u8]) -> std::io::Result<()> {
    stream.write_all(PREFACE)?;
    frame(stream, SETTINGS, 0, 0, settings)
}

/// A GET's fields: method and scheme from the static table, the rest literal and not indexed.
fn request(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    let mut block = vec![0x82, 0x86, 0x01, 1, b'a', 0x04, length];
    block.extend_from_slice(path.as_bytes());
    block
}

fn frame(
    stream: &mut TcpStream,
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes)
}
