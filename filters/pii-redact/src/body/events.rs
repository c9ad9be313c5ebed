//! Server-sent events: the data of each line is scanned as JSON or text, as it begins; the rest of
//! the lines as text. A match does not cross lines.
//!
//! ```text
//!  data: {"delta":"taro@example.com"}\n      field, colon and space pass; the rest is the payload
//!  id: 7\n
//!  \n                                         ends the event: JSON begins anew
//! ```

use super::json::{Json, Options};
use crate::redactor::{Redactor, plain};
use crate::scanner::Blocked;

const DATA: &[u8] = b"data:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a line's begin; what is there so far begins `data:`.
    Field(usize),
    /// Behind `data:`; spaces pass.
    Payload,
    /// In a payload that is JSON.
    Json,
    /// In a payload or another line that is text.
    Text,
}

#[derive(Debug)]
pub(crate) struct Events {
    state: State,
    json: Json,
    /// The event's data are JSON; `None`: it has none yet.
    is_json: Option<bool>,
    /// The last byte was a carriage return: a line feed belongs to it.
    returned: bool,
}

impl Events {
    pub(crate) fn new(options: Options) -> Self {
        let json = Json::new(Options { lines: false, ..options });
        Self { state: State::Field(0), json, is_json: None, returned: false }
    }

    pub(crate) fn push(&mut self, chunk: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            if byte == b'\n' || byte == b'\r' {
                self.line_end(byte, to)?;
                rest = &rest[1..];
                continue;
            }
            self.returned = false;
            let used = match self.state {
                State::Field(len) => self.field(len, byte, to)?,
                State::Payload => self.payload(byte, to),
                State::Json | State::Text => {
                    let len = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    let line = &rest[..len];
                    match self.state {
                        State::Json => self.json.push(line, to)?,
                        _ => to.text(line, plain)?,
                    }
                    len
                }
            };
            rest = &rest[used..];
        }
        Ok(())
    }

    fn field(&mut self, len: usize, byte: u8, to: &mut Redactor) -> Result<usize, Blocked> {
        if DATA[len] != byte {
            self.state = State::Text;
            to.text(&DATA[..len], plain)?;
            return Ok(0);
        }
        self.state = State::Field(len + 1);
        if len + 1 == DATA.len() {
            to.structure(DATA);
            self.state = State::Payload;
        }
        Ok(1)
    }

    fn payload(&mut self, byte: u8, to: &mut Redactor) -> usize {
        if byte == b' ' {
            to.structure(b" ");
            return 1;
        }
        let is_json = *self.is_json.get_or_insert(matches!(byte, b'{' | b'[' | b'"'));
        self.state = if is_json { State::Json } else { State::Text };
        0
    }

    fn line_end(&mut self, byte: u8, to: &mut Redactor) -> Result<(), Blocked> {
        let tail = byte == b'\n' && self.returned;
        self.finish_line(to)?;
        to.structure(&[byte]);
        if self.state == State::Field(0) && !tail {
            self.json.end(to)?;
            self.is_json = None;
        }
        self.state = State::Field(0);
        self.returned = byte == b'\r';
        Ok(())
    }

    fn finish_line(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        match self.state {
            State::Field(len) => {
                to.text(&DATA[..len], plain)?;
                to.end(plain)
            }
            State::Json => self.json.settle(to),
            State::Payload => Ok(()),
            State::Text => to.end(plain),
        }
    }

    pub(crate) fn end(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.finish_line(to)?;
        self.json.end(to)
    }
}
