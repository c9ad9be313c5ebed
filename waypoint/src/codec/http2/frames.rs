//! The frames of one direction of a connection, found in its bytes however they are cut.

use crate::codec::HTTP2_PREFACE;

#[cfg(test)]
mod tests;

/// Of every frame, in bytes.
pub(crate) const HEADER_BYTES: usize = 9;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// Where in the stream of bytes the next one stands.
#[derive(Debug)]
pub(crate) struct Frames {
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    /// How much of `header` has been read.
    filled: usize,
    payload_left: usize,
}

/// A frame, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// What was found of a frame: every frame begins and ends, and its payload comes in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Begin,
    Payload(&'a [u8]),
    /// So many of the bytes follow.
    End {
        left: usize,
    },
}

impl Frame {
    /// Whether a head of fields is whole with it.
    pub(crate) fn ends_head(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS != 0
    }
}

impl Frames {
    /// Of what a client sends: behind the preface.
    pub(crate) fn of_client() -> Self {
        Self { preface_left: HTTP2_PREFACE.len(), ..Self::of_server() }
    }

    /// Of what a server sends.
    pub(crate) fn of_server() -> Self {
        Self { preface_left: 0, header: [0; HEADER_BYTES], filled: 0, payload_left: 0 }
    }

    /// Tells of what the next bytes hold, in order.
    ///
    /// # Errors
    ///
    /// The first that `found` gives; the rest of the bytes is then not looked at. After one that it
    /// gives at a frame's end, the rest may be scanned by another call.
    ///
    /// # Source
    ///
    /// RFC 9113, section 4.1: 24 bits of length, 8 of kind, 8 of flags, 1 reserved, 31 of stream.
    pub(crate) fn scan<E>(
        &mut self,
        bytes: &[u8],
        mut found: impl FnMut(Frame, Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (_, mut bytes) = cut(&mut self.preface_left, bytes);
        while !bytes.is_empty() {
            if self.filled < HEADER_BYTES {
                self.header[self.filled] = bytes[0];
                self.filled += 1;
                bytes = &bytes[1..];
                if self.filled < HEADER_BYTES {
                    continue;
                }
                let [high, middle, low, ..] = self.header;
                self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
                found(self.frame(), Part::Begin)?;
            }
            let (payload, rest) = cut(&mut self.payload_left, bytes);
            bytes = rest;
            if !payload.is_empty() {
                found(self.frame(), Part::Payload(payload))?;
            }
            // Also right after its header: a frame may have no payload.
            if self.payload_left == 0 {
                self.filled = 0;
                found(self.frame(), Part::End { left: bytes.len() })?;
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.preface_left == 0 && self.filled == 0
    }

    /// What is left of the preface, the frame's payload, or the frame's header, in bytes; whether it
    /// is the header.
    pub(crate) fn left(&self) -> (usize, bool) {
        match self.filled {
            0 => (self.preface_left, false),
            HEADER_BYTES => (self.payload_left, false),
            filled => (HEADER_BYTES - filled, true),
        }
    }

    fn frame(&self) -> Frame {
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }
}

/// Splits off as many bytes as there are left of something.
fn cut<'a>(left: &mut usize, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (part, rest) = bytes.split_at(bytes.len().min(*left));
    *left -= part.len();
    (part, rest)
}
