//! What gRPC puts into a request's head: the time that a caller gives its call.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

#[cfg(test)]
mod tests;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The most digits that a timeout has; what needs more is written in a larger unit.
const DIGITS_MAX: usize = 8;

/// A `grpc-timeout` that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The time that the caller gives its call; `None` without one.
///
/// # Errors
///
/// Anything but one value of at most eight digits and a unit.
///
/// # Source
///
/// grpc/doc/PROTOCOL-HTTP2.md, Timeout.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value.as_bytes()).map(Some).ok_or(Malformed),
        (Some(_), Some(_)) => Err(Malformed),
    }
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Tells the endpoint what is left of the time, in the finest unit that has room for it.
pub fn set_timeout(headers: &mut HeaderMap, left: Duration) {
    let limit = 10_u128.pow(DIGITS_MAX as u32);
    let counts = [(left.as_nanos(), 'n'), (left.as_micros(), 'u'), (left.as_millis(), 'm')];
    let fine = counts.into_iter().find(|(count, _)| *count < limit);
    let (count, unit) = fine.unwrap_or((u128::from(left.as_secs()).min(limit - 1), 'S'));
    let value = HeaderValue::try_from(format!("{count}{unit}"));
    headers.insert(GRPC_TIMEOUT, value.expect("digits and a letter are a header value"));
}
