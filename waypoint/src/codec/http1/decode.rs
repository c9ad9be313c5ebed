//! From the bytes behind a head to the body's pieces. Pure: bytes in, pieces out.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::codec::hygiene::{CHUNK_LINE_BYTES_MAX, Framing, Refusal, chunk_line, whole_lines};

#[cfg(test)]
mod tests;

/// All trailers of a message, in bytes. Past it the body is refused.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// All trailers of a message, in fields. Past it the body is refused.
const TRAILER_FIELDS_MAX: usize = 64;

/// Where in a body the reader stands.
///
/// ```text
/// Length ───────────────────────────────────────► Done
/// ChunkLine ─size─► ChunkData ─► ChunkEnd ─┐        ▲
///     ▲ └──zero──► Trailers ────────────────────────┘
///     └────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    Length(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// What the bytes at hand gave.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Data(Bytes),
    /// Which fields may stand there, the message's receiver knows.
    Trailers(HeaderMap),
    End,
    /// Nothing until more bytes are read.
    More,
}

// === impl Decoder ===

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkLine,
        }
    }

    /// Takes the next piece from the front of `buffer`. After a refusal the body is lost.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Piece, Refusal> {
        loop {
            match *self {
                Self::Done => return Ok(Piece::End),
                Self::Length(_) | Self::ChunkData(_) if buffer.is_empty() => {
                    return Ok(Piece::More);
                }
                Self::Length(left) => {
                    let data = take(buffer, left);
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::Done } else { Self::Length(left) };
                    return Ok(Piece::Data(data));
                }
                Self::ChunkData(left) => {
                    let data = take(buffer, left);
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::ChunkEnd } else { Self::ChunkData(left) };
                    return Ok(Piece::Data(data));
                }
                Self::ChunkLine => match chunk_size(buffer)? {
                    None => return Ok(Piece::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::ChunkData(size),
                },
                Self::ChunkEnd => match buffer.as_ref() {
                    [] | [b'\r'] => return Ok(Piece::More),
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::ChunkLine;
                    }
                    _ => return Err(Refusal::ChunkEndMalformed),
                },
                Self::Trailers => return self.trailers(buffer),
            }
        }
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Piece, Refusal> {
        let Some(end) = trailers_end(buffer)? else {
            return Ok(Piece::More);
        };
        let block = buffer.split_to(end).freeze();
        *self = Self::Done;
        if block.len() == 2 { Ok(Piece::End) } else { trailer_map(&block).map(Piece::Trailers) }
    }
}

/// At most `most` bytes from the front, without a copy.
fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
    buffer.split_to(length).freeze()
}

/// Takes the line before a chunk's data, if it is here as a whole.
fn chunk_size(buffer: &mut BytesMut) -> Result<Option<u64>, Refusal> {
    let Some(line_feed) = buffer.iter().take(CHUNK_LINE_BYTES_MAX + 2).position(|b| *b == b'\n')
    else {
        return match buffer.len() {
            length if length < CHUNK_LINE_BYTES_MAX + 2 => Ok(None),
            _ => Err(Refusal::ChunkExtensionTooLong),
        };
    };
    whole_lines(&buffer[..=line_feed])?;
    let size = chunk_line(&buffer[..line_feed - 1])?;
    buffer.advance(line_feed + 1);
    Ok(Some(size))
}

/// Where the empty line behind the trailers ends, if it is here.
fn trailers_end(buffer: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut end = 0;
    for line in buffer.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        whole_lines(line)?;
        end += line.len();
        if TRAILER_BYTES_MAX < end {
            break;
        }
        if line == b"\r\n" {
            return Ok(Some(end));
        }
    }
    if TRAILER_BYTES_MAX < buffer.len() { Err(Refusal::TrailersTooLong) } else { Ok(None) }
}

fn trailer_map(block: &Bytes) -> Result<HeaderMap, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let fields = match httparse::parse_headers(block, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TrailersTooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Refusal::TrailerMalformed),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Refusal::TrailerMalformed);
        };
        trailers.append(name, value);
    }
    Ok(trailers)
}
