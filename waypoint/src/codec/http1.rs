//! HTTP/1.1 and HTTP/1.0: towards the client here, towards an endpoint in [`client`].
//!
//! One task drives a connection: it reads a head, calls the journey, writes the answer, and reads
//! the next head. Requests that a client sends ahead wait in the kernel and are answered in order.
//!
//! ```text
//!            ┌────────────── the same connection again ─────────────┐
//!            ▼                                                      │
//! idle ─► head ─► journey ─► answer's head ─► answer's body ─► rest of the request's body
//!            │       │             └─ 101 ─► tunnel
//!            │       └─ the client resets ─► cut
//!            └─ refused ─► 4xx, close
//! ```
//!
//! The request's body owns the reading side while it lives and hands it back through a slot, so
//! that it may be read from wherever the journey has taken it.

mod answer;
mod body;
pub(super) mod client;
mod connection;
mod decode;
mod encode;
mod head;
mod outbox;
mod reader;
mod tunnel;
mod writer;

pub(super) use self::{body::RequestBody, connection::serve};

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

#[cfg(test)]
mod tests;
