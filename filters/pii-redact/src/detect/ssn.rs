//! US social security numbers: three, two and four digits; without gaps only beside their name.

use super::{begins_number, context};
use crate::number::Number;
use crate::window::{More, Window};

/// No other number that begins with a digit has fewer.
pub(super) const DIGITS: usize = 9;

pub(crate) fn find(
    window: &Window<'_>,
    place: usize,
    number: &Number,
) -> Result<Option<usize>, More> {
    let digits = number.digits();
    if digits.len() < DIGITS || !number.breaks_at(DIGITS) || !begins_number(window, place, true) {
        return Ok(None);
    }
    let (kind, end) = (number.gap_kind(DIGITS, false), number.end(DIGITS));
    let grouped =
        number.groups(DIGITS) == [3, 2, 4, 0, 0, 0] && matches!(kind, Some(b'-' | b' ' | b'.'));
    // A dash and a digit behind it: the number is longer.
    let alone = number.gap(DIGITS) != b'-' && window.ends_word(end)?;
    if !alone || !is_issued(digits) {
        return Ok(None);
    }
    let named = || context::names(window, place, end, &context::SSN);
    Ok((grouped || kind == Some(0) && named()?).then_some(end))
}

/// Area, group and serial number are ones that are given out.
fn is_issued(digits: &[u8]) -> bool {
    let value = |digits: &[u8]| digits.iter().fold(0, |all, &d| all * 10 + u32::from(d));
    let area = value(&digits[..3]);
    !matches!(area, 0 | 666 | 900..) && value(&digits[3..5]) != 0 && value(&digits[5..9]) != 0
}
