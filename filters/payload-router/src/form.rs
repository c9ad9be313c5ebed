//! Finds a field of a form (`application/x-www-form-urlencoded`) that arrives in pieces.
//!
//! The first field of a name counts. A `%` without two hexadecimal digits, in a name or in the
//! value, is malformed rather than guessed at.

use crate::scan::{KEY_BYTES_MAX, Scan, Why};

/// The scanner.
#[derive(Clone, Debug)]
pub struct Scanner {
    field: String,
    part: Part,
    /// The name, or the value that is looked for, as far as it has been read.
    text: Vec<u8>,
    /// Digits of a percent escape: how many came, and their value.
    escape: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Name,
    /// A name that is longer than the field's.
    OtherName,
    Value,
    OtherValue,
}

impl Scanner {
    /// Starts at the beginning of a form.
    pub fn new(field: &str) -> Self {
        Self { field: field.to_owned(), part: Part::Name, text: Vec::new(), escape: None }
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) -> Scan {
        for &byte in bytes {
            match self.step(byte) {
                Scan::More => {}
                decided => return decided,
            }
        }
        Scan::More
    }

    /// The form has ended.
    pub fn finish(&mut self) -> Scan {
        match self.step(b'&') {
            Scan::More => Scan::Missing(Why::Absent),
            decided => decided,
        }
    }

    fn step(&mut self, byte: u8) -> Scan {
        if self.part == Part::OtherValue && byte != b'&' {
            return Scan::More;
        }
        match (self.escape, byte) {
            (Some((digits, value)), _) => match char::from(byte).to_digit(16) {
                // A digit is below 16.
                Some(digit) if digits == 0 => self.escape = Some((1, digit as u8)),
                Some(digit) => {
                    self.escape = None;
                    return self.take(value << 4 | digit as u8);
                }
                None => return Scan::Missing(Why::Malformed),
            },
            (None, b'%') => self.escape = Some((0, 0)),
            (None, b'+') => return self.take(b' '),
            (None, b'&') => return self.end_field(),
            (None, b'=') if matches!(self.part, Part::Name | Part::OtherName) => {
                let found = self.part == Part::Name && self.text == self.field.as_bytes();
                self.part = if found { Part::Value } else { Part::OtherValue };
                self.text.clear();
            }
            (None, _) => return self.take(byte),
        }
        Scan::More
    }

    fn take(&mut self, byte: u8) -> Scan {
        match self.part {
            Part::Name if self.text.len() == self.field.len() => self.part = Part::OtherName,
            Part::Value if self.text.len() == KEY_BYTES_MAX => {
                return Scan::Missing(Why::TooLong);
            }
            Part::Name | Part::Value => self.text.push(byte),
            Part::OtherName | Part::OtherValue => {}
        }
        Scan::More
    }

    fn end_field(&mut self) -> Scan {
        let text = std::mem::take(&mut self.text);
        match std::mem::replace(&mut self.part, Part::Name) {
            Part::Value => match String::from_utf8(text) {
                Ok(value) => Scan::Found(value),
                Err(_) => Scan::Missing(Why::Malformed),
            },
            // A name without `=` has the empty value.
            Part::Name if text == self.field.as_bytes() => Scan::Found(String::new()),
            _ => Scan::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_the_same_however_the_form_is_cut() {
        let long = format!("a={}", "x".repeat(KEY_BYTES_MAX + 1));
        let cases = [
            ("a=x", Scan::Found("x".to_owned())),
            ("b=1&a=x&c=2", Scan::Found("x".to_owned())),
            ("a=x&a=y", Scan::Found("x".to_owned())),
            ("%61=x%2fy+z", Scan::Found("x/y z".to_owned())),
            ("a=%C3%A9", Scan::Found("é".to_owned())),
            ("ab=1&a=x", Scan::Found("x".to_owned())),
            ("a=x=y", Scan::Found("x=y".to_owned())),
            ("b&a", Scan::Found(String::new())),
            ("&&a=x", Scan::Found("x".to_owned())),
            ("b=%zz&a=x", Scan::Found("x".to_owned())),
            ("%zz=1&a=x", Scan::Missing(Why::Malformed)),
            ("a=%4", Scan::Missing(Why::Malformed)),
            ("a=%ff", Scan::Missing(Why::Malformed)),
            ("b=1", Scan::Missing(Why::Absent)),
            ("", Scan::Missing(Why::Absent)),
            (&long, Scan::Missing(Why::TooLong)),
        ];
        for (form, want) in cases {
            for chunk in 1..=form.len().clamp(1, 16) {
                let mut scanner = Scanner::new("a");
                let got = form.as_bytes().chunks(chunk).map(|piece| scanner.push(piece));
                let got = got.into_iter().find(|scan| *scan != Scan::More);
                assert_eq!(got.unwrap_or_else(|| scanner.finish()), want, "{form} by {chunk}");
            }
        }
    }
}
