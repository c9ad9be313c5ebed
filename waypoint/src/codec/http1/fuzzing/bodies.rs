//! Chunked bodies.

use bytes::BytesMut;
use http::HeaderMap;

use super::{SECOND, as_server};
use crate::codec::{
    fuzzing::cuttings,
    http1::decode::{Decoder, Piece},
    hygiene::Framing,
};

/// What came of a body.
#[derive(Debug, PartialEq)]
enum Outcome {
    Whole { body: Vec<u8>, trailers: HeaderMap, taken: usize },
    Unfinished,
    Refused,
}

/// Reads a chunked body from bytes.
///
/// # Panics
///
/// If the outcome depends on how the bytes arrive, or if hyper finds other data or another end in
/// what passes.
pub fn chunks(bytes: &[u8]) {
    let mut outcomes = cuttings(bytes).into_iter().map(|pieces| decoded(&pieces));
    let first = outcomes.next().expect("at least one cutting");
    for outcome in outcomes {
        assert_eq!(outcome, first, "{}", bytes.escape_ascii());
    }
    let Outcome::Whole { body, trailers, taken } = first else { return };
    let head = b"POST / HTTP/1.1\r\nHost: first\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    let seen = as_server([head, &bytes[..taken], SECOND].concat());
    let [message, second] = &seen[..] else { panic!("{}: {seen:?}", bytes.escape_ascii()) };
    assert_eq!(message.body, body, "{}", bytes.escape_ascii());
    assert_eq!(message.trailers, trailers, "{}", bytes.escape_ascii());
    assert_eq!(second.head.uri(), "/second", "{}", bytes.escape_ascii());
}

fn decoded(pieces: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut buffer, mut body, mut read) = (BytesMut::new(), Vec::new(), 0);
    let mut pieces = pieces.iter();
    loop {
        let trailers = match decoder.decode(&mut buffer) {
            Err(_) => return Outcome::Refused,
            Ok(Piece::Data(data)) => {
                body.extend_from_slice(&data);
                continue;
            }
            Ok(Piece::More) => match pieces.next() {
                None => return Outcome::Unfinished,
                Some(piece) => {
                    buffer.extend_from_slice(piece);
                    read += piece.len();
                    continue;
                }
            },
            Ok(Piece::Trailers(trailers)) => trailers,
            Ok(Piece::End) => HeaderMap::new(),
        };
        return Outcome::Whole { body, trailers, taken: read - buffer.len() };
    }
}
