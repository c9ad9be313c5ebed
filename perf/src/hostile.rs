//! Connections that take as much memory as they can: what one of them costs.
//!
//! # Source
//!
//! RFC 9113 and RFC 7541: frames and fields are written by hand, for no client library would send
//! them.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::SETTLE;
use crate::peers::{Nginx, Peer, Waypoint};
use crate::resources;

/// Hostile connections before anything is measured: what the process takes once, it has then.
const FIRST: usize = 3;
/// Hostile connections that are measured, all at a time. With their streams, and the first ones',
/// they are just within what may go to one endpoint (1,024 connections).
const CONNECTIONS: usize = 7;
/// Processes that are attacked; the median counts.
const PROCESSES: usize = 5;
/// Streams that each of them opens.
const STREAMS: u32 = 100;
/// Fields of each request that fills the list of fields: 95 of 153 bytes, counted as RFC 7541 4.1
/// does, are 14.2 KiB; on the wire they are 95 bytes.
const FIELDS: usize = 95;
/// How long a write may wait for the waypoint to read.
const WRITE_MAX: Duration = Duration::from_secs(1);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A way to take memory.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    send: fn(&mut TcpStream) -> std::io::Result<()>,
    /// Whether the origin answers; else it reads nothing.
    answered: bool,
}

pub(crate) const ATTACKS: [Attack; 4] = [
    Attack { name: "full lists of fields", send: full_lists, answered: false },
    Attack { name: "uploads that the origin does not read", send: uploads, answered: false },
    Attack { name: "answers that nobody reads", send: unread_answers, answered: true },
    Attack { name: "pipelined requests, answers unread", send: pipelined, answered: true },
];

/// What the process grows by for one connection of an attack, in KiB.
pub(crate) fn connection_kib(
    attack: &Attack,
    binary: &Path,
    origin: &Nginx,
) -> Result<f64, Box<dyn Error>> {
    let silent = TcpListener::bind(("127.0.0.1", 0))?;
    let silent_port = silent.local_addr()?.port();
    // It holds what it accepts, and ends with this process.
    std::thread::spawn(move || silent.incoming().collect::<Vec<_>>());
    let port = if attack.answered { origin.port() } else { silent_port };
    let mut found = Vec::with_capacity(PROCESSES);
    for _ in 0..PROCESSES {
        let waypoint = Waypoint::start(binary, &resources::plain(port))?;
        found.push(grown_by(attack, &waypoint)?);
    }
    found.sort_by(f64::total_cmp);
    Ok(found[PROCESSES / 2])
}

fn grown_by(attack: &Attack, waypoint: &Waypoint) -> Result<f64, Box<dyn Error>> {
    let mut held = Vec::with_capacity(FIRST + CONNECTIONS);
    let mut attack_with = |connections| -> Result<u64, Box<dyn Error>> {
        for _ in 0..connections {
            let mut stream = TcpStream::connect(("127.0.0.1", waypoint.port()))?;
            stream.set_write_timeout(Some(WRITE_MAX))?;
            // A write that fails has met a bound: it was cut, or is read no longer.
            let _ = (attack.send)(&mut stream);
            held.push(stream);
        }
        std::thread::sleep(SETTLE);
        waypoint.resident_kib()
    };
    let before = attack_with(FIRST)?;
    let grown = attack_with(CONNECTIONS)?.saturating_sub(before);
    Ok(grown as f64 / CONNECTIONS as f64)
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
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let _ = stream.read(&mut [0; 16 * 1024]);
    for number in 1..13 {
        frame(stream, DATA, 0, 2 * number + 1, &[0; 16 * 1024])?;
    }
    Ok(())
}

fn unread_answers(stream: &mut TcpStream) -> std::io::Result<()> {
    // SETTINGS_INITIAL_WINDOW_SIZE of 2^31 - 1: the streams do not hold anything back.
    begin(stream, &[0, 4, 0x7f, 0xff, 0xff, 0xff])?;
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
