//! A look at streamed text from one place on: what is there, what ended, what has not arrived.
//!
//! Every detector reads through a window, and a read beyond what has arrived is [`More`]. So an
//! answer never depends on where the text was cut into chunks.

use crate::chars::{Folded, OTHER, fold, may_fold};

/// How far a detector may look from where a match begins, in bytes: the longest e-mail address
/// (64 + 1 + 255) and what must follow it. Nothing is held back longer than this.
pub(crate) const REACH_BYTES: usize = 384;

/// How many unseen characters in a row are passed over.
const UNSEEN_MAX: usize = 3;

/// The text that has arrived does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct More;

/// A character and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Char {
    pub(crate) symbol: u8,
    pub(crate) next: usize,
}

/// Places are offsets in `text`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    text: &'a [u8],
    /// Where the segment (a string, a field, a line) begins; what is before it is only context.
    first: usize,
    /// Reads from here on answer the end.
    limit: usize,
    /// Nothing follows in this segment.
    complete: bool,
}

impl<'a> Window<'a> {
    /// A window on the text for a match that begins at `start`.
    pub(crate) fn new(text: &'a [u8], first: usize, start: usize, complete: bool) -> Self {
        Self { text, first, limit: start + REACH_BYTES, complete }
    }

    /// The character at `place`, unseen ones passed over; `None` at the end.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Result<Option<Char>, More> {
        if let Some(&byte) = self.text.get(place)
            && byte.wrapping_sub(1) < 0x7F
            && place < self.limit
        {
            return Ok(Some(Char { symbol: byte, next: place + 1 }));
        }
        self.at_slow(place)
    }

    fn at_slow(&self, mut place: usize) -> Result<Option<Char>, More> {
        for _ in 0..=UNSEEN_MAX {
            if place >= self.limit {
                return Ok(None);
            }
            let Some(rest) = self.text.get(place..).filter(|rest| !rest.is_empty()) else {
                return if self.complete { Ok(None) } else { Err(More) };
            };
            match fold(rest) {
                Folded::Symbol(symbol, len) => return Ok(Some(Char { symbol, next: place + len })),
                Folded::Unseen(len) => place += len,
                Folded::Cut if self.complete => {
                    return Ok(Some(Char { symbol: OTHER, next: place + 1 }));
                }
                Folded::Cut => return Err(More),
            }
        }
        Ok(Some(Char { symbol: OTHER, next: place }))
    }

    /// The character, or [`OTHER`] at the end.
    pub(crate) fn symbol(&self, place: usize) -> Result<u8, More> {
        Ok(self.at(place)?.map_or(OTHER, |char| char.symbol))
    }

    /// The character before `place` and where it begins; `None` at the segment's begin.
    #[inline]
    pub(crate) fn before(&self, place: usize) -> Option<(u8, usize)> {
        if place > self.first
            && let byte @ 1..0x80 = self.text[place - 1]
        {
            return Some((byte, place - 1));
        }
        self.before_slow(place)
    }

    fn before_slow(&self, place: usize) -> Option<(u8, usize)> {
        let mut end = place;
        for _ in 0..=UNSEEN_MAX {
            let (folded, begin) = self.fold_before(end)?;
            match folded {
                // A kanji digit before another kind of digit is a word: 第一 0120….
                Folded::Symbol(_, 3) if self.text[begin] != 0xEF && self.other_script(place) => {
                    return Some((OTHER, begin));
                }
                Folded::Symbol(symbol, _) => return Some((symbol, begin)),
                Folded::Unseen(_) | Folded::Cut => end = begin,
            }
        }
        Some((OTHER, end))
    }

    fn other_script(&self, place: usize) -> bool {
        self.text.get(place).is_none_or(|&byte| byte < 0x80 || byte == 0xEF)
    }

    fn fold_before(&self, end: usize) -> Option<(Folded, usize)> {
        if end <= self.first {
            return None;
        }
        for len in 1..=4.min(end - self.first) {
            let begin = end - len;
            let lead = self.text[begin];
            if lead & 0xC0 != 0x80 {
                let folded = fold(&self.text[begin..end]);
                let whole = matches!(folded, Folded::Symbol(_, l) | Folded::Unseen(l) if l == len);
                if whole && may_fold(lead) | (lead < 0x80) {
                    return Some((folded, begin));
                }
                break;
            }
        }
        Some((Folded::Symbol(OTHER, 1), end - 1))
    }

    /// Neither letter nor digit stands directly before.
    pub(crate) fn begins_word(&self, place: usize) -> bool {
        self.before(place).is_none_or(|(symbol, _)| !symbol.is_ascii_alphanumeric())
    }

    /// Neither letter nor digit stands directly behind.
    pub(crate) fn ends_word(&self, place: usize) -> Result<bool, More> {
        Ok(!self.symbol(place)?.is_ascii_alphanumeric())
    }

    /// The text before `place`, earlier segments too: at most `max` bytes.
    pub(crate) fn context_before(&self, place: usize, max: usize) -> &'a [u8] {
        &self.text[place.saturating_sub(max)..place]
    }

    /// The text from `place` to the segment's end: at most `max` bytes.
    pub(crate) fn context_behind(&self, place: usize, max: usize) -> Result<&'a [u8], More> {
        let end = place + max;
        if end > self.text.len() && !self.complete {
            return Err(More);
        }
        Ok(&self.text[place..end.min(self.text.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beyond_what_arrived_waits_until_the_segment_is_complete() {
        let open = Window::new(b"a", 0, 0, false);
        assert_eq!(open.at(0), Ok(Some(Char { symbol: b'a', next: 1 })));
        assert_eq!(open.at(1), Err(More));
        assert_eq!(Window::new(b"a", 0, 0, true).at(1), Ok(None));
    }

    #[test]
    fn a_read_beyond_the_reach_is_the_end() {
        let text = [b'a'; REACH_BYTES + 1];
        let window = Window::new(&text, 0, 0, false);
        assert!(window.at(REACH_BYTES - 1).unwrap().is_some());
        assert_eq!(window.at(REACH_BYTES), Ok(None));
    }

    #[test]
    fn unseen_characters_are_passed_over_in_both_directions() {
        let text = "1\u{200b}\u{ad}２".as_bytes();
        let window = Window::new(text, 0, 0, true);
        assert_eq!(window.at(1), Ok(Some(Char { symbol: b'2', next: text.len() })));
        assert_eq!(window.before(text.len() - 3), Some((b'1', 0)));
        assert_eq!(window.before(text.len()), Some((b'2', text.len() - 3)));
        assert_eq!(window.before(0), None);
    }
}
