//! Finds personal data in requests and responses and redacts it, while they stream.
//!
//! ```text
//!  filter ─► heads (headers, query, what to do with the body)
//!        └─► body ─► format (text, json, form, events, multipart) ─► redactor ─► scanner ─► detect
//! ```
//! The configuration, what is refused and what is not found: `README.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod body;
mod bytes;
mod chars;
mod config;
mod detect;
mod filter;
mod heads;
mod number;
mod operator;
mod redactor;
mod rules;
mod scanner;
mod window;

pub use config::Config;
pub use filter::{Exchange, PiiRedact};

waypoint_sdk::export!(PiiRedact);
