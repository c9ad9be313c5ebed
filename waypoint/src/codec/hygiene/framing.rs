//! How long a message's body is: one reading or none.

use http::{HeaderMap, HeaderValue, Version, header};

use super::Refusal;

#[cfg(test)]
mod tests;

/// A chunk's extensions, in bytes. Past it the body is refused.
const CHUNK_EXTENSION_BYTES_MAX: usize = 256;

/// A chunk's size in hexadecimal digits: 2^60 bytes is more than anyone sends.
const CHUNK_SIZE_DIGITS_MAX: usize = 15;

/// The line before a chunk's data, without its CRLF.
pub(in crate::codec) const CHUNK_LINE_BYTES_MAX: usize =
    CHUNK_SIZE_DIGITS_MAX + CHUNK_EXTENSION_BYTES_MAX;

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Framing {
    /// There is none.
    None,
    /// After so many bytes, more than zero.
    Length(u64),
    Chunked,
}

/// Reads where the body of an HTTP/1 request ends.
pub(in crate::codec) fn request_framing(
    version: Version,
    headers: &HeaderMap,
) -> Result<Framing, Refusal> {
    let length = content_length(headers)?;
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(match length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        });
    }
    if version == Version::HTTP_10 {
        return Err(Refusal::TransferEncodingOnHttp10);
    }
    if length.is_some() {
        return Err(Refusal::ContentLengthWithTransferEncoding);
    }
    transfer_encoding(headers)?;
    Ok(Framing::Chunked)
}

/// Passes exactly one `Transfer-Encoding: chunked`.
pub(in crate::codec) fn transfer_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::TransferEncodingRepeated);
    };
    let value = value.as_bytes();
    if value.eq_ignore_ascii_case(b"chunked") {
        Ok(())
    } else if value.contains(&b',') {
        Err(Refusal::TransferEncodingRepeated)
    } else {
        Err(Refusal::TransferEncodingUnsupported)
    }
}

/// Reads `Content-Length`. Two of them are refused even if they are equal.
pub(in crate::codec) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decimal(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(Refusal::ContentLengthRepeated),
    }
}

/// Reads an answer's `Content-Length` and leaves one of them: an endpoint may say the same length
/// twice (RFC 9112, 6.3), a client may not.
///
/// # Errors
///
/// Lengths that differ, or that are none.
pub fn unite_content_lengths(headers: &mut HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let alone = values.next().is_none() && !first.as_bytes().contains(&b',');
    if alone {
        return decimal(first.as_bytes()).map(Some);
    }
    let mut lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|item| decimal(item.trim_ascii()));
    let first = lengths.next().ok_or(Refusal::ContentLengthMalformed)??;
    for length in lengths {
        if length? != first {
            return Err(Refusal::ContentLengthRepeated);
        }
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(first));
    Ok(Some(first))
}

/// Digits only, no sign, no leading zero, below 2^63.
fn decimal(text: &[u8]) -> Result<u64, Refusal> {
    if text.contains(&b',') {
        return Err(Refusal::ContentLengthRepeated);
    }
    let plain =
        text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first() != Some(&b'0'));
    std::str::from_utf8(text)
        .ok()
        .filter(|_| plain)
        .and_then(|text| text.parse::<i64>().ok())
        .and_then(|length| u64::try_from(length).ok())
        .ok_or(Refusal::ContentLengthMalformed)
}

/// Reads the line before a chunk's data, without its CRLF: the chunk's size.
pub(in crate::codec) fn chunk_line(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    if size.is_empty() || CHUNK_SIZE_DIGITS_MAX < size.len() {
        return Err(Refusal::ChunkSizeMalformed);
    }
    if CHUNK_EXTENSION_BYTES_MAX < extensions.len() {
        return Err(Refusal::ChunkExtensionTooLong);
    }
    match extensions.first() {
        None => {}
        Some(b';') => chunk_extensions(extensions)?,
        Some(_) => return Err(Refusal::ChunkSizeMalformed),
    }
    let size = size.iter().fold(0, |size, digit| size << 4 | u64::from(hex_value(*digit)));
    Ok(size)
}

/// Passes `;name`, `;name=token` and `;name="quoted"`, any number of them, without the white space
/// that RFC 9112 calls bad.
fn chunk_extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    while let Some(after) = rest.strip_prefix(b";") {
        rest = token(after)?;
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => quoted_string(quoted)?,
                None => token(value)?,
            };
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Refusal::ChunkExtensionMalformed) }
}

/// What follows a token of at least one byte.
fn token(text: &[u8]) -> Result<&[u8], Refusal> {
    match text.iter().take_while(|byte| is_token(**byte)).count() {
        0 => Err(Refusal::ChunkExtensionMalformed),
        length => Ok(&text[length..]),
    }
}

/// What follows the closing quote.
fn quoted_string(text: &[u8]) -> Result<&[u8], Refusal> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok(&text[at + 1..]),
            b'\\' if bytes.next().is_some_and(|(_, byte)| is_quotable(*byte)) => {}
            byte if *byte != b'\\' && is_quotable(*byte) => {}
            _ => break,
        }
    }
    Err(Refusal::ChunkExtensionMalformed)
}

fn is_quotable(byte: u8) -> bool {
    byte == b'\t' || byte == b' ' || byte.is_ascii_graphic()
}

/// A byte of a token, as RFC 9110 5.6.2 has it.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The value of a hexadecimal digit; zero for any other byte.
pub(super) fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}
