//! What tunnels of both versions share, and the opening handshake of WebSocket where this proxy is one
//! of its ends: a client of HTTP/2 has no key, and an endpoint of HTTP/1 wants one; a client of HTTP/1
//! wants its key accepted, and an endpoint of HTTP/2 gives nothing to accept it with.
//!
//! # Source
//!
//! RFC 6455, 4.1 and 4.2.2; RFC 8441, 5.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a tunnel holds of each direction, in bytes; past it the faster side waits.
pub(crate) const TUNNEL_BUFFER_BYTES: usize = 8 * 1024;

/// What an endpoint hashes together with the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

pub(crate) const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(crate) const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// A new key; `None` when the system gives no random bytes.
pub(super) fn new_key() -> Option<HeaderValue> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    HeaderValue::try_from(STANDARD.encode(nonce)).ok()
}

/// Whether an answer accepts the request that had this key.
pub(super) fn is_accepted(key: &HeaderValue, answer: &HeaderMap) -> bool {
    let wanted = accept_of(key);
    let mut said = answer.get_all(ACCEPT).iter();
    said.next().is_some_and(|said| said == wanted.as_str()) && said.next().is_none()
}

/// What accepts a key.
pub(crate) fn accept_of(key: &HeaderValue) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hash_of_the_key_accepts_it() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let answer = |accepts: &[&'static str]| {
            let accepts = accepts.iter().map(|accept| (ACCEPT, HeaderValue::from_static(accept)));
            accepts.collect::<HeaderMap>()
        };
        assert!(is_accepted(&key, &answer(&["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])));
        for accepts in [
            &["s3pPLMBiTxaQ9kYGzzhZRbK+xOO="][..],
            &["dGhlIHNhbXBsZSBub25jZQ=="],
            &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "x"],
            &[],
        ] {
            assert!(!is_accepted(&key, &answer(accepts)), "{accepts:?}");
        }
    }
}
