//! A head as raw bytes: where it ends, and what its parser would forgive.
//!
//! The parser forgives bare line feeds and empty lines, so that lines are checked here first; what
//! it does refuse, [`diagnose`] names.

use memchr::memchr;

use super::{Refusal, framing::is_token};
use crate::codec::CodecLimits;

#[cfg(test)]
mod tests;

/// The most that a method and the spaces and version of a request line may take, in bytes.
const METHOD_AND_VERSION_BYTES_MAX: usize = 64;

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::codec) struct HeadLimits {
    pub(in crate::codec) bytes: usize,
    pub(in crate::codec) first_line_bytes: usize,
    pub(in crate::codec) fields: usize,
}

/// Looks for the end of a head while it arrives; no byte is looked at twice.
#[derive(Debug, Default)]
pub(in crate::codec) struct HeadScan {
    /// Where the first byte that was not looked at is.
    next: usize,
    /// Where the current line begins.
    line: usize,
    lines: usize,
    /// Whether an empty line stood before the request line: one may (RFC 9112, 2.2).
    skipped: bool,
}

/// A head within the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct HeadBounds {
    pub(in crate::codec) begin: usize,
    /// After the empty line.
    pub(in crate::codec) end: usize,
}

// === impl HeadLimits ===

impl From<&CodecLimits> for HeadLimits {
    fn from(limits: &CodecLimits) -> Self {
        Self {
            bytes: limits.head_bytes_max,
            first_line_bytes: limits.target_bytes_max + METHOD_AND_VERSION_BYTES_MAX,
            fields: limits.headers_max,
        }
    }
}

// === impl HeadScan ===

impl HeadScan {
    /// Looks at what was not looked at before. `bytes` begins where it did the last time.
    pub(in crate::codec) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<HeadBounds>, Refusal> {
        while let Some(length) = memchr(b'\n', &bytes[self.next..]) {
            let line_feed = self.next + length;
            let line = whole_line(&bytes[self.line..=line_feed])?;
            self.next = line_feed + 1;
            self.line = self.next;
            match (line.is_empty(), self.lines) {
                (true, 0) if self.skipped => return Err(Refusal::RequestLineMalformed),
                (true, 0) => self.skipped = true,
                (true, _) => {
                    let begin = if self.skipped { 2 } else { 0 };
                    let bounds = HeadBounds { begin, end: self.next };
                    return within(bounds.end, limits).map(|()| Some(bounds));
                }
                (false, lines) if limits.fields < lines => {
                    return Err(Refusal::TooManyFields);
                }
                (false, lines) => {
                    if lines == 0 {
                        first_line(line, limits)?;
                    }
                    self.lines += 1;
                }
            }
        }
        self.next = bytes.len();
        self.unfinished(bytes, limits).map(|()| None)
    }

    /// What can be told before the end is seen.
    fn unfinished(&self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        if self.lines == 0 {
            // A TLS hello on a plain port is answered at once, not after the time for a head.
            let line = &bytes[self.line..];
            first_line(line.strip_suffix(b"\r").unwrap_or(line), limits)?;
        }
        within(bytes.len(), limits)
    }
}

/// What can be told of a first line and of each beginning of it, so that the verdict does not depend
/// on how the bytes arrive.
fn first_line(line: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    match line.first() {
        Some(first) if !is_token(*first) => Err(Refusal::MethodMalformed),
        _ if limits.first_line_bytes < line.len() => Err(Refusal::TargetTooLong),
        _ => Ok(()),
    }
}

fn within(length: usize, limits: &HeadLimits) -> Result<(), Refusal> {
    if limits.bytes < length { Err(Refusal::HeadTooLong) } else { Ok(()) }
}

/// A line without its end, which must be CRLF with no other CR before it.
fn whole_line(line: &[u8]) -> Result<&[u8], Refusal> {
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::BareLineFeed)?;
    if memchr(b'\r', line).is_some() { Err(Refusal::BareCarriageReturn) } else { Ok(line) }
}

/// Passes bytes whose every line ends in CRLF, the last one included.
pub(in crate::codec) fn whole_lines(bytes: &[u8]) -> Result<(), Refusal> {
    bytes.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| whole_line(line).map(|_| ()))
}

/// Passes a name that no origin can take for another one.
pub(in crate::codec) fn field_name(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'_') { Err(Refusal::FieldNameUnderscore) } else { Ok(()) }
}

/// Refuses white space around a value: HTTP/1 strips it, HTTP/2 forbids it, and who keeps it compares
/// another value than who does not.
///
/// # Source
///
/// RFC 9113, section 8.2.1.
pub(in crate::codec) fn field_value(value: &[u8]) -> Result<(), Refusal> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match is_space(value.first()) || is_space(value.last()) {
        true => Err(Refusal::FieldMalformed),
        false => Ok(()),
    }
}

/// Names what is wrong with a head that the parser refused.
pub(in crate::codec) fn diagnose(head: &[u8]) -> Refusal {
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request = lines.next().map_or(Err(Refusal::RequestLineMalformed), request_line);
    let fields = || lines.filter(|line| !line.is_empty()).try_for_each(field_line);
    request.and_then(|()| fields()).err().unwrap_or(Refusal::FieldMalformed)
}

/// Names what the parser does not let pass in a target; what it does, [`super::target()`] checks.
fn plain_target(target: &[u8]) -> Result<(), Refusal> {
    match target.iter().find(|byte| !byte.is_ascii_graphic()) {
        None => Ok(()),
        Some(0x80..) => Err(Refusal::TargetNotAscii),
        Some(_) => Err(Refusal::TargetMalformed),
    }
}

/// Passes `METHOD target HTTP/1.x`, each apart by one space.
fn request_line(line: &[u8]) -> Result<(), Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if !method.is_some_and(|method| !method.is_empty() && method.iter().all(|b| is_token(*b))) {
        return Err(Refusal::MethodMalformed);
    }
    let (Some(target), Some(version), None) = (target, version, words.next()) else {
        return Err(Refusal::RequestLineMalformed);
    };
    match version {
        _ if target.is_empty() => Err(Refusal::RequestLineMalformed),
        b"HTTP/1.1" | b"HTTP/1.0" => plain_target(target),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::VersionUnsupported)
        }
        _ => Err(Refusal::RequestLineMalformed),
    }
}

/// Passes `name: value`.
fn field_line(line: &[u8]) -> Result<(), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::FoldedField);
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(Refusal::FieldMalformed);
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name.last() {
        None => return Err(Refusal::FieldNameEmpty),
        Some(b' ' | b'\t') => return Err(Refusal::WhitespaceBeforeColon),
        Some(_) if !name.iter().all(|byte| is_token(*byte)) => {
            return Err(Refusal::FieldNameMalformed);
        }
        Some(_) => {}
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Refusal::ControlCharacter);
    }
    Ok(())
}
