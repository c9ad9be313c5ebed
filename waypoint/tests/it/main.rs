//! The proxy as its users run it: the real binary, real sockets, real Wasm.
//!
//! One file per behaviour. Each test starts a waypoint of its own on ports that the kernel picks,
//! with resources from a string; [`harness`] and [`origin`] hold what they share.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime: nothing drains them"
)]

mod harness;
mod origin;

mod bodies;
mod grpc;
mod http2_threads;
mod hygiene;

mod routing;

mod tls;
mod walk;
mod websocket;
