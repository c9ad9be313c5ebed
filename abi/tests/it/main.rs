//! Guests built from source, against the public surface.

#![allow(clippy::disallowed_methods, reason = "what tests spawn ends with their runtime")]

mod bodies;
mod callouts;
mod data;
mod guest;
mod headers;
mod hostile;
mod loading;
mod support;
mod vms;
