//! Waypoint: one HTTP and gRPC proxy per namespace that runs a chain of sandboxed Wasm filters.
//!
//! The modules below are a request's journey, in the order in which it walks them; what stands
//! around the journey follows. `docs/architecture.md` tells the same story in prose.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "what tests spawn ends with their runtime")
)]

pub mod listener;

pub mod codec;

pub mod identity;

pub mod route;

pub mod filter_chain;

pub mod authorize;

pub mod upstream;

pub mod response;

pub mod access_log;
pub mod metrics;
pub mod trace;

pub mod admin;
pub mod app;
pub mod cli;
pub mod compile;
pub mod demo;
pub mod drain;
pub mod error;
pub mod grpc;
pub mod journey;
pub mod lanes;
pub mod memory;
pub mod mirror;
pub mod overload;
pub mod redirect;
pub mod resources;
pub mod snapshot;
