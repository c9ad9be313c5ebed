//! Finds personal data in requests and responses and redacts it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod body;
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
