//! Whether a number's name stands near it: in the text before, the key before, or right behind.

use crate::chars::{Folded, OTHER, fold};
use crate::window::{More, Window};

/// How much text before a number is searched for its name, in bytes; keys and earlier values too.
pub(crate) const BEFORE_BYTES: usize = 128;
/// How much text behind it, in the same value.
pub(crate) const BEHIND_BYTES: usize = 48;

/// Names in lower case, without gaps; a long-vowel mark is a gap.
pub(crate) type Names = [&'static str];

pub(crate) const MY_NUMBER: [&str; 5] =
    ["マイナンバ", "ﾏｲﾅﾝﾊﾞ", "個人番号", "mynumber", "individualnumber"];
pub(crate) const SSN: [&str; 3] = ["ssn", "socialsecurity", "socialsec"];
pub(crate) const PHONE: [&str; 8] =
    ["tel", "phone", "fax", "mobile", "cell", "電話", "携帯", "連絡先"];

/// Whether one of the names stands near the text from `place` to `end`.
pub(crate) fn names(
    window: &Window<'_>,
    place: usize,
    end: usize,
    names: &Names,
) -> Result<bool, More> {
    if contains(window.context_before(place, BEFORE_BYTES), names) {
        return Ok(true);
    }
    Ok(contains(window.context_behind(end, BEHIND_BYTES)?, names))
}

/// A text without gaps, in lower case.
struct Plain {
    bytes: [u8; BEFORE_BYTES],
    /// A word begins with this byte.
    begins: [bool; BEFORE_BYTES],
    len: usize,
}

impl Plain {
    fn push(&mut self, byte: u8, begins: bool) {
        if self.len < BEFORE_BYTES {
            self.bytes[self.len] = byte;
            self.begins[self.len] = begins;
            self.len += 1;
        }
    }

    fn read(text: &[u8]) -> Self {
        let mut plain = Self { bytes: [0; BEFORE_BYTES], begins: [false; BEFORE_BYTES], len: 0 };
        let (mut rest, mut before) = (text, b' ');
        while !rest.is_empty() {
            let (symbol, len) = match fold(rest) {
                Folded::Symbol(symbol, len) => (symbol, len),
                Folded::Unseen(len) => (0, len),
                Folded::Cut => (OTHER, 1),
            };
            if symbol.is_ascii_alphanumeric() {
                let camel = before.is_ascii_lowercase() && symbol.is_ascii_uppercase();
                plain.push(symbol.to_ascii_lowercase(), camel || !before.is_ascii_alphabetic());
            } else if symbol == OTHER {
                rest[..len].iter().for_each(|&byte| plain.push(byte, true));
            }
            if symbol != 0 {
                before = symbol;
            }
            rest = &rest[len..];
        }
        plain
    }
}

fn contains(text: &[u8], names: &Names) -> bool {
    let plain = Plain::read(text);
    let bytes = &plain.bytes[..plain.len];
    names.iter().any(|name| {
        bytes
            .windows(name.len())
            .zip(&plain.begins)
            .any(|(here, &begins)| begins && here == name.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_spelling_but_not_inside_of_words() {
        for text in ["my number:", "My_Number", "MYNUMBER", "userMyNumber", "ＭＹ　ｎｕｍｂｅｒ"]
        {
            assert!(contains(text.as_bytes(), &MY_NUMBER), "{text}");
        }
        for text in ["マイナンバー", "マイナンバーカード", "ﾏｲﾅﾝﾊﾞｰ", "私の個人番号は"]
        {
            assert!(contains(text.as_bytes(), &MY_NUMBER), "{text}");
        }
        for text in ["classname", "passNumber", "a mission"] {
            assert!(!contains(text.as_bytes(), &SSN), "{text}");
        }
        assert!(!contains("enemynumber".as_bytes(), &MY_NUMBER));
        assert!(contains(b"userSsn", &SSN) && contains(b"emp_ssn", &SSN));
    }
}
