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

/// The bytes that a name may begin with, in either case; full-width letters, too.
const FIRST: [bool; 256] = first_bytes();

const fn first_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let sets: [&Names; 3] = [&MY_NUMBER, &SSN, &PHONE];
    let mut set = 0;
    while set < sets.len() {
        let mut name = 0;
        while name < sets[set].len() {
            let byte = sets[set][name].as_bytes()[0];
            table[byte as usize] = true;
            table[byte.to_ascii_uppercase() as usize] = true;
            name += 1;
        }
        set += 1;
    }
    table[0xEF] = true;
    table
}

fn contains(text: &[u8], names: &Names) -> bool {
    (0..text.len())
        .filter(|&place| FIRST[usize::from(text[place])] && begins_word(text, place))
        .any(|place| names.iter().any(|name| spells(&text[place..], name.as_bytes())))
}

/// No letter stands before, or a capital follows a small one.
fn begins_word(text: &[u8], place: usize) -> bool {
    let Some(before) = place.checked_sub(1).map(|before| text[before]) else { return true };
    let camel = before.is_ascii_lowercase() && text[place].is_ascii_uppercase();
    !before.is_ascii_alphabetic() || !text[place].is_ascii() || camel
}

/// The text begins with the name, in any case and with any gaps.
fn spells(text: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut name) = (text, name);
    while !name.is_empty() {
        if rest.is_empty() {
            return false;
        }
        let (symbol, len) = match fold(rest) {
            Folded::Symbol(symbol, len) => (symbol, len),
            Folded::Unseen(len) => (0, len),
            Folded::Cut => (OTHER, 1),
        };
        let (char, behind) = rest.split_at(len);
        rest = behind;
        let lower = [symbol.to_ascii_lowercase()];
        let expected: &[u8] = match symbol {
            OTHER => char,
            _ if symbol.is_ascii_alphanumeric() => &lower,
            _ => continue,
        };
        match name.strip_prefix(expected) {
            Some(left) => name = left,
            None => return false,
        }
    }
    true
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
