//! Looks at eight bytes at once, within a word: not every host has WebAssembly's vectors.

/// One in each byte of a word.
const EACH: u64 = 0x0101_0101_0101_0101;
/// The high bit of each.
const HIGH: u64 = EACH * 0x80;
const SPACES: u64 = EACH * b' ' as u64;

/// Whether eight bytes are all spaces or ASCII behind `@`: most text is, and no match begins there.
pub(crate) fn is_prose(eight: [u8; 8]) -> bool {
    let bytes = u64::from_le_bytes(eight);
    // Sums of seven bits each: the high bit tells, and nothing is carried to the next byte.
    let low = bytes & !HIGH;
    let behind_at = low + EACH * (0x7F - b'@' as u64);
    let no_space = (low ^ SPACES) + EACH * 0x7F;
    (bytes | (!behind_at & no_space)) & HIGH == 0
}

/// Where the first of two bytes stands.
pub(crate) fn find_either(one: u8, other: u8, text: &[u8]) -> Option<usize> {
    let (one_each, other_each) = (EACH * u64::from(one), EACH * u64::from(other));
    // Tells at least whether a byte of the word is zero; a borrow may tell of one more behind it.
    let zero = |word: u64| word.wrapping_sub(EACH) & !word & HIGH;
    let neither = |eight: &&[u8; 8]| {
        let bytes = u64::from_le_bytes(**eight);
        zero(bytes ^ one_each) | zero(bytes ^ other_each) == 0
    };
    let start = text.as_chunks().0.iter().take_while(neither).count() * 8;
    let place = text[start..].iter().position(|&byte| byte == one || byte == other)?;
    Some(start + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_are_prose_if_each_is_a_space_or_ascii_behind_the_at_sign() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut eight = *b"ab yz~\x7F ";
                eight[place] = byte;
                let prose = byte == b' ' || (b'A'..0x80).contains(&byte);
                assert_eq!(is_prose(eight), prose, "{byte:x} at {place}");
            }
        }
    }

    #[test]
    fn the_first_of_two_bytes_is_found_wherever_it_stands() {
        for len in 0..20 {
            for place in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; len];
                    text[place] = byte;
                    let want = text.iter().position(|byte| b"\"\\".contains(byte));
                    assert_eq!(find_either(b'"', b'\\', &text), want, "{byte:x} at {place}");
                }
            }
        }
    }
}
