//! Guests built from source, against the public surface.

mod bodies;
mod callouts;
mod data;
mod guest;
mod headers;
mod hostile;
mod loading;
mod support;
mod vms;
