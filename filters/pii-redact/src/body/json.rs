//! JSON, read as it arrives: string values go through the scan with their escapes decoded, keys and
//! structure pass, whole numbers may be replaced by strings.
//!
//! ```text
//!  Between ──"──► Text ──"──► Between        Between ──0-9 t f n …──► Bare ──,}] ──► Between
//!                  │ \                                                 │ none of JSON's words
//!                  ▼                                                   ▼
//!               Escape                                               Loose (scanned as text)
//! ```
//! What is not JSON is never passed unread: from the first word on that no JSON has, everything
//! outside of quotes is scanned as text, and everything inside still with its escapes decoded.

use memchr::{memchr, memchr2};

use super::json_escape::{Escape, escape};
use crate::bytes::find_either;
use crate::detect::Entity;
use crate::redactor::{Redactor, plain};
use crate::scanner::Blocked;

/// A number or word and the space behind it that are looked at as a whole, in bytes.
const BARE_BYTES_MAX: usize = 64;
/// Beyond that nesting, everything is scanned, keys too.
const DEPTH_MAX: usize = 1024;
/// What a number without quotes may be.
const NUMBERS: [Entity; 2] = [Entity::Card, Entity::MyNumber];
/// The fewest digits of those.
const NUMBER_DIGITS_MIN: usize = 12;

/// How JSON is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Numbers that are cards or individual numbers become strings.
    pub(crate) numbers: bool,
    /// Keys are scanned, too.
    pub(crate) keys: bool,
    /// Each line is a document of its own.
    pub(crate) lines: bool,
}

#[derive(Debug)]
enum State {
    Between,
    /// In a string; `true` for a key that is not scanned.
    Text(bool),
    /// In an escape of such a string.
    Escape(bool, Escape),
    /// In a number or word, or in the space behind it.
    Bare,
    /// Outside of strings in what is not JSON.
    Loose,
}

#[derive(Debug)]
pub(crate) struct Json {
    options: Options,
    state: State,
    /// The containers that are open: `true` for an object.
    open: Vec<bool>,
    /// The next string is a key.
    key_next: bool,
    /// What was read is not JSON.
    loose: bool,
    bare: Vec<u8>,
}

impl Json {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            state: State::Between,
            open: Vec::new(),
            key_next: false,
            loose: false,
            bare: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, chunk: &[u8], to: &mut Redactor) -> Result<(), Blocked> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = match &mut self.state {
                State::Between => self.between(rest, to),
                State::Text(key) => {
                    let key = *key;
                    self.string(rest, key, to)?
                }
                State::Escape(key, pending) => {
                    let (key, used) = (*key, pending.push(rest));
                    self.escape(key, to)?;
                    used
                }
                State::Bare => self.bare(rest, to)?,
                State::Loose => self.loose(rest, to)?,
            };
            rest = &rest[used..];
        }
        Ok(())
    }

    /// What is pending is complete; the next bytes go on where this stands. At a line's end within
    /// an event.
    pub(crate) fn settle(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        match &mut self.state {
            State::Escape(key, pending) => {
                let key = *key;
                let rest = pending.end();
                self.give(&rest, key, to)?;
                self.state = State::Text(key);
            }
            State::Bare => self.end_bare(to)?,
            State::Between | State::Text(_) | State::Loose => {}
        }
        to.end(escape)
    }

    /// The text has ended; another may follow.
    pub(crate) fn end(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.settle(to)?;
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        self.state = State::Between;
        self.open.clear();
        self.key_next = false;
        self.loose = false;
    }

    /// Structure, up to the next string or word.
    fn between(&mut self, rest: &[u8], to: &mut Redactor) -> usize {
        for (index, &byte) in rest.iter().enumerate() {
            match byte {
                b' ' | b'\t' | b'\r' | 0x1E | 0xEF | 0xBB | 0xBF => {}
                b'\n' => {
                    if self.options.lines {
                        self.reset();
                    }
                }
                b'{' | b'[' if self.open.len() >= DEPTH_MAX => {
                    self.loose = true;
                    self.state = State::Loose;
                    to.structure(&rest[..index]);
                    return index;
                }
                b'{' | b'[' => {
                    self.open.push(byte == b'{');
                    self.key_next = byte == b'{';
                }
                b'}' | b']' => {
                    self.open.pop();
                    self.key_next = false;
                }
                b',' => self.key_next = self.open.last().is_some_and(|&object| object),
                b':' => self.key_next = false,
                b'"' => {
                    to.structure(&rest[..=index]);
                    to.context(b" ");
                    self.state = State::Text(self.key_next && !self.options.keys);
                    self.key_next = false;
                    return index + 1;
                }
                _ => {
                    to.structure(&rest[..index]);
                    self.state = State::Bare;
                    return index;
                }
            }
        }
        to.structure(rest);
        rest.len()
    }

    /// A string, up to its end or an escape.
    fn string(&mut self, rest: &[u8], key: bool, to: &mut Redactor) -> Result<usize, Blocked> {
        let mut len = find_either(b'"', b'\\', rest).unwrap_or(rest.len());
        if self.options.lines {
            len = memchr(b'\n', &rest[..len]).unwrap_or(len);
        }
        self.give(&rest[..len], key, to)?;
        match rest.get(len) {
            None => Ok(len),
            Some(b'\\') => {
                self.state = State::Escape(key, Escape::default());
                Ok(len)
            }
            Some(&end) => {
                to.end(escape)?;
                to.structure(&[end]);
                if end == b'\n' {
                    self.reset();
                } else {
                    self.state = if self.loose { State::Loose } else { State::Between };
                }
                Ok(len + 1)
            }
        }
    }

    /// Text of a string that stands for itself.
    fn give(&mut self, text: &[u8], key: bool, to: &mut Redactor) -> Result<(), Blocked> {
        if key {
            to.structure(text);
            to.context(text);
            return Ok(());
        }
        to.text(text, escape)
    }

    /// Hands on what an escape has been read to, if it is whole.
    fn escape(&mut self, key: bool, to: &mut Redactor) -> Result<(), Blocked> {
        let State::Escape(_, pending) = &self.state else { return Ok(()) };
        let Some((raw, char, unread)) = pending.read() else { return Ok(()) };
        let mut bytes = [0; 4];
        let text = char.encode_utf8(&mut bytes).as_bytes();
        if key {
            to.structure(raw);
            to.context(text);
        } else {
            to.encoded(text, raw, escape);
        }
        let unread = unread.to_vec();
        self.state = State::Text(key);
        self.push(&unread, to)
    }

    /// A number or word, up to structure; what is neither makes the rest loose.
    fn bare(&mut self, rest: &[u8], to: &mut Redactor) -> Result<usize, Blocked> {
        for (index, &byte) in rest.iter().enumerate() {
            let line = byte == b'\n' && (self.open.is_empty() || self.options.lines);
            if line || matches!(byte, b',' | b'}' | b']' | b':' | b'{' | b'[' | b'"') {
                self.end_bare(to)?;
                return Ok(index);
            }
            let space = byte.is_ascii_whitespace();
            let second = !space && self.bare.last().is_some_and(u8::is_ascii_whitespace);
            if second || self.bare.len() == BARE_BYTES_MAX {
                self.end_long_bare(space && !second, to)?;
                return Ok(index);
            }
            self.bare.push(byte);
        }
        Ok(rest.len())
    }

    /// Too long, or two words in a row: no JSON, unless only space is too long.
    fn end_long_bare(&mut self, space: bool, to: &mut Redactor) -> Result<(), Blocked> {
        if space && is_json(self.bare.trim_ascii_end()) {
            return self.end_bare(to);
        }
        self.loosen(to)
    }

    fn loosen(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        self.loose = true;
        self.state = State::Loose;
        let bare = std::mem::take(&mut self.bare);
        to.text(&bare, plain)
    }

    fn end_bare(&mut self, to: &mut Redactor) -> Result<(), Blocked> {
        let word = self.bare.trim_ascii_end();
        if !is_json(word) {
            return self.loosen(to);
        }
        let whole = whole_digits(word);
        let replaced = if self.options.numbers && whole.len() >= NUMBER_DIGITS_MIN {
            to.number(whole, &NUMBERS)?
        } else {
            None
        };
        match replaced {
            None => to.structure(&self.bare),
            Some(replacement) => {
                let mut quoted = vec![b'"'];
                escape(&replacement, &mut quoted);
                quoted.push(b'"');
                to.structure(&quoted);
                to.structure(&self.bare[word.len()..]);
            }
        }
        self.bare.clear();
        self.state = State::Between;
        Ok(())
    }

    /// Text outside of strings that is not JSON, up to the next string.
    fn loose(&mut self, rest: &[u8], to: &mut Redactor) -> Result<usize, Blocked> {
        let lines = self.options.lines;
        let end = if lines { memchr2(b'"', b'\n', rest) } else { memchr(b'"', rest) };
        let len = end.unwrap_or(rest.len());
        to.text(&rest[..len], plain)?;
        let Some(&byte) = rest.get(len) else { return Ok(len) };
        to.end(plain)?;
        to.structure(&[byte]);
        if byte == b'\n' {
            self.reset();
        } else {
            self.state = State::Text(false);
        }
        Ok(len + 1)
    }
}

/// A number, or one of JSON's words.
fn is_json(word: &[u8]) -> bool {
    let number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    matches!(word, b"true" | b"false" | b"null")
        || matches!(word, [b'0'..=b'9' | b'-', ..]) && word.iter().all(number)
}

/// The digits of a number before its point or exponent.
fn whole_digits(number: &[u8]) -> &[u8] {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let len = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &number[..len]
}
