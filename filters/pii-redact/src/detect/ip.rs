//! IP addresses of both versions.

use crate::window::{More, Window};

const GROUPS: usize = 8;
/// The digits of a group of version 6.
pub(crate) const GROUP_DIGITS: usize = 4;

pub(crate) fn find(window: &Window<'_>, place: usize) -> Result<Option<usize>, More> {
    if is_inside(window, place) {
        return Ok(None);
    }
    if let Some(end) = v6(window, place)? {
        return Ok(Some(end));
    }
    let Some(end) = v4(window, place)? else { return Ok(None) };
    let char = window.at(end)?;
    let goes_on = match char {
        Some(char) if char.symbol == b'.' => window.symbol(char.next)?.is_ascii_digit(),
        Some(char) => char.symbol.is_ascii_alphanumeric(),
        None => false,
    };
    Ok((!goes_on).then_some(end))
}

/// The place is in the middle of dotted digits, or of groups of hexadecimal digits with colons.
fn is_inside(window: &Window<'_>, place: usize) -> bool {
    match window.before(place) {
        Some((b'.', begin)) => window.before(begin).is_some_and(|(s, _)| s.is_ascii_digit()),
        Some((b':', begin)) => is_group_before(window, begin),
        _ => false,
    }
}

/// What ends at `place` is another colon, or a word of one to four hexadecimal digits.
fn is_group_before(window: &Window<'_>, mut place: usize) -> bool {
    for count in 0..=GROUP_DIGITS {
        match window.before(place) {
            Some((symbol, begin)) if symbol.is_ascii_hexdigit() => place = begin,
            Some((b':', _)) => return true,
            Some((symbol, _)) => return count > 0 && !symbol.is_ascii_alphanumeric(),
            None => return count > 0,
        }
    }
    false
}

/// Four numbers of at most 255 without leading zeros.
fn v4(window: &Window<'_>, place: usize) -> Result<Option<usize>, More> {
    let mut next = place;
    for octet in 0..4 {
        if octet > 0 {
            match window.at(next)? {
                Some(char) if char.symbol == b'.' => next = char.next,
                _ => return Ok(None),
            }
        }
        let (mut value, mut count) = (0, 0);
        while let Some(char) = window.at(next)?
            && char.symbol.is_ascii_digit()
        {
            value = value * 10 + u32::from(char.symbol - b'0');
            count += 1;
            next = char.next;
            if value > 255 || count > 1 && value < 10 {
                return Ok(None);
            }
        }
        if count == 0 {
            return Ok(None);
        }
    }
    Ok(Some(next))
}

/// Eight groups, or fewer around one `::`; the last two may be written as version 4.
fn v6(window: &Window<'_>, place: usize) -> Result<Option<usize>, More> {
    let (mut groups, mut short, mut digit) = (0, false, false);
    let (mut next, mut end) = (place, place);
    loop {
        let before = next;
        let mut count = 0;
        while let Some(char) = window.at(next)?
            && char.symbol.is_ascii_hexdigit()
        {
            digit |= char.symbol.is_ascii_digit();
            next = char.next;
            count += 1;
            if count > GROUP_DIGITS {
                return Ok(None);
            }
        }
        if count > 0 {
            let room = if short { groups + 2 < GROUPS } else { groups + 2 == GROUPS };
            if room
                && window.symbol(next)? == b'.'
                && let Some(end) = v4(window, before)?
                && window.ends_word(end)?
            {
                return Ok(Some(end));
            }
            groups += 1;
            end = next;
        }
        let Some((after, colons)) = colons(window, next)? else { break };
        if colons == 2 {
            if short {
                return Ok(None);
            }
            short = true;
            end = after;
        } else if count == 0 || !window.symbol(after)?.is_ascii_hexdigit() {
            // A single colon joins two groups, or belongs to what follows the address.
            break;
        }
        if groups > GROUPS {
            return Ok(None);
        }
        next = after;
    }
    let whole = if short { groups < GROUPS } else { groups == GROUPS };
    let telling = digit || groups >= 4;
    Ok((whole && telling && window.ends_word(end)?).then_some(end))
}

/// One or two colons at `place`, and what is behind them.
fn colons(window: &Window<'_>, place: usize) -> Result<Option<(usize, usize)>, More> {
    let Some(first) = window.at(place)?.filter(|char| char.symbol == b':') else { return Ok(None) };
    match window.at(first.next)? {
        Some(second) if second.symbol == b':' => Ok(Some((second.next, 2))),
        _ => Ok(Some((first.next, 1))),
    }
}
