//! E-mail addresses: an ASCII local part of at most 64 bytes, `@`, a domain with a top level.

use crate::window::{More, Window};

/// Source: RFC 5321, 4.5.3.1.
pub(crate) const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;
const TOP_LEVEL_MAX: usize = 24;

/// File endings that follow an `@` in names of pictures and scripts, as in `logo@2x.png`.
const FILE_ENDINGS: [&[u8]; 12] = [
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"avif", b"css", b"js", b"json", b"html",
    b"woff",
];

/// What earlier searches learnt, so that a long run is read once and not from every byte of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memo {
    /// From the last place searched to here stand only bytes of a local part.
    seen: usize,
    /// No address begins before here.
    dead: usize,
    /// The last domain that was read: where it begins and ends. Every byte of the local part before
    /// it comes to the same one.
    domain: Option<(usize, usize)>,
}

impl Memo {
    /// No address begins before here.
    pub(crate) fn dead(&self) -> usize {
        self.dead
    }

    /// The text lost `count` bytes at its front.
    pub(crate) fn shift(&mut self, count: usize) {
        self.seen = self.seen.saturating_sub(count);
        self.dead = self.dead.saturating_sub(count);
        self.domain = None;
    }
}

/// Whether a byte may stand in a local part.
pub(crate) const fn is_local(symbol: u8) -> bool {
    symbol.is_ascii_alphanumeric() || matches!(symbol, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}

pub(crate) fn find(
    window: &Window<'_>,
    place: usize,
    memo: &mut Memo,
) -> Result<Option<usize>, More> {
    let first = window.symbol(place)?;
    if place < memo.dead || !(first.is_ascii_alphanumeric() || first == b'_') {
        return Ok(None);
    }
    let mut next = memo.seen.max(place);
    loop {
        if next > place + LOCAL_BYTES_MAX {
            memo.seen = next;
            return Ok(None);
        }
        let char = window.at(next)?;
        match char {
            Some(char) if char.symbol == b'@' => {
                if let Some((_, end)) = memo.domain.filter(|(begin, _)| *begin == char.next) {
                    return Ok(Some(end));
                }
                let found = domain(window, char.next)?;
                match found {
                    Some(end) => memo.domain = Some((char.next, end)),
                    None => memo.dead = char.next,
                }
                return Ok(found);
            }
            Some(char) if is_local(char.symbol) => next = char.next,
            _ => {
                memo.dead = next;
                return Ok(None);
            }
        }
    }
}

/// A label of the domain, lower-case; longer ones are cut, for they are no top level.
#[derive(Default)]
struct Label {
    bytes: [u8; TOP_LEVEL_MAX],
    len: usize,
}

impl Label {
    fn push(&mut self, symbol: u8) {
        if let Some(byte) = self.bytes.get_mut(self.len) {
            *byte = symbol.to_ascii_lowercase();
        }
        self.len += 1;
    }

    fn is_top_level(&self) -> bool {
        let Some(label) = self.bytes.get(..self.len) else { return false };
        let letters = label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic);
        (letters || label.starts_with(b"xn--") && label.len() > 4) && !FILE_ENDINGS.contains(&label)
    }
}

/// Where the longest domain that begins at `begin` ends.
fn domain(window: &Window<'_>, begin: usize) -> Result<Option<usize>, More> {
    let (mut label, mut labels, mut found) = (Label::default(), 0, None);
    let (mut place, mut end) = (begin, begin);
    while place <= begin + DOMAIN_BYTES_MAX {
        let char = window.at(place)?;
        let symbol = char.map_or(b' ', |char| char.symbol);
        if symbol.is_ascii_alphanumeric() {
            label.push(symbol);
        } else {
            if labels > 0 && label.is_top_level() {
                found = Some(end);
            }
            match symbol {
                b'.' if label.len > 0 => {
                    labels += 1;
                    label = Label::default();
                }
                b'-' if label.len > 0 => label.push(b'-'),
                _ => break,
            }
        }
        let Some(char) = char else { break };
        place = char.next;
        if symbol.is_ascii_alphanumeric() {
            end = place;
        }
    }
    Ok(found)
}
