//! What a filter author imports: a thin, typed layer over the `proxy-wasm` crate.
//!
//! A filter is two types. The [`Filter`] lives as long as its VM and owns what requests share: the
//! configuration, caches, metrics. It opens one [`HttpFilter`] per request, whose callbacks take the
//! shared part by `&mut` and answer with a [`Flow`]. [`export!`] makes a module of them.
//!
//! ```
//! use waypoint_sdk::{ConfigError, Filter, Flow, HttpFilter, Request, RequestId, Root};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     greeting: String,
//! }
//!
//! struct Greeter {
//!     greeting: String,
//! }
//!
//! impl Filter for Greeter {
//!     type Config = Config;
//!     type Http = Greeting;
//!
//!     fn configure(config: Config, _root: &mut Root) -> Result<Self, ConfigError> {
//!         Ok(Self { greeting: config.greeting })
//!     }
//!
//!     fn open(&mut self, _id: RequestId) -> Greeting {
//!         Greeting
//!     }
//! }
//!
//! struct Greeting;
//!
//! impl HttpFilter for Greeting {
//!     type Shared = Greeter;
//!
//!     fn on_request_headers(&mut self, shared: &mut Greeter, request: &mut Request) -> Flow {
//!         if request.path() == "/forbidden" {
//!             return request.reply(403, &[], b"no\n");
//!         }
//!         request.headers().set("x-greeting", &shared.greeting);
//!         Flow::Continue
//!     }
//! }
//!
//! waypoint_sdk::export!(Greeter);
//!
//! # fn main() {
//! let mut tester = waypoint_sdk::testing::Tester::<Greeter>::start(r#"{"greeting": "hi"}"#).unwrap();
//! let id = tester.open();
//! let flow = tester.request_headers(id, &[(":method", "GET"), (":path", "/")], true);
//! assert_eq!(flow, Flow::Continue);
//! assert_eq!(tester.stream(id).request_headers.last().unwrap().1, b"hi");
//! # }
//! ```
//!
//! Only hostcalls of proxy-wasm ABI 0.2.1 are used, so a filter runs on Envoy unchanged. What goes
//! beyond the ABI are the foreign functions of [`foreign`]; a host that lacks them is tolerated.
//!
//! A host's mistake never panics here, with one limit: the `proxy-wasm` crate itself traps on a
//! status that it does not know for a hostcall, for example when the headers of one side are read in
//! a callback of the other. The types keep a filter out of those calls.

#![deny(missing_docs)]

mod callout;
mod config;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod entry;
mod filter;
pub mod foreign;
mod host;
mod message;
mod metrics;
mod runtime;
pub mod shared_data;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use callout::{Answer, CallError, CallId, Callout};
pub use config::{ConfigError, duration};
pub use filter::{Filter, Flow, HttpFilter, RequestId, Root};
pub use message::{
    Body, Direction, Headers, Message, Request, Response, is_header_name, is_header_value,
};
pub use metrics::{Counter, Gauge, Histogram};

/// Log macros; a line reaches the host's log with the filter's name.
pub use log::{debug, error, info, trace, warn};

/// The host's wall clock; it may jump.
pub fn now() -> std::time::SystemTime {
    host::now()
}

/// Time since this VM began to ask for it: it never jumps, so measure ages and waits with it.
pub fn uptime() -> std::time::Duration {
    host::uptime()
}

/// Makes a proxy-wasm module of a [`Filter`]: registers it when the module is initialised.
///
/// Natively it only checks that the type is a filter.
#[macro_export]
macro_rules! export {
    ($filter:ty) => {
        #[cfg(target_family = "wasm")]
        $crate::entry::main!({ $crate::entry::start::<$filter>() });

        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn is_filter<F: $crate::Filter>() {}
            is_filter::<$filter>();
        };
    };
}

/// The Rust examples of the project's README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
