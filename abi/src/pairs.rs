//! The ABI's serialization of header maps.
//!
//! ```text
//! u32 count | count × (u32 name length, u32 value length) | count × (name \0 value \0)
//! ```
//! Little endian. An empty map is no bytes at all; some guests send one zero byte or a count of 0.

use bytes::{BufMut, Bytes, BytesMut};

use crate::headers::Headers;

/// The longest serialized map that a guest may hand over, in bytes.
pub const PAIRS_BYTES_MAX: usize = 1 << 20;
/// The most lines that a guest may hand over.
pub const PAIRS_MAX: usize = 1_024;

/// Serializes a header list as the ABI has it.
#[must_use]
pub fn encode_pairs(headers: &Headers) -> Bytes {
    if headers.is_empty() {
        return Bytes::new();
    }
    let text: usize = headers.iter().map(|(n, v)| n.len() + v.len() + 2).sum();
    let mut out = BytesMut::with_capacity(4 + 8 * headers.len() + text);
    out.put_u32_le(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    for (name, value) in headers.iter() {
        out.put_u32_le(u32::try_from(name.len()).unwrap_or(u32::MAX));
        out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
    }
    for (name, value) in headers.iter() {
        out.put_slice(name);
        out.put_u8(0);
        out.put_slice(value);
        out.put_u8(0);
    }
    out.freeze()
}

/// Reads a serialized header list; `None` if it is malformed or past a bound.
///
/// The lengths must use up the bytes exactly.
#[must_use]
pub fn decode_pairs(bytes: &[u8]) -> Option<Headers> {
    if bytes.is_empty() || bytes == [0] {
        return Some(Headers::new());
    }
    if PAIRS_BYTES_MAX < bytes.len() {
        return None;
    }
    let (count, rest) = take_u32(bytes)?;
    if PAIRS_MAX < count || rest.len() < count * 8 {
        return None;
    }
    let (mut lengths, mut text) = rest.split_at(count * 8);
    let mut headers = Headers::with_capacity(count);
    for _ in 0..count {
        let (name_len, after) = take_u32(lengths)?;
        let (value_len, after) = take_u32(after)?;
        lengths = after;
        let name = take_text(&mut text, name_len)?;
        let value = take_text(&mut text, value_len)?;
        headers.push(name, value);
    }
    text.is_empty().then_some(headers)
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*head)).ok()?, rest))
}

fn take_text(text: &mut &[u8], len: usize) -> Option<Bytes> {
    let end = len.checked_add(1)?;
    let (word, rest) = text.split_at_checked(end)?;
    let (zero, word) = word.split_last()?;
    *text = rest;
    (*zero == 0).then(|| Bytes::copy_from_slice(word))
}

#[cfg(test)]
mod tests;
