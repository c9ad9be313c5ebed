//! Digits with what separates them, read once for every detector of numbers.

use crate::window::{More, Window};

/// More digits than any number that is looked for; a run of this length is none of them.
pub(crate) const DIGITS_MAX: usize = 20;

/// More groups than any of them is written in.
const GROUPS_MAX: usize = 7;

/// How many characters may stand between two digits.
const GAP_MAX: usize = 3;

/// A run of digits from one place on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Number {
    digits: [u8; DIGITS_MAX],
    /// Behind each digit, from the number's begin.
    ends: [u16; DIGITS_MAX],
    /// What stands before each digit: 0 nothing, a space, `-`, `.`, `(` or `)`.
    gaps: [u8; DIGITS_MAX],
    len: usize,
    begin: usize,
    /// It was not read to its end.
    cut: bool,
}

impl Number {
    /// Reads the digits from `place` on, as far as gaps of at most [`GAP_MAX`] characters join them.
    pub(crate) fn read(window: &Window<'_>, place: usize) -> Result<Self, More> {
        let mut number = Self { begin: place, cut: true, ..Self::default() };
        let (mut next, mut groups) = (place, 0);
        while number.len < DIGITS_MAX {
            let step = step(window, next)?;
            let Some((gap, digit, end)) = step.filter(|(gap, ..)| number.len > 0 || *gap == 0)
            else {
                number.cut = false;
                break;
            };
            groups += usize::from(gap != 0);
            if groups == GROUPS_MAX {
                break;
            }
            number.digits[number.len] = digit;
            number.gaps[number.len] = gap;
            number.ends[number.len] = (end - place) as u16;
            number.len += 1;
            next = end;
        }
        Ok(number)
    }

    /// The values of the digits.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    /// Where the first `count` digits end.
    pub(crate) fn end(&self, count: usize) -> usize {
        self.begin + usize::from(self.ends[count - 1])
    }

    /// Up to where every number that begins later in this run has fewer digits than this one.
    pub(crate) fn run_end(&self, place: usize) -> usize {
        if self.cut || self.len == 0 { place } else { self.end(self.len) }
    }

    /// What stands between digit `index` and the one before; 0 is nothing, and `?` is behind the run.
    pub(crate) fn gap(&self, index: usize) -> u8 {
        if index < self.len { self.gaps[index] } else { b'?' }
    }

    /// Whether the number can end after `count` digits: no digit follows directly.
    pub(crate) fn breaks_at(&self, count: usize) -> bool {
        count == self.len && count < DIGITS_MAX || count < self.len && self.gaps[count] != 0
    }

    /// The lengths of the groups of the first `count` digits; the rest is 0. More than six groups
    /// are all told to be 1.
    pub(crate) fn groups(&self, count: usize) -> [u8; 6] {
        let mut groups = [0; 6];
        let mut group = 0;
        for index in 0..count {
            if index > 0 && self.gaps[index] != 0 {
                group += 1;
            }
            if group == groups.len() {
                return [1; 6];
            }
            groups[group] += 1;
        }
        groups
    }

    /// The one kind of gap in the first `count` digits, 0 for none; `None` when there are several.
    /// Brackets do not count when `brackets` says so.
    pub(crate) fn gap_kind(&self, count: usize, brackets: bool) -> Option<u8> {
        let mut kind = 0;
        for &gap in &self.gaps[1.min(count)..count] {
            if gap == 0 || brackets && matches!(gap, b'(' | b')') {
                continue;
            }
            if kind != 0 && kind != gap {
                return None;
            }
            kind = gap;
        }
        Some(kind)
    }
}

/// The next digit: what stands before it, its value, where it ends.
fn step(window: &Window<'_>, place: usize) -> Result<Option<(u8, u8, usize)>, More> {
    let (mut gap, mut next) = (0, place);
    for _ in 0..=GAP_MAX {
        let Some(char) = window.at(next)? else { return Ok(None) };
        next = char.next;
        let symbol = char.symbol;
        if symbol.is_ascii_digit() {
            return Ok(Some((gap, symbol - b'0', next)));
        }
        gap = match (gap, symbol) {
            (0, b' ' | b'-' | b'.' | b'(' | b')') => symbol,
            (kind, b' ') => kind,
            (b' ', b'-' | b'(' | b')') => symbol,
            (b')', b'-') => b')',
            _ => return Ok(None),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Number {
        Number::read(&Window::new(text.as_bytes(), 0, 0, true), 0).unwrap()
    }

    #[test]
    fn digits_are_read_across_gaps_of_one_kind() {
        let number = read("03 - 1234-５６７８ x");
        assert_eq!(number.digits(), [0, 3, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(number.groups(10), [2, 4, 4, 0, 0, 0]);
        assert_eq!(number.gap_kind(10, false), Some(b'-'));
        assert!(number.breaks_at(10) && number.breaks_at(6) && !number.breaks_at(5));
    }

    #[test]
    fn a_long_gap_or_another_character_ends_the_run() {
        assert_eq!(read("12    34").digits(), [1, 2]);
        assert_eq!(read("12/34").digits(), [1, 2]);
        assert!(read(" 12").digits().is_empty());
    }
}
