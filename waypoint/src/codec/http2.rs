//! HTTP/2 towards the client.
//!
//! One task drives the connection's frames; each stream is a task of its own that any worker may
//! run. Bytes that come in pass the [`scanner`] first, which counts what `h2` does not.
//!
//! ```text
//! bytes ─► scanner ─► h2 ─► connection ──stream──► task: check ─► journey ─► answer
//!             │                  │
//!             └── flood ─────────┴─► GOAWAY (closing, idle, flood, cut)
//! ```

mod body;
mod connection;
pub(crate) mod frames;
mod head;
mod queued;
mod scanner;
mod stream;
pub(crate) mod turns;
mod websocket;

pub(super) use self::{body::RequestBody, connection::serve};

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

#[cfg(test)]
mod tests;
