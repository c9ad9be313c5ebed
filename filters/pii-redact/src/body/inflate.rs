//! gzip and deflate, decoded as they arrive and within bounds. gzip may have several members.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::Limits;

/// Decoded text is handed on in pieces of that size, in bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// Below that size no ratio is a bomb, in bytes.
const RATIO_FREE_BYTES: u64 = 256 * 1024;
const GZIP_HEAD_BYTES: usize = 10;
/// Check sum and length behind a member.
const GZIP_TAIL_BYTES: usize = 8;
const ZLIB_HEAD_BYTES: usize = 2;

/// A content coding that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

/// Why decoding ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Malformed,
    /// More text than the bounds allow.
    TooLarge,
}

#[derive(Debug)]
enum State {
    /// Reading the fixed part of a head.
    Head,
    /// Reading the optional parts that the flags still name.
    Extra(u8),
    /// Passing over bytes, then the parts of the flags.
    Skip(usize, u8),
    Content,
    /// Behind the content.
    Tail,
    /// Nothing may follow.
    Done,
}

pub(crate) struct Inflater {
    coding: Coding,
    state: State,
    stream: Box<InflateState>,
    /// Of a head or tail that is not whole.
    pending: Vec<u8>,
    limits: Limits,
    read: u64,
    written: u64,
}

impl Inflater {
    pub(crate) fn new(coding: Coding, limits: Limits) -> Self {
        Self {
            coding,
            state: State::Head,
            stream: InflateState::new_boxed(DataFormat::Raw),
            pending: Vec::new(),
            limits,
            read: 0,
            written: 0,
        }
    }

    /// Decodes a chunk; `give` gets the text piece by piece.
    pub(crate) fn push<E: From<Broken>>(
        &mut self,
        chunk: &[u8],
        give: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read += chunk.len() as u64;
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = match self.state {
                State::Head => self.head(rest)?,
                State::Extra(flags) => self.extra(flags, rest)?,
                State::Skip(len, flags) => {
                    let used = len.min(rest.len());
                    let left = len - used;
                    self.state =
                        if left == 0 { State::Extra(flags) } else { State::Skip(left, flags) };
                    used
                }
                State::Content => self.content(rest, give)?,
                State::Tail => self.tail(rest),
                State::Done => return Err(Broken::Malformed.into()),
            };
            rest = &rest[used..];
        }
        Ok(())
    }

    /// The body has ended.
    pub(crate) fn end(&self) -> Result<(), Broken> {
        let whole = match self.state {
            // An empty body is none in any coding; behind a member another may begin, or none.
            State::Head => self.pending.is_empty(),
            State::Done => true,
            State::Extra(_) | State::Skip(..) | State::Content | State::Tail => false,
        };
        if whole { Ok(()) } else { Err(Broken::Malformed) }
    }

    /// Collects `len` bytes in `pending`: how many were taken, and whether they are whole.
    fn collect(&mut self, len: usize, rest: &[u8]) -> (usize, bool) {
        let used = (len - self.pending.len()).min(rest.len());
        self.pending.extend_from_slice(&rest[..used]);
        (used, self.pending.len() == len)
    }

    fn head(&mut self, rest: &[u8]) -> Result<usize, Broken> {
        let gzip = self.coding == Coding::Gzip;
        let len = if gzip { GZIP_HEAD_BYTES } else { ZLIB_HEAD_BYTES };
        let (used, whole) = self.collect(len, rest);
        if !whole {
            return Ok(used);
        }
        let head = std::mem::take(&mut self.pending);
        if !gzip {
            return self.deflate_head(&head).map(|()| used);
        }
        let [0x1F, 0x8B, 8, flags, ..] = head[..] else { return Err(Broken::Malformed) };
        if flags & 0xE0 != 0 {
            return Err(Broken::Malformed);
        }
        self.stream.reset(DataFormat::Raw);
        self.state = State::Extra(flags);
        Ok(used)
    }

    /// "deflate" is the zlib format, but some senders mean raw deflate.
    fn deflate_head(&mut self, head: &[u8]) -> Result<(), Broken> {
        let check = u16::from_be_bytes([head[0], head[1]]);
        let zlib = head[0] & 0x0F == 8 && check.is_multiple_of(31);
        self.stream.reset(if zlib { DataFormat::Zlib } else { DataFormat::Raw });
        self.state = State::Content;
        let result = inflate(&mut self.stream, head, &mut [], MZFlush::None);
        match result.status {
            Ok(_) | Err(MZError::Buf) if result.bytes_consumed == head.len() => Ok(()),
            _ => Err(Broken::Malformed),
        }
    }

    /// The optional parts of a gzip head: extra field, name, comment, check sum.
    fn extra(&mut self, flags: u8, rest: &[u8]) -> Result<usize, Broken> {
        const CHECK: u8 = 2;
        const EXTRA: u8 = 4;
        if flags & EXTRA != 0 {
            let (used, whole) = self.collect(2, rest);
            if whole {
                let len = usize::from(u16::from_le_bytes([self.pending[0], self.pending[1]]));
                self.pending.clear();
                self.state = State::Skip(len, flags & !EXTRA);
            }
            return Ok(used);
        }
        for text in [8, 16] {
            if flags & text != 0 {
                let end = memchr::memchr(0, rest);
                if end.is_some() {
                    self.state = State::Extra(flags & !text);
                }
                return Ok(end.map_or(rest.len(), |end| end + 1));
            }
        }
        self.state = if flags & CHECK != 0 { State::Skip(2, 0) } else { State::Content };
        Ok(0)
    }

    fn content<E: From<Broken>>(
        &mut self,
        rest: &[u8],
        give: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut used = 0;
        loop {
            let result = inflate(&mut self.stream, &rest[used..], &mut piece, MZFlush::None);
            used += result.bytes_consumed;
            self.count(result.bytes_written)?;
            give(&piece[..result.bytes_written])?;
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.state =
                        if self.coding == Coding::Gzip { State::Tail } else { State::Done };
                    return Ok(used);
                }
                Ok(_) if result.bytes_written == piece.len() => {}
                Ok(_) | Err(MZError::Buf) if used == rest.len() => return Ok(used),
                Ok(_) if result.bytes_consumed > 0 || result.bytes_written > 0 => {}
                _ => return Err(Broken::Malformed.into()),
            }
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Broken> {
        self.written += bytes as u64;
        let ratio = self.read.saturating_mul(u64::from(self.limits.inflated_ratio));
        let bomb = self.written > RATIO_FREE_BYTES && self.written > ratio;
        if bomb || self.written > self.limits.inflated_bytes {
            return Err(Broken::TooLarge);
        }
        Ok(())
    }

    /// The check sum is not checked: what was sent is replaced by what was decoded.
    fn tail(&mut self, rest: &[u8]) -> usize {
        let (used, whole) = self.collect(GZIP_TAIL_BYTES, rest);
        if whole {
            self.pending.clear();
            self.state = State::Head;
        }
        used
    }
}
