//! A path's one spelling, beside a plain reader of segments.

use crate::codec::{EncodedSlashes, hygiene::normalise_path};

/// Normalises a path with `%2F` refused, and with `%2F` kept.
///
/// # Panics
///
/// If what passes has a second spelling, a dot segment, an empty segment or (where they are refused)
/// an encoded slash; if it names other segments than the path that was given; or if the plain reader
/// refuses what passes, or the other way round.
pub fn path(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    if !path.starts_with('/')
        || !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?\\".contains(&byte))
    {
        return;
    }
    for slashes in [EncodedSlashes::Refuse, EncodedSlashes::Keep] {
        let (normal, meant) = match (normalise_path(path, slashes), resolved(path, slashes)) {
            (Ok(normal), Some(meant)) => (normal, meant),
            (Err(_), None) => continue,
            (ours, plain) => panic!("{path}: {ours:?}, and plainly {plain:?}"),
        };
        let again = normalise_path(&normal, slashes).expect("what has passed passes again");
        assert_eq!(again, normal, "{path} has two spellings");
        assert_eq!(resolved(&normal, slashes), Some(meant), "{path} became {normal}");
        one_spelling(&normal, slashes);
    }
}

/// What a path names: its segments as bytes, and whether it ends in a slash.
type Named = (Vec<Vec<u8>>, bool);

/// Reads a path plainly: segments first, then escapes, then dots. `None`: refused.
fn resolved(path: &str, slashes: EncodedSlashes) -> Option<Named> {
    let mut named = Vec::new();
    let mut is_directory = true;
    for segment in path.split('/').skip(1) {
        let segment = unescaped(segment)?;
        // What is here now was escaped: a plain slash has separated, and a plain backslash does not
        // come so far.
        let separates = segment.iter().any(|byte| b"/\\".contains(byte));
        if segment.contains(&0) || (slashes == EncodedSlashes::Refuse && separates) {
            return None;
        }
        is_directory = matches!(segment.as_slice(), b"" | b"." | b"..");
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => _ = named.pop(),
            with if with.starts_with(b".;") || with.starts_with(b"..;") => return None,
            _ => named.push(segment),
        }
    }
    Some((named, is_directory))
}

/// Every escape as the byte that it stands for; `None` if one is none.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        plain.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(plain)
}

/// Nothing is left that another reader could spell or resolve differently.
fn one_spelling(path: &str, slashes: EncodedSlashes) {
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(path.split('/').all(|segment| !matches!(segment, "." | "..")), "{path}");
    for escape in path.split('%').skip(1).map(|part| &part[..2]) {
        assert_eq!(escape, escape.to_ascii_uppercase(), "{path}");
        let byte = u8::from_str_radix(escape, 16).expect("an escape");
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let separates = slashes == EncodedSlashes::Refuse && b"/\\".contains(&byte);
        assert!(!unreserved && !separates && byte != 0, "{path}");
    }
}
