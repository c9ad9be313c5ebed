//! Payment cards: a brand's prefix and length, the Luhn check, groups joined by one kind of gap.

use super::{begins_number, luhn};
use crate::number::Number;
use crate::window::{More, Window};

const LONGEST: usize = 19;
const SHORTEST: usize = 12;
/// A group is at least that long, the last one excepted: rows of small numbers are not cards.
const GROUP_MIN: u8 = 4;

pub(crate) fn find(
    window: &Window<'_>,
    place: usize,
    number: &Number,
) -> Result<Option<usize>, More> {
    let digits = number.digits();
    if digits.len() < SHORTEST || !begins_number(window, place, false) {
        return Ok(None);
    }
    for count in (SHORTEST..=digits.len().min(LONGEST)).rev() {
        if number.breaks_at(count)
            && is_card(&digits[..count])
            && is_grouped(number, count)
            && window.ends_word(number.end(count))?
        {
            return Ok(Some(number.end(count)));
        }
    }
    Ok(None)
}

/// Whether digits alone are a card number.
pub(crate) fn is_card(digits: &[u8]) -> bool {
    lengths(digits).contains(&digits.len()) && luhn::is_valid(digits) && !is_product(digits)
}

/// Numbers of products (EAN-13) are as long as Visa's shortest, and some begin with 4, too.
fn is_product(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .zip([1, 3].into_iter().cycle())
        .map(|(&digit, weight)| u32::from(digit) * weight)
        .sum();
    digits.len() == 13 && sum.is_multiple_of(10)
}

fn is_grouped(number: &Number, count: usize) -> bool {
    let groups = number.groups(count);
    let used = groups.iter().take_while(|&&len| len > 0).count();
    matches!(number.gap_kind(count, false), Some(0 | b' ' | b'-' | b'.'))
        && groups[..used.saturating_sub(1)].iter().all(|&len| len >= GROUP_MIN)
}

/// The lengths that a brand's prefix allows.
fn lengths(digits: &[u8]) -> &'static [usize] {
    let prefix = digits.iter().take(4).fold(0, |all, &digit| all * 10 + u32::from(digit));
    match prefix {
        // Visa.
        4000..=4999 => &[13, 16, 19],
        // Mastercard.
        2221..=2720 | 5100..=5599 => &[16],
        // American Express.
        3400..=3499 | 3700..=3799 => &[15],
        // JCB, Discover, UnionPay, Mir.
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 2200..=2204 => &[16, 17, 18, 19],
        // Diners Club.
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => &[14, 15, 16, 17, 18, 19],
        // RuPay, Troy.
        6000..=6010 | 6012..=6099 | 9792 => &[16],
        // Maestro, Verve.
        5000..=5099 | 5600..=5899 | 6300..=6399 | 6700..=6799 => &[12, 13, 14, 15, 16, 17, 18, 19],
        _ => &[],
    }
}
