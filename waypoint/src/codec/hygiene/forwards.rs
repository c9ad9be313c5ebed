//! `Max-Forwards`: how many more proxies a client lets an `OPTIONS` or a `TRACE` pass.
//!
//! # Source
//!
//! RFC 9110, 7.6.2.

use http::{HeaderMap, HeaderValue, Method, header};

#[cfg(test)]
mod tests;

/// Whether a request ends here because its client said so.
pub fn ends_here(method: &Method, headers: &HeaderMap) -> bool {
    is_bounded(method) && left(headers) == Some(0)
}

/// Counts this hop, for a request that goes on. What is no number bounds nothing, and is not passed
/// on either.
pub fn count_hop(method: &Method, headers: &mut HeaderMap) {
    if !is_bounded(method) {
        return;
    }
    let left = left(headers).map(|left| left.saturating_sub(1));
    headers.remove(header::MAX_FORWARDS);
    if let Some(left) = left {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
    }
}

/// Of other methods the field says nothing.
fn is_bounded(method: &Method) -> bool {
    matches!(*method, Method::OPTIONS | Method::TRACE)
}

fn left(headers: &HeaderMap) -> Option<u32> {
    let mut values = headers.get_all(header::MAX_FORWARDS).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let digits = value.to_str().ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Only a number that is too large cannot be read.
    is_number.then(|| digits.parse().unwrap_or(u32::MAX))
}
