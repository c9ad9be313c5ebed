//! What a character looks like to the detectors: full-width forms, other digits, dashes and spaces
//! become ASCII; characters that are not seen are passed over.

/// Stands for every character that no detector knows.
pub(crate) const OTHER: u8 = 0x80;

/// What stands at a place of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    /// A character, as ASCII or [`OTHER`], and its length in bytes.
    Symbol(u8, usize),
    /// A character that is not seen (zero width, soft hyphen, NUL), and its length.
    Unseen(usize),
    /// The text ends within a character.
    Cut,
}

/// Folds the character at the front of `bytes`, which are not empty. What is not UTF-8 is read byte
/// by byte. `Cut` is answered only for a beginning that more bytes could complete.
pub(crate) fn fold(bytes: &[u8]) -> Folded {
    let lead = bytes[0];
    let len = match lead {
        0 => return Folded::Unseen(1),
        1..=0x7F => return Folded::Symbol(lead, 1),
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Folded::Symbol(OTHER, 1),
    };
    let mut code = u32::from(lead) & (0x7F >> len);
    for index in 1..len {
        match bytes.get(index) {
            None => return Folded::Cut,
            Some(byte) if byte & 0xC0 == 0x80 => code = code << 6 | u32::from(byte & 0x3F),
            Some(_) => return Folded::Symbol(OTHER, 1),
        }
    }
    match symbol(code) {
        Some(symbol) => Folded::Symbol(symbol, len),
        None => Folded::Unseen(len),
    }
}

/// `None`: not seen.
fn symbol(code: u32) -> Option<u8> {
    Some(match code {
        // Kana, first because they are the most frequent.
        0x3041..=0x30FB => OTHER,
        0xFF01..=0xFF5E => (code - 0xFF01) as u8 + b'!',
        // Spaces: no-break, en quad to hair, narrow no-break, ideographic.
        0xA0 | 0x2000..=0x200A | 0x202F | 0x3000 => b' ',
        // Dashes, the minus sign, and the long-vowel marks that stand for one in Japanese numbers.
        0x2010..=0x2015 | 0x2212 | 0x30FC | 0xFF70 => b'-',
        0xAD | 0x200B..=0x200F | 0x2060..=0x2064 | 0xFEFF => return None,
        0x660..=0x669 => (code - 0x660) as u8 + b'0',
        0x6F0..=0x6F9 => (code - 0x6F0) as u8 + b'0',
        0x1D7CE..=0x1D7FF => ((code - 0x1D7CE) % 10) as u8 + b'0',
        _ => kanji_digit(code).unwrap_or(OTHER),
    })
}

fn kanji_digit(code: u32) -> Option<u8> {
    Some(match code {
        0x3007 | 0x96F6 => b'0',
        0x4E00 => b'1',
        0x4E8C => b'2',
        0x4E09 => b'3',
        0x56DB => b'4',
        0x4E94 => b'5',
        0x516D => b'6',
        0x4E03 => b'7',
        0x516B => b'8',
        0x4E5D => b'9',
        _ => return None,
    })
}

/// Whether a byte can begin a character that folds to something other than [`OTHER`] or is unseen.
pub(crate) const fn may_fold(lead: u8) -> bool {
    matches!(lead, 0 | 0xC2 | 0xD9 | 0xDB | 0xE2..=0xE5 | 0xE9 | 0xEF | 0xF0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_digit_reads_as_that_digit() {
        for text in ["5", "５", "五", "٥", "۵", "𝟓", "𝟻"] {
            assert_eq!(fold(text.as_bytes()), Folded::Symbol(b'5', text.len()), "{text}");
        }
    }

    #[test]
    fn dashes_and_spaces_read_as_ascii_and_unseen_characters_are_told() {
        for text in ["-", "‐", "–", "—", "−", "ー", "ｰ", "－"] {
            assert_eq!(fold(text.as_bytes()), Folded::Symbol(b'-', text.len()), "{text}");
        }
        for text in [" ", "\u{a0}", "\u{3000}", "\u{202f}"] {
            assert_eq!(fold(text.as_bytes()), Folded::Symbol(b' ', text.len()), "{text:?}");
        }
        for text in ["\0", "\u{200b}", "\u{ad}", "\u{feff}"] {
            assert_eq!(fold(text.as_bytes()), Folded::Unseen(text.len()), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_read_byte_by_byte_and_a_cut_character_waits() {
        assert_eq!(fold(b"\xFF5"), Folded::Symbol(OTHER, 1));
        assert_eq!(fold(b"\xE3\x80"), Folded::Cut);
        assert_eq!(fold(b"\xE3a"), Folded::Symbol(OTHER, 1));
        assert_eq!(fold("あ".as_bytes()), Folded::Symbol(OTHER, 3));
    }

    #[test]
    fn a_lead_byte_that_may_not_fold_begins_only_other_characters() {
        for code in 1..=0x1_FFFF {
            let Some(char) = char::from_u32(code) else { continue };
            let mut bytes = [0; 4];
            let bytes = char.encode_utf8(&mut bytes).as_bytes();
            if code >= 0x80 && !may_fold(bytes[0]) {
                assert_eq!(fold(bytes), Folded::Symbol(OTHER, bytes.len()), "{code:x}");
            }
        }
    }
}
