//! What is written instead of a match: a text, the match masked, or a keyed hash of it.

use sha2::{Digest, Sha256};

use crate::chars::{Folded, fold};
use crate::detect::Entity;

/// How many bytes of the hash are written, as hexadecimal digits.
const HASH_BYTES: usize = 16;
const BLOCK_BYTES: usize = 64;

/// How a match is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// A fixed text.
    Replace { with: String },
    /// Letters and digits become `char`, the first and last ones excepted; what separates them stays.
    Mask { char: char, keep_first: usize, keep_last: usize },
    /// `<NAME:hash>`: the same value has the same hash under one salt, however it is written.
    Hash { salt: Vec<u8> },
}

impl Operator {
    /// Rewrites a match.
    pub(crate) fn apply(&self, entity: Entity, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Replace { with } => with.clone().into_bytes(),
            Self::Mask { char, keep_first, keep_last } => {
                mask(text, *char, *keep_first, *keep_last)
            }
            Self::Hash { salt } => hash(entity, text, salt),
        }
    }
}

/// The characters of a match, whether each is a letter or digit, and its folded form.
fn characters(text: &[u8]) -> impl Iterator<Item = (&[u8], u8)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (symbol, len) = match fold(rest) {
            Folded::Symbol(symbol, len) => (symbol, len),
            Folded::Unseen(len) => (0, len),
            Folded::Cut => (crate::chars::OTHER, 1),
        };
        let (char, behind) = rest.split_at(len);
        rest = behind;
        Some((char, symbol))
    })
}

fn mask(text: &[u8], with: char, keep_first: usize, keep_last: usize) -> Vec<u8> {
    let total = characters(text).filter(|(_, symbol)| symbol.is_ascii_alphanumeric()).count();
    // Never the whole value: what would be kept all is masked all.
    let (first, last) =
        if keep_first + keep_last < total { (keep_first, keep_last) } else { (0, 0) };
    let mut masked = Vec::with_capacity(text.len());
    let mut index = 0;
    for (char, symbol) in characters(text) {
        if symbol == 0 {
            continue;
        }
        if !symbol.is_ascii_alphanumeric() {
            masked.extend_from_slice(char);
            continue;
        }
        if index < first || index + last >= total {
            masked.extend_from_slice(char);
        } else {
            masked.extend_from_slice(with.encode_utf8(&mut [0; 4]).as_bytes());
        }
        index += 1;
    }
    masked
}

fn hash(entity: Entity, text: &[u8], salt: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len() + 16);
    plain.extend_from_slice(entity.name().as_bytes());
    plain.push(0);
    plain.extend(characters(text).map(|(_, symbol)| symbol.to_ascii_lowercase()).filter(
        |symbol| match entity {
            Entity::Email | Entity::Ip => *symbol != 0,
            _ => symbol.is_ascii_alphanumeric() || *symbol == b'+',
        },
    ));
    let label = entity.label();
    let mut written = label.as_bytes()[..label.len() - 1].to_vec();
    written.push(b':');
    for byte in &hmac(salt, &plain)[..HASH_BYTES] {
        written.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    written.push(b'>');
    written
}

/// HMAC-SHA-256.
///
/// # Source
///
/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner =
        Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5C)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, keep_first: usize, keep_last: usize) -> String {
        String::from_utf8(mask(text.as_bytes(), '*', keep_first, keep_last)).unwrap()
    }

    #[test]
    fn a_mask_keeps_separators_and_the_ends_it_is_told_to_keep() {
        assert_eq!(masked("4111-1111-1111-1234", 0, 4), "****-****-****-1234");
        assert_eq!(masked("taro@example.com", 1, 0), "t***@*******.***");
        assert_eq!(masked("０９０ー１２３４ー５６７８", 0, 4), "***ー****ー５６７８");
        assert_eq!(masked("41\u{200b}11", 0, 1), "***1");
    }

    #[test]
    fn a_mask_that_would_keep_everything_keeps_nothing() {
        assert_eq!(masked("1.2.3.4", 2, 2), "*.*.*.*");
    }

    #[test]
    fn the_hash_is_the_keyed_hash_of_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac(&[0xAA; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn one_value_has_one_hash_however_it_is_written() {
        let operator = Operator::Hash { salt: b"pepper".to_vec() };
        let first = operator.apply(Entity::Card, b"4111 1111 1111 1111");
        assert_eq!(first, operator.apply(Entity::Card, "4111-1111-1111-１１１１".as_bytes()));
        assert_ne!(first, operator.apply(Entity::Phone, b"4111 1111 1111 1111"));
        let other = Operator::Hash { salt: b"salt".to_vec() };
        assert_ne!(first, other.apply(Entity::Card, b"4111 1111 1111 1111"));
        assert!(first.starts_with(b"<CARD:") && first.ends_with(b">") && first.len() == 39);
    }
}
