//! The escapes of JSON strings, read and written.

/// A backslash, `u`, four digits, twice: a pair of surrogates.
const ESCAPE_BYTES_MAX: usize = 12;
const HALF: usize = 6;

/// An escape that is being read, from its backslash on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Escape {
    bytes: [u8; ESCAPE_BYTES_MAX],
    len: usize,
}

impl Escape {
    /// Takes what is needed from the front of `rest`: how much.
    pub(crate) fn push(&mut self, rest: &[u8]) -> usize {
        let mut used = 0;
        while used < rest.len() && self.read().is_none() {
            self.bytes[self.len] = rest[used];
            self.len += 1;
            used += 1;
        }
        used
    }

    /// What has been read of an escape that ends here unfinished.
    pub(crate) fn end(&self) -> Vec<u8> {
        self.bytes[..self.len].to_vec()
    }

    /// The raw of the escape, its character, and what was read too much; `None`: it goes on.
    /// An escape that JSON does not have stands for its last character.
    pub(crate) fn read(&self) -> Option<(&[u8], char, &[u8])> {
        let bytes = &self.bytes[..self.len];
        let whole = |len: usize, char: char| Some((&bytes[..len], char, &bytes[len..]));
        match bytes {
            [] | [_] => None,
            [b'\\', b'u', digits @ ..] => {
                let first = hex(digits);
                let valid = digits.iter().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
                match first {
                    // Not four digits: the backslash stands for nothing.
                    None if valid < digits.len().min(4) => whole(2, 'u'),
                    None => None,
                    Some(high @ 0xD800..0xDC00) => self.pair(high),
                    Some(code) => {
                        whole(HALF, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                    }
                }
            }
            [_, byte, ..] => whole(2, simple(*byte)),
        }
    }

    /// The character of a high surrogate and what follows it.
    fn pair(&self, high: u32) -> Option<(&[u8], char, &[u8])> {
        let bytes = &self.bytes[..self.len];
        let follows = &bytes[HALF..];
        let alone = (&bytes[..HALF], char::REPLACEMENT_CHARACTER, follows);
        match follows {
            [] | [b'\\'] => None,
            [b'\\', b'u', digits @ ..] => match hex(digits) {
                Some(low @ 0xDC00..0xE000) => {
                    let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                    Some((bytes, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), &[]))
                }
                None if digits.iter().all(u8::is_ascii_hexdigit) => None,
                _ => Some(alone),
            },
            _ => Some(alone),
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits
        .get(..4)?
        .iter()
        .try_fold(0, |all, &digit| Some(all << 4 | char::from(digit).to_digit(16)?))
}

fn simple(byte: u8) -> char {
    match byte {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        0x80.. => char::REPLACEMENT_CHARACTER,
        _ => char::from(byte),
    }
}

/// Writes text into a JSON string.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(usize, char)> {
        let mut escape = Escape::default();
        let used = escape.push(text.as_bytes());
        let (raw, char, unread) = escape.read()?;
        assert_eq!(used, raw.len() + unread.len());
        Some((raw.len(), char))
    }

    #[test]
    fn escapes_are_read_to_their_characters() {
        let cases = [
            (r"\n", Some((2, '\n'))),
            (r"\/", Some((2, '/'))),
            (r#"\""#, Some((2, '"'))),
            (r"\u0040x", Some((6, '@'))),
            (r"\u30De", Some((6, 'マ'))),
            (r"\ud835\udfd3", Some((12, '𝟓'))),
            (r"\ud835x", Some((6, '\u{fffd}'))),
            (r"\ud835\n", Some((6, '\u{fffd}'))),
            (r"\ud835\u0041", Some((6, '\u{fffd}'))),
            (r"\udfd3", Some((6, '\u{fffd}'))),
            (r"\u00g0", Some((2, 'u'))),
            (r"\u004", None),
            (r"\ud835\udf", None),
            (r"\", None),
        ];
        for (text, want) in cases {
            assert_eq!(read(text), want, "{text}");
        }
    }
}
