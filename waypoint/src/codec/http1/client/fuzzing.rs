//! An endpoint that says given bytes, and what is heard of it.

use std::cell::OnceCell;

use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;

use super::{Awaited, Incoming, Wire};
use crate::codec::{Channel, http1::fuzzing::block_on, hygiene::HeadScan};

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(in crate::codec::http1) struct Heard {
    pub(in crate::codec::http1) status: StatusCode,
    pub(in crate::codec::http1) headers: HeaderMap,
    pub(in crate::codec::http1) body: Vec<u8>,
    pub(in crate::codec::http1) trailers: HeaderMap,
    /// The connection would be used again.
    pub(in crate::codec::http1) stays: bool,
    /// The bytes that belong to the answer.
    pub(in crate::codec::http1) taken: usize,
}

/// Why there is no whole answer.
#[derive(Debug, PartialEq)]
pub(in crate::codec::http1) enum Failed {
    /// The endpoint closed too early.
    Cut,
    Malformed,
}

thread_local! {
    /// Never read and never written: the bytes are put into the wire's buffer.
    static SILENT: OnceCell<Channel> = const { OnceCell::new() };
}

fn silent() -> Channel {
    let connect = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        Channel::plain(block_on(TcpStream::connect(address)).expect("a connection"))
    };
    SILENT.with(|channel| channel.get_or_init(connect).clone())
}

/// Reads an answer whose bytes arrive in these pieces, behind which the endpoint closes.
pub(in crate::codec::http1) fn hear(pieces: &[&[u8]], headless: bool) -> Result<Heard, Failed> {
    let mut wire = Wire::new(silent());
    wire.incoming = Incoming::Head(Awaited { scan: HeadScan::default(), headless, interim: 0 });
    let mut pieces = pieces.iter();
    let (mut read, mut body, mut trailers) = (0, Vec::new(), HeaderMap::new());
    let mut fill = |wire: &mut Wire| {
        let piece = pieces.next()?;
        read += piece.len();
        wire.buffer.extend_from_slice(piece);
        Some(())
    };
    let head = loop {
        match wire.next_head() {
            Err(_) => return Err(Failed::Malformed),
            Ok(Some(head)) if wire.is_headed() => break head,
            Ok(Some(_)) => {}
            Ok(None) => match fill(&mut wire) {
                Some(()) => {}
                None => return Err(Failed::Cut),
            },
        }
    };
    loop {
        match wire.next_frame() {
            Err(_) => return Err(Failed::Malformed),
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().expect("data or trailers"),
            },
            Ok(None) if wire.is_ended() => break,
            Ok(None) => match fill(&mut wire) {
                Some(()) => {}
                None if matches!(wire.incoming, Incoming::UntilClose) => break,
                None => return Err(Failed::Cut),
            },
        }
    }
    // What comes behind the answer is seen before the connection is used again.
    while fill(&mut wire).is_some() {}
    let stays = wire.is_settled();
    let taken = read - wire.buffer.len();
    let (status, headers) = (head.status(), head.headers().clone());
    Ok(Heard { status, headers, body, trailers, stays, taken })
}
