//! The codec's own sources (links to `waypoint/src`), compiled with their oracles and without what
//! they do not need: the crate `waypoint` would bring wasmtime, built anew for fuzzing.

#![allow(dead_code, unreachable_pub, reason = "only the oracles are used")]

pub mod codec;
mod drain;
mod lanes;

/// Stand-ins, with what the codec looks at: it carries these from the handshake to the journey.
mod identity {
    #[derive(Debug)]
    pub struct PeerCertificate {
        pub principal: Option<std::sync::Arc<str>>,
    }
}

mod overload {
    #[derive(Debug)]
    pub struct Held;

    impl Held {
        pub fn stream_begins(&self) {}

        pub fn may_reset(&self, _streams: u32) -> bool {
            true
        }
    }
}
