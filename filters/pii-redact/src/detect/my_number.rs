//! Japanese individual numbers (マイナンバー): twelve digits with a check digit, beside their name.
//!
//! One random number in eleven passes the check, so the name must stand near: see
//! [`context::BEFORE_BYTES`] and [`context::BEHIND_BYTES`].

use super::{begins_number, context};
use crate::number::Number;
use crate::window::{More, Window};

const DIGITS: usize = 12;
/// Source: 総務省令第85号 (2014), article 5.
const WEIGHTS: [u32; DIGITS - 1] = [6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2];

pub(crate) fn find(
    window: &Window<'_>,
    place: usize,
    number: &Number,
) -> Result<Option<usize>, More> {
    let digits = number.digits();
    if digits.len() < DIGITS || !number.breaks_at(DIGITS) || !begins_number(window, place, false) {
        return Ok(None);
    }
    let kind = number.gap_kind(DIGITS, false);
    let grouped = matches!(number.groups(DIGITS), [12, ..] | [4, 4, 4, 0, ..]);
    let end = number.end(DIGITS);
    let fits = grouped
        && matches!(kind, Some(0 | b' ' | b'-' | b'.'))
        && is_valid(digits)
        && window.ends_word(end)?;
    Ok((fits && context::names(window, place, end, &context::MY_NUMBER)?).then_some(end))
}

fn is_valid(digits: &[u8]) -> bool {
    let sum: u32 =
        digits.iter().zip(WEIGHTS).map(|(&digit, weight)| u32::from(digit) * weight).sum();
    let check = match sum % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    u32::from(digits[DIGITS - 1]) == check
}
