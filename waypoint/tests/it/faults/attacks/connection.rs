//! One connection of an attack: sends a script, and says what came of it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::scripts::{self, Ends, REFUSED_STREAM, Script};
use crate::harness::PATIENCE;
use crate::http2_frames::{ACK, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame};

/// The stream of the request that shows that a connection serves on.
const PROBE: u32 = 999_999;
const PROBE_PING: [u8; 8] = *b"the end.";

/// What a server said.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// The reason of the last GOAWAY.
    goaway: Option<u32>,
    /// Each stream that was reset, and why.
    resets: Vec<(u32, u32)>,
    /// Each stream that was answered, and how.
    answers: Vec<(u32, u16)>,
    /// Whether the PING behind the script was acknowledged.
    pong: bool,
    /// An answer of HTTP/1.1.
    http1: Option<u16>,
    closed: bool,
}

/// Sends a script and reads until it has ended as it must, or otherwise.
pub(super) async fn run(
    address: SocketAddr,
    script: &Script,
    bytes: Vec<u8>,
) -> (TcpStream, Result<(), Came>) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut came = Came::default();
    {
        let (mut read, mut write) = stream.split();
        let writing = async {
            let opening = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
            let probe = [scripts::get(PROBE), frame(PING, 0, 0, &PROBE_PING)].concat();
            let sent = match (script.is_bare, script.ends.is_end()) {
                (true, _) => bytes,
                (false, true) => [opening, bytes].concat(),
                (false, false) => [opening, bytes, probe].concat(),
            };
            // It may be closed before all is sent.
            let _ = write.write_all(&sent).await;
            std::future::pending::<()>().await;
        };
        let mut reading = async || {
            let mut pending = Vec::new();
            while !came.is(script.ends) && !came.closed {
                let read = read.read_buf(&mut pending).await;
                came.closed = read.map_or(true, |bytes| bytes == 0);
                came.read(&mut pending);
            }
        };
        tokio::select! {
            () = writing => {}
            _ = timeout(PATIENCE, reading()) => {}
        }
    }
    let ended = came.is(script.ends);
    (stream, if ended { Ok(()) } else { Err(came) })
}

impl Ends {
    /// Whether the connection must be closed.
    fn is_end(self) -> bool {
        matches!(self, Self::Goaway(_) | Self::Http1(_))
    }
}

impl Came {
    /// Whether this is all that must come.
    fn is(&self, ends: Ends) -> bool {
        let serves = self.pong && self.answers.contains(&(PROBE, 200)) && self.goaway.is_none();
        match ends {
            Ends::Goaway(reason) => self.closed && self.goaway == Some(reason),
            Ends::Http1(status) => self.closed && self.http1 == Some(status),
            Ends::Reset(stream, reason) => serves && self.resets.contains(&(stream, reason)),
            Ends::Status(stream, status) => serves && self.answers.contains(&(stream, status)),
            Ends::Serves => serves,
            Ends::Full => self.pong && self.resets.contains(&(PROBE, REFUSED_STREAM)),
        }
    }

    /// Takes whole frames off the beginning.
    fn read(&mut self, bytes: &mut Vec<u8>) {
        if let Some(status) = bytes.strip_prefix(b"HTTP/1.1 ") {
            let digits = status.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            self.http1 = digits.and_then(|digits| digits.parse().ok());
            return;
        }
        while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
            let [high, middle, low, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some(payload) = rest.get(..length) else { return };
            self.frame(kind, flags, u32::from_be_bytes(stream), payload);
            bytes.drain(..9 + length);
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let word = |at: usize| {
            let bytes = payload[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        match kind {
            GOAWAY => self.goaway = Some(word(4)),
            RST_STREAM => self.resets.push((stream, word(0))),
            HEADERS => self.answers.extend(status(payload).map(|status| (stream, status))),
            PING if flags & ACK != 0 => self.pong |= payload == PROBE_PING,
            _ => {}
        }
    }
}

/// The status that a block of fields begins with; `None` for trailers.
///
/// # Source
///
/// RFC 7541, 6.1, 6.2, appendices A and B.
fn status(block: &[u8]) -> Option<u16> {
    /// The codes of a digit: those of 0 to 2 have 5 bits, the others 6.
    fn digit(bits: u32) -> (u16, u32) {
        match bits >> 27 {
            short @ 0..3 => (short as u16, 5),
            _ => ((bits >> 26) as u16 - 0b01_1001 + 3, 6),
        }
    }
    let at = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let indexed = [200, 204, 206, 304, 400, 404, 500];
    match block[at..] {
        [index @ 0x88..=0x8e, ..] => Some(indexed[usize::from(index - 0x88)]),
        [0x08 | 0x48, 0x03, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        [0x08 | 0x48, length, ..] if length & 0x80 != 0 => {
            let code = block.get(at + 2..at + 2 + usize::from(length & 0x7f))?;
            let mut bytes = [0; 4];
            bytes[..code.len()].copy_from_slice(code);
            let mut bits = u32::from_be_bytes(bytes);
            let number = (0..3).fold(0, |number, _| {
                let (digit, length) = digit(bits);
                bits <<= length;
                number * 10 + digit
            });
            Some(number)
        }
        _ => None,
    }
}
