//! Multipart bodies: the heads of the parts (field and file names) and text parts are scanned; parts
//! that their head declares to be something else, or to be in base64, pass.
//!
//! ```text
//!  --boundary\r\n  head lines \r\n  \r\n  content  \r\n--boundary\r\n … \r\n--boundary--
//! ```

use super::content::{Kind, kind};
use super::json::{Json, Options};
use crate::redactor::{Redactor, plain};
use crate::scanner::Blocked;

/// What is remembered of a part's head to learn its type, in bytes; the rest is scanned all the same.
const HEAD_BYTES_MAX: usize = 4096;
const HEAD_END: u32 = u32::from_be_bytes(*b"\r\n\r\n");

#[derive(Debug)]
enum State {
    /// In the head of a part.
    Head,
    Text,
    Json(Box<Json>),
    /// A part that passes.
    Other,
}

#[derive(Debug)]
pub(crate) struct Multipart {
    /// A line's end, two dashes and the boundary. Only its first byte is a carriage return.
    mark: Vec<u8>,
    /// How much of the mark the last bytes were; they are held back.
    matched: usize,
    /// How much of it is only thought of: a body may begin with the boundary itself.
    assumed: usize,
    state: State,
    head: Vec<u8>,
    /// The last four bytes of the head.
    head_tail: u32,
    options: Options,
}

impl Multipart {
    pub(crate) fn new(boundary: &[u8], options: Options) -> Self {
        Self {
            mark: [b"\r\n--", boundary].concat(),
            matched: 2,
            assumed: 2,
            state: State::Text,
            head: Vec::new(),
            head_tail: 0,
            options,
        }
    }

    pub(crate) fn push(&mut self, chunk: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            if self.mark[self.matched] == byte {
                rest = &rest[1..];
                self.matched += 1;
                if self.matched == self.mark.len() {
                    self.boundary(to)?;
                }
            } else if self.matched > 0 {
                self.unmatch(to)?;
            } else {
                let len = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
                self.give(&rest[..len], to)?;
                rest = &rest[len..];
            }
        }
        Ok(())
    }

    /// What looked like a boundary was none.
    fn unmatch(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        let text = self.mark[self.assumed..self.matched].to_vec();
        (self.matched, self.assumed) = (0, 0);
        self.give(&text, to)
    }

    fn boundary(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.end_part(to)?;
        to.structure(&self.mark[self.assumed..]);
        (self.matched, self.assumed) = (0, 0);
        self.state = State::Head;
        self.head.clear();
        self.head_tail = 0;
        Ok(())
    }

    fn give(&mut self, text: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        match &mut self.state {
            State::Head => self.give_head(text, to),
            State::Text => to.text(text, plain),
            State::Json(json) => json.push(text, to),
            State::Other => {
                to.structure(text);
                Ok(())
            }
        }
    }

    fn give_head(&mut self, text: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        for (index, &byte) in text.iter().enumerate() {
            self.head_tail = self.head_tail << 8 | u32::from(byte);
            if self.head.len() < HEAD_BYTES_MAX {
                self.head.push(byte.to_ascii_lowercase());
            }
            if self.head_tail == HEAD_END {
                to.text(&text[..=index], plain)?;
                to.end(plain)?;
                self.state = self.part();
                return self.give(&text[index + 1..], to);
            }
        }
        to.text(text, plain)
    }

    /// What the head that has ended says of its part.
    fn part(&self) -> State {
        let base64 = self.field(b"content-transfer-encoding:") == Some(b"base64");
        match self.field(b"content-type:").map(kind) {
            _ if base64 => State::Other,
            Some(Kind::Json | Kind::Lines) => State::Json(Box::new(Json::new(self.options))),
            Some(Kind::Media | Kind::Unknown | Kind::Charset) => State::Other,
            _ => State::Text,
        }
    }

    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let mut lines = self.head.split(|&byte| byte == b'\n');
        lines.find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
    }

    fn end_part(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        match &mut self.state {
            State::Json(json) => json.end(to),
            State::Head | State::Text => to.end(plain),
            State::Other => Ok(()),
        }
    }

    pub(crate) fn end(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.unmatch(to)?;
        self.end_part(to)
    }
}
