//! Finds the value of a JSON pointer in a text that arrives in pieces, and reads no further.
//!
//! The scanner takes bytes, keeps no more than the value and its place, and gives the same result
//! for every way of cutting the text. What it passes over must be JSON too: a text that two readers
//! could understand differently decides nothing. The *first* member of a name counts, since a later
//! one is not read; a backend that takes the last sees another value in a text that repeats names.
//!
//! ```text
//!  Value ──scalar──► After ──,──► Value | Key ──"name"──► Colon ──:──► Value
//!    └──[ {── First ──]  }──► After
//! ```

use std::rc::Rc;

use crate::scan::{KEY_BYTES_MAX, Scan, Why};

/// How deep arrays and objects may lie in each other.
pub const DEPTH_MAX: usize = 128;

/// A JSON pointer, split at its slashes.
///
/// # Source
///
/// RFC 6901.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Rc<[String]>);

impl Pointer {
    /// Reads `/a/b~1c/0`; `None` when it has not the form.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Rc::default()));
        }
        text.strip_prefix('/')?.split('/').map(unescape).collect::<Option<_>>().map(Self)
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        text.push(match part.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        text.push_str(&part[1..]);
    }
    Some(text)
}

/// An open array or object.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The next element's index; `None` for an object.
    index: Option<usize>,
    /// The pointer leads through it.
    on_path: bool,
}

/// What the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Value,
    /// The first member or element, or the end of an empty container.
    First,
    /// A member's name.
    Key,
    Colon,
    /// After a value: a comma or the container's end.
    After,
    /// In a string: `key` tells a name from a value.
    Text {
        key: bool,
        escape: Escape,
    },
    /// What is left of `true`, `false` or `null`.
    Literal(&'static [u8]),
    Number(Number),
}

/// Where in an escape sequence of a string.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Escape {
    None,
    Backslash,
    /// `\u` and so many digits, with their value.
    Hex(u8, u16),
}

/// Where in a number; the places where it may end come first.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Number {
    Zero,
    Integer,
    Fraction,
    Exponent,
    Minus,
    Point,
    ExponentMark,
    ExponentSign,
}

/// The scanner.
#[derive(Clone, Debug)]
pub struct Scanner {
    pointer: Pointer,
    state: State,
    stack: Vec<Frame>,
    /// The value that comes next is on the pointer's path.
    on_path: bool,
    /// The name or value that is being read, if it matters.
    text: Vec<u8>,
    /// The name or value matters.
    keep: bool,
    /// It grew over [`KEY_BYTES_MAX`]: no longer a usable value, nor a pointer's name.
    too_long: bool,
    /// The first half of a surrogate pair.
    surrogate: Option<u16>,
}

impl Scanner {
    /// Starts at the beginning of a text.
    pub fn new(pointer: Pointer) -> Self {
        Self {
            pointer,
            state: State::Value,
            stack: Vec::new(),
            on_path: true,
            text: Vec::new(),
            keep: false,
            too_long: false,
            surrogate: None,
        }
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) -> Scan {
        for &byte in bytes {
            match self.step(byte) {
                Scan::More if self.too_long && self.is_target() => {
                    return Scan::Missing(Why::TooLong);
                }
                Scan::More => {}
                decided => return decided,
            }
        }
        Scan::More
    }

    /// The text has ended: only a number at the top can still be complete.
    pub fn finish(&mut self) -> Scan {
        match self.state {
            State::Number(number) if self.stack.is_empty() && number <= Number::Exponent => {
                self.end_scalar()
            }
            _ => Scan::Missing(Why::Malformed),
        }
    }

    fn step(&mut self, byte: u8) -> Scan {
        match self.state {
            State::Text { key, escape } => self.text(byte, key, escape),
            State::Literal(rest) => self.literal(byte, rest),
            State::Number(number) => self.number(byte, number),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Scan::More,
            State::Value => self.value(byte),
            State::First => self.first(byte),
            State::Key if byte == b'"' => self.begin_key(),
            State::Colon if byte == b':' => {
                self.state = State::Value;
                Scan::More
            }
            State::After => self.after(byte),
            State::Key | State::Colon => Scan::Missing(Why::Malformed),
        }
    }

    fn is_target(&self) -> bool {
        self.on_path && self.stack.len() == self.pointer.0.len()
    }

    /// Opens a value. A pointer that ends at a container, or goes on below a scalar, finds nothing:
    /// the first member of its name has been found already.
    fn value(&mut self, byte: u8) -> Scan {
        let container = matches!(byte, b'{' | b'[');
        if container && self.is_target() {
            return Scan::Missing(Why::NotScalar);
        }
        self.begin_text(self.is_target());
        self.state = match byte {
            b'{' | b'[' if self.stack.len() == DEPTH_MAX => return Scan::Missing(Why::TooDeep),
            b'{' | b'[' => {
                let index = (byte == b'[').then_some(0);
                self.stack.push(Frame { index, on_path: self.on_path });
                State::First
            }
            b'"' => State::Text { key: false, escape: Escape::None },
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => return Scan::Missing(Why::Malformed),
        };
        if !container && byte != b'"' {
            self.keep(&[byte]);
        }
        Scan::More
    }

    fn first(&mut self, byte: u8) -> Scan {
        match (byte, self.stack.last()) {
            (b']', Some(Frame { index: Some(_), .. }))
            | (b'}', Some(Frame { index: None, .. })) => self.close(),
            (b'"', Some(Frame { index: None, .. })) => self.begin_key(),
            (_, Some(Frame { index: Some(_), .. })) => {
                self.enter_element();
                self.value(byte)
            }
            _ => Scan::Missing(Why::Malformed),
        }
    }

    fn after(&mut self, byte: u8) -> Scan {
        match (byte, self.stack.last_mut()) {
            (b',', Some(Frame { index: Some(index), .. })) => {
                *index += 1;
                self.enter_element();
                self.state = State::Value;
                Scan::More
            }
            (b',', Some(Frame { index: None, .. })) => {
                self.state = State::Key;
                Scan::More
            }
            (b']', Some(Frame { index: Some(_), .. }))
            | (b'}', Some(Frame { index: None, .. })) => self.close(),
            _ => Scan::Missing(Why::Malformed),
        }
    }

    /// Leaves a container. If the pointer leads through it, what it names is not there.
    fn close(&mut self) -> Scan {
        self.state = State::After;
        match self.stack.pop() {
            Some(Frame { on_path: true, .. }) => Scan::Missing(Why::Absent),
            _ => Scan::More,
        }
    }

    fn enter_element(&mut self) {
        let token = self.pointer.0.get(self.stack.len() - 1);
        self.on_path = self.stack.last().is_some_and(|frame| {
            let index = frame.index.map(|index| index.to_string());
            frame.on_path && index.as_ref() == token
        });
    }

    fn begin_key(&mut self) -> Scan {
        self.begin_text(self.stack.last().is_some_and(|frame| frame.on_path));
        self.on_path = false;
        self.state = State::Text { key: true, escape: Escape::None };
        Scan::More
    }

    fn begin_text(&mut self, keep: bool) {
        self.text.clear();
        self.keep = keep;
        self.too_long = false;
        self.surrogate = None;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.keep {
            return;
        }
        if self.text.len() + bytes.len() > KEY_BYTES_MAX {
            self.too_long = true;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    fn text(&mut self, byte: u8, key: bool, escape: Escape) -> Scan {
        let next = match (escape, byte) {
            (Escape::None, b'"') => {
                return match self.surrogate {
                    Some(_) => Scan::Missing(Why::Malformed),
                    None if key => self.end_key(),
                    None => self.end_scalar(),
                };
            }
            (Escape::None, b'\\') => Escape::Backslash,
            (Escape::Backslash, b'u') => Escape::Hex(0, 0),
            // The other half of a pair must follow at once.
            (Escape::None | Escape::Backslash, _) if self.surrogate.is_some() => {
                return Scan::Missing(Why::Malformed);
            }
            (Escape::None, 0x20..) => {
                self.keep(&[byte]);
                Escape::None
            }
            (Escape::Backslash, _) => match escaped(byte) {
                Some(byte) => {
                    self.keep(&[byte]);
                    Escape::None
                }
                None => return Scan::Missing(Why::Malformed),
            },
            (Escape::Hex(digits, value), _) => match char::from(byte).to_digit(16) {
                // `digit` is below 16.
                Some(digit) if digits < 3 => Escape::Hex(digits + 1, value << 4 | digit as u16),
                Some(digit) if self.unit(value << 4 | digit as u16) => Escape::None,
                _ => return Scan::Missing(Why::Malformed),
            },
            (Escape::None, _) => return Scan::Missing(Why::Malformed),
        };
        self.state = State::Text { key, escape: next };
        Scan::More
    }

    /// Takes a UTF-16 unit; `false` for half a pair.
    fn unit(&mut self, unit: u16) -> bool {
        let character = match (self.surrogate.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.surrogate = Some(unit);
                return true;
            }
            (Some(high), _) => char::decode_utf16([high, unit]).next().and_then(Result::ok),
            (None, _) => char::from_u32(u32::from(unit)),
        };
        let Some(character) = character else { return false };
        self.keep(character.encode_utf8(&mut [0; 4]).as_bytes());
        true
    }

    fn end_key(&mut self) -> Scan {
        let token = self.pointer.0.get(self.stack.len() - 1);
        self.on_path = self.keep
            && !self.too_long
            && token.is_some_and(|token| token.as_bytes() == self.text.as_slice());
        self.state = State::Colon;
        Scan::More
    }

    fn literal(&mut self, byte: u8, rest: &'static [u8]) -> Scan {
        match rest {
            [next, rest @ ..] if *next == byte => {
                self.keep(&[byte]);
                self.state = State::Literal(rest);
                if rest.is_empty() { self.end_scalar() } else { Scan::More }
            }
            _ => Scan::Missing(Why::Malformed),
        }
    }

    fn number(&mut self, byte: u8, number: Number) -> Scan {
        use Number::{Exponent, ExponentMark, ExponentSign, Fraction, Integer, Minus, Point, Zero};
        let next = match (number, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => ExponentMark,
            (ExponentMark, b'+' | b'-') => ExponentSign,
            (ExponentMark | ExponentSign | Exponent, b'0'..=b'9') => Exponent,
            (
                Zero | Integer | Fraction | Exponent,
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}',
            ) => {
                return match self.end_scalar() {
                    Scan::More => self.step(byte),
                    decided => decided,
                };
            }
            _ => return Scan::Missing(Why::Malformed),
        };
        self.keep(&[byte]);
        self.state = State::Number(next);
        Scan::More
    }

    fn end_scalar(&mut self) -> Scan {
        let text = matches!(self.state, State::Text { .. });
        self.state = State::After;
        if !self.on_path {
            return Scan::More;
        }
        if !self.is_target() {
            return Scan::Missing(Why::Absent);
        }
        match String::from_utf8(std::mem::take(&mut self.text)) {
            Ok(value) if !text && value == "null" => Scan::Missing(Why::Absent),
            Ok(value) => Scan::Found(value),
            Err(_) => Scan::Missing(Why::Malformed),
        }
    }
}

fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
