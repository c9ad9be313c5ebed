//! IBANs: a country's length and the remainder 1 by 97, in one piece or in groups.

use crate::window::{More, Window};

const IBAN_MAX: usize = 34;

pub(crate) fn find(window: &Window<'_>, place: usize) -> Result<Option<usize>, More> {
    let mut text = [0; IBAN_MAX];
    let (mut next, mut want, mut end) = (place, 4, place);
    let mut index = 0;
    while index < want {
        let Some(char) = window.at(next)? else { return Ok(None) };
        let symbol = char.symbol.to_ascii_uppercase();
        // One space or dash may stand between two characters, once the country is told.
        let gap = index > 4 && matches!(symbol, b' ' | b'-') && next == end;
        next = char.next;
        if gap || index == 4 && matches!(symbol, b' ' | b'-') && next == end + 1 {
            continue;
        }
        let fits = match index {
            0 | 1 => symbol.is_ascii_uppercase(),
            2 | 3 => symbol.is_ascii_digit(),
            _ => symbol.is_ascii_alphanumeric(),
        };
        if !fits {
            return Ok(None);
        }
        text[index] = symbol;
        end = next;
        index += 1;
        if index == 4 {
            let Some(len) = length([text[0], text[1]]) else { return Ok(None) };
            want = len;
        }
    }
    Ok((remainder(&text[..want]) == 1 && window.ends_word(end)?).then_some(end))
}

/// The text modulo 97, its first four characters moved to the end, letters read as 10 to 35.
fn remainder(text: &[u8]) -> u32 {
    text[4..].iter().chain(&text[..4]).fold(0, |rest, &symbol| match symbol {
        b'0'..=b'9' => (rest * 10 + u32::from(symbol - b'0')) % 97,
        _ => (rest * 100 + u32::from(symbol - b'A') + 10) % 97,
    })
}

/// A country's length.
///
/// # Source
///
/// The IBAN registry of SWIFT, release 99.
fn length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"CR" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL"
        | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}
