//! The bundled filters as WebAssembly modules, for `builtin://NAME`.

/// The filters' names, in alphabetical order.
pub const NAMES: &[&str] = &["jwt-auth", "payload-router", "pii-redact"];

/// The module of a filter; `None` when there is none of that name.
pub fn module(name: &str) -> Option<&'static [u8]> {
    match name {
        "jwt-auth" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/jwt-auth.wasm"))),
        "payload-router" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/payload-router.wasm"))),
        "pii-redact" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/pii-redact.wasm"))),
        _ => None,
    }
}
