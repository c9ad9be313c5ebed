//! The three filters that come with the proxy, as the Wasm that they are.

mod jwt;
mod redact;
mod router;
pub(crate) mod tokens;
