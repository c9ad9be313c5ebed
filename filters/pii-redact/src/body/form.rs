//! `name=value&…` as in forms and queries: names and values are scanned, each percent-decoded;
//! structure passes. A name is context for its value.

use crate::redactor::{Escape, Redactor};
use crate::scanner::Blocked;

/// Text with percent escapes.
#[derive(Debug)]
pub(crate) struct Percent {
    /// What begins an escape, up to three bytes.
    pending: Vec<u8>,
    /// How a replacement is written.
    escape: Escape,
}

impl Percent {
    pub(crate) fn new(escape: Escape) -> Self {
        Self { pending: Vec::new(), escape }
    }

    /// Text of one segment; `plus` stands for a space.
    pub(crate) fn push(
        &mut self,
        text: &[u8],
        plus: bool,
        to: &mut Redactor,
    ) -> Result<(), Blocked> {
        let mut begin = 0;
        for (index, &byte) in text.iter().enumerate() {
            if !self.pending.is_empty() {
                begin = index + 1;
                self.digit(byte, plus, to)?;
            } else if byte == b'%' || byte == b'+' && plus {
                to.text(&text[begin..index], self.escape)?;
                begin = index + 1;
                self.special(byte, to);
            }
        }
        to.text(&text[begin..], self.escape)
    }

    fn special(&mut self, byte: u8, to: &mut Redactor) {
        if byte == b'%' {
            self.pending.push(byte);
        } else {
            to.encoded(b" ", b"+", self.escape);
        }
    }

    fn digit(&mut self, byte: u8, plus: bool, to: &mut Redactor) -> Result<(), Blocked> {
        if !byte.is_ascii_hexdigit() {
            self.flush(to)?;
            return self.push(&[byte], plus, to);
        }
        self.pending.push(byte);
        if let [_, high, low] = self.pending[..] {
            let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
            to.encoded(&[digit(high) << 4 | digit(low)], &[b'%', high, low], self.escape);
            self.pending.clear();
        }
        Ok(())
    }

    /// A percent sign that begins no escape stands for itself.
    fn flush(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        let pending = std::mem::take(&mut self.pending);
        to.text(&pending, self.escape)
    }

    /// The segment has ended.
    pub(crate) fn end(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.flush(to)?;
        to.end(self.escape)
    }
}

/// Writes a replacement into a form.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) {
            out.push(byte);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Form {
    percent: Percent,
    /// After the `=` of a pair.
    in_value: bool,
    /// Something of the name or value has been read.
    begun: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self { percent: Percent::new(escape), in_value: false, begun: false }
    }
}

impl Form {
    pub(crate) fn push(&mut self, chunk: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        let mut begin = 0;
        for (index, &byte) in chunk.iter().enumerate() {
            if byte == b'&' || byte == b'=' && !self.in_value {
                self.text(&chunk[begin..index], to)?;
                self.percent.end(to)?;
                to.structure(&[byte]);
                to.context(b" ");
                self.in_value = byte == b'=';
                self.begun = false;
                begin = index + 1;
            }
        }
        self.text(&chunk[begin..], to)
    }

    fn text(&mut self, text: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        let mut text = text;
        if let [b'+', rest @ ..] = text
            && !self.begun
        {
            // A leading plus is meant as one: clients forget to escape that of a phone number.
            to.encoded(b"+", b"+", escape);
            text = rest;
            self.begun = true;
        }
        self.begun |= !text.is_empty();
        self.percent.push(text, true, to)
    }

    pub(crate) fn end(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.percent.end(to)?;
        *self = Self::default();
        Ok(())
    }
}
