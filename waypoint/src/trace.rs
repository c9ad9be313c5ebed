//! Request ids and W3C trace context: kept when they are well formed, made otherwise.
//!
//! A caller's `x-request-id` is kept only in the form of a UUID: it is written into records before
//! any redaction has run, so it must not be able to carry text.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The request id's header.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The trace context's header.
///
/// # Source
///
/// W3C Trace Context, section 3.2.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What identifies one request in every record.
#[derive(Clone, Debug)]
pub struct TraceIds {
    /// `x-request-id`, a UUID.
    pub request_id: HeaderValue,
    /// `traceparent`: version, trace id, parent id, flags.
    pub traceparent: HeaderValue,
}

/// Keeps or makes the ids, and sets them for the next hop.
pub fn bind(headers: &mut HeaderMap) -> TraceIds {
    let request_id = match headers.get(REQUEST_ID) {
        Some(value) if is_uuid(value.as_bytes()) => value.clone(),
        _ => {
            let made = new_request_id();
            headers.insert(REQUEST_ID, made.clone());
            made
        }
    };
    let traceparent = match headers.get(TRACEPARENT) {
        Some(value) if is_traceparent(value.as_bytes()) => value.clone(),
        _ => {
            headers.remove(TRACESTATE);
            let made = new_traceparent();
            headers.insert(TRACEPARENT, made.clone());
            made
        }
    };
    TraceIds { request_id, traceparent }
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `00-32 hex-16 hex-2 hex`, lower case, ids not all zero. Later versions may be longer.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| {
            part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
        })
    };
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let zero = |range: std::ops::Range<usize>| text[range].iter().all(|byte| *byte == b'0');
    text.len() == 55
        && dashes
        && &text[..2] == b"00"
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zero(3..35)
        && !zero(36..52)
}

fn new_request_id() -> HeaderValue {
    let (high, low) = (random(), random());
    // RFC 9562 section 5.4: version 4, variant 10.
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let mut text = *b"00000000-0000-0000-0000-000000000000";
    write_hex(&mut text[..8], high >> 32);
    write_hex(&mut text[9..13], high >> 16);
    write_hex(&mut text[14..18], high);
    write_hex(&mut text[19..23], low >> 48);
    write_hex(&mut text[24..], low);
    HeaderValue::from_bytes(&text).expect("hexadecimal is a valid header value")
}

fn new_traceparent() -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[3..19], random() | 1);
    write_hex(&mut text[19..35], random());
    write_hex(&mut text[36..52], random() | 1);
    HeaderValue::from_bytes(&text).expect("hexadecimal is a valid header value")
}

/// Writes the lowest digits of `value` over all of `out`, two at a time. Every request has 80.
fn write_hex(out: &mut [u8], mut value: u64) {
    for digits in out.rchunks_exact_mut(2) {
        digits.copy_from_slice(&HEX[(value & 0xff) as usize]);
        value >>= 8;
    }
}

/// The two digits of every byte.
static HEX: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// 64 bits that do not repeat: identifiers and load balancing, never secrets.
///
/// SplitMix64 seeded per thread from the clock and the thread's own address.
pub fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut seed = state.get();
        if seed == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            seed = (now.as_nanos() as u64) ^ ((state.as_ptr() as u64) << 17) | 1;
        }
        let next = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut mixed = next;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_context_is_kept_and_anything_else_is_made_anew() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = "123e4567-e89b-42d3-a456-426614174000";
        let mut kept = HeaderMap::new();
        kept.insert(TRACEPARENT, HeaderValue::from_static(parent));
        kept.insert(REQUEST_ID, HeaderValue::from_static(id));
        let ids = bind(&mut kept);
        assert_eq!(
            (ids.traceparent, ids.request_id),
            (parent.parse().unwrap(), id.parse().unwrap())
        );

        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            let mut made = HeaderMap::new();
            made.insert(TRACEPARENT, HeaderValue::from_static(bad));
            made.insert(REQUEST_ID, HeaderValue::from_static("alice@example.com"));
            made.insert(TRACESTATE, HeaderValue::from_static("a=b"));
            let ids = bind(&mut made);
            assert!(is_traceparent(ids.traceparent.as_bytes()), "{bad}");
            assert!(is_uuid(ids.request_id.as_bytes()), "{:?}", ids.request_id);
            assert!(!made.contains_key(TRACESTATE));
        }
    }
}
