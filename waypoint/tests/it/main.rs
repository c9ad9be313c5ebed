//! The proxy as its users run it: the real binary, real sockets, real Wasm.
//!
//! One file per behaviour. Each test starts a waypoint of its own on ports that the kernel picks,
//! with resources from a string; [`harness`] and [`origin`] hold what they share.

#![allow(clippy::disallowed_methods, reason = "what tests spawn ends with their runtime")]
#![allow(
    clippy::unwrap_used,
    reason = "helpers too are part of a test: one that cannot go on ends"
)]

mod client;
mod dns;
mod guests;
mod harness;
mod http2_frames;
mod origin;
mod streams;

mod bundled;
mod callout;
mod envoy;
mod hostile;
mod limits;
mod overload;
mod policies;
mod records;
mod uploads;
mod walk;

mod check;
mod demo_walk;
mod drain_process;
mod generations;
mod modules;
mod operate;
mod reload;
mod takeover;

mod ahead;
mod backend_filters;
mod bodies;
mod client_certificates;
mod client_revocation;
mod ejection;
mod faults;
mod framing;
mod grpc;
mod grpc_route;
mod hygiene;
mod interim;
mod locality;
mod names;
mod redirect;
mod route_filters;
mod routing;
mod suites;
mod threads;
mod tls;
mod upstream_tls;
mod websocket;
mod websocket_suite;
