//! Telephone numbers: international (`+`), Japanese and other ones with a trunk 0, North American.

use super::{begins_number, context};
use crate::number::Number;
use crate::window::{More, Window};

/// Source: ITU-T E.164, 6.1.
const E164_MAX: usize = 15;
const E164_MIN: usize = 8;

/// Groups of digits that numbers with a trunk 0 are written in; ten digits.
const TRUNK_10: [[u8; 6]; 12] = [
    [2, 4, 4, 0, 0, 0],
    [3, 3, 4, 0, 0, 0],
    [4, 2, 4, 0, 0, 0],
    [5, 1, 4, 0, 0, 0],
    [4, 3, 3, 0, 0, 0],
    [2, 8, 0, 0, 0, 0],
    [3, 7, 0, 0, 0, 0],
    [4, 6, 0, 0, 0, 0],
    [5, 5, 0, 0, 0, 0],
    [6, 4, 0, 0, 0, 0],
    [2, 2, 2, 2, 2, 0],
    [3, 3, 2, 2, 0, 0],
];
/// The same of eleven digits.
const TRUNK_11: [[u8; 6]; 8] = [
    [3, 4, 4, 0, 0, 0],
    [4, 3, 4, 0, 0, 0],
    [5, 3, 3, 0, 0, 0],
    [3, 8, 0, 0, 0, 0],
    [4, 7, 0, 0, 0, 0],
    [5, 6, 0, 0, 0, 0],
    [7, 4, 0, 0, 0, 0],
    [4, 3, 2, 2, 0, 0],
];

/// A number that begins with a digit.
pub(crate) fn find(
    window: &Window<'_>,
    place: usize,
    number: &Number,
) -> Result<Option<usize>, More> {
    if number.digits().len() < 10 || !begins_number(window, place, true) {
        return Ok(None);
    }
    national(window, place, number)
}

/// A number that begins with `+`, or with the bracket around its area code.
pub(crate) fn find_marked(window: &Window<'_>, place: usize) -> Result<Option<usize>, More> {
    let Some(mark) = window.at(place)? else { return Ok(None) };
    if mark.symbol == b'+' {
        return international(window, &Number::read(window, mark.next)?);
    }
    let number = Number::read(window, mark.next)?;
    let first = (1..number.digits().len()).find(|&index| number.gap(index) != 0);
    match first {
        Some(index) if number.gap(index) == b')' => national(window, place, &number),
        _ => Ok(None),
    }
}

fn national(window: &Window<'_>, place: usize, number: &Number) -> Result<Option<usize>, More> {
    for count in [11, 10] {
        if number.digits().len() >= count
            && number.breaks_at(count)
            && may_end(window, number, count)?
            && is_national(window, place, number, count)?
        {
            return Ok(Some(number.end(count)));
        }
    }
    Ok(None)
}

/// No digit follows across a dash, and no letter directly unless it marks an extension.
fn may_end(window: &Window<'_>, number: &Number, count: usize) -> Result<bool, More> {
    let follows = window.symbol(number.end(count))?;
    let dashed = count < number.digits().len() && number.gap(count) == b'-';
    Ok(!dashed && (!follows.is_ascii_alphanumeric() || matches!(follows, b'x' | b'X')))
}

fn is_national(
    window: &Window<'_>,
    place: usize,
    number: &Number,
    count: usize,
) -> Result<bool, More> {
    let digits = &number.digits()[..count];
    let Some(kind) = number.gap_kind(count, true) else { return Ok(false) };
    if !matches!(kind, 0 | b' ' | b'-' | b'.') {
        return Ok(false);
    }
    let groups = number.groups(count);
    let whole = groups[1] == 0;
    match (digits[0], count) {
        (0, 11) if whole => Ok(is_mobile(digits)),
        (0, 11) => Ok(digits[1] != 0 && TRUNK_11.contains(&groups)),
        (0, 10) if !whole => Ok(digits[1] != 0 && TRUNK_10.contains(&groups)),
        (1, 11) => Ok(groups == [1, 3, 3, 4, 0, 0] && is_north_american(&digits[1..])),
        (2..=9, 10) if !whole => Ok(groups == [3, 3, 4, 0, 0, 0] && is_north_american(digits)),
        // Ten digits in one piece may be anything: their name must stand near.
        (0, 10) if digits[1] != 0 => named(window, place, number.end(count)),
        (2..=9, 10) if is_north_american(digits) => named(window, place, number.end(count)),
        _ => Ok(false),
    }
}

fn named(window: &Window<'_>, place: usize, end: usize) -> Result<bool, More> {
    context::names(window, place, end, &context::PHONE)
}

/// 050, 060, 070, 080, 090 in Japan, and 07 in the United Kingdom.
fn is_mobile(digits: &[u8]) -> bool {
    digits[2] == 0 && digits[1] >= 5 || digits[1] == 7 && digits[2] != 0
}

/// Area code and exchange are ones that are given out.
fn is_north_american(digits: &[u8]) -> bool {
    let code = |digits: &[u8]| digits[0] >= 2 && digits[1..3] != [1, 1];
    code(digits) && digits[1] != 9 && code(&digits[3..])
}

fn international(window: &Window<'_>, number: &Number) -> Result<Option<usize>, More> {
    let digits = number.digits();
    for count in (E164_MIN..=digits.len().min(E164_MAX)).rev() {
        if number.breaks_at(count)
            && is_international(&digits[..count])
            && is_joined(number, count)
            && may_end(window, number, count)?
        {
            return Ok(Some(number.end(count)));
        }
    }
    Ok(None)
}

/// Mixtures of gaps occur inside of `+49 (0)30-1234`, but a long number is not two numbers.
fn is_joined(number: &Number, count: usize) -> bool {
    number.gap_kind(count, true).is_some() || (1..count).all(|index| number.gap(index) != b'.')
}

fn is_international(digits: &[u8]) -> bool {
    match digits {
        [1, rest @ ..] => rest.len() == 10 && is_north_american(rest),
        // A 0 in brackets may follow the country.
        [8, 1, 0, rest @ ..] => matches!(rest.len(), 9 | 10),
        [8, 1, rest @ ..] => matches!(rest.len(), 9 | 10),
        [7, rest @ ..] => rest.len() == 10,
        [2..=6 | 8 | 9, second, third, ..] => is_country(digits[0], *second, *third),
        _ => false,
    }
}

/// Whether a country code is given out.
///
/// # Source
///
/// ITU-T E.164, list of assigned country codes.
fn is_country(first: u8, second: u8, third: u8) -> bool {
    match (first, second) {
        (2, 0 | 7) | (3, 0..=4 | 6 | 9) | (4, 0 | 1 | 3..=9) | (5, 1..=8) | (6, 0..=6) => true,
        (8, 2 | 4 | 6) | (9, 0..=5 | 8) => true,
        (2, 1) => matches!(third, 1..=3 | 6 | 8),
        (2, 2..=6) => true,
        (2, 9) => matches!(third, 0 | 1 | 7..=9),
        (3, 5 | 7 | 8) | (4, 2) | (5, 0 | 9) => true,
        (6, 7..=9) => true,
        (8, 0 | 5 | 7 | 8) => true,
        (9, 6 | 7) => third != 9,
        (9, 9) => matches!(third, 2..=6 | 8),
        _ => false,
    }
}
