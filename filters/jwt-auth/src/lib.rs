//! A bundled Waypoint filter: lets requests pass that carry a valid JSON Web Token.
//!
//! The token is that of `Authorization: Bearer`; only the compact form signed with RS256, ES256 or
//! EdDSA is read. A request without one is answered 401, one with a bad one 401 with
//! `error="invalid_token"` (RFC 6750, section 3; a wrong audience too), and 503 while an issuer's keys
//! are not to be had: nothing passes unchecked. Headers that are made of claims are removed from
//! every request first.
//!
//! Beyond ABI 0.2.1 it uses the foreign functions `verify_signature` (with a fallback in the guest),
//! `waypoint_ready` and `clear_route_cache`.

pub mod cache;
pub mod config;
pub mod keys;
pub mod remote;
pub mod strict_json;
#[cfg(test)]
mod testing;
pub mod token;
pub mod verify;

mod filter;
mod request;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use filter::JwtAuth;

waypoint_sdk::export!(JwtAuth);

/// Strict base64url: no padding, no stray bits, no other character.
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
