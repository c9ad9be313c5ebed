//! A panic ends the request that it happened in and nothing else: the connection, its other streams
//! and the process go on.
//!
//! Takes one poll of what belongs to a request, gives what it gave or [`Panicked`]. What has
//! panicked is dropped and never polled again, so nobody sees the state that it was left in; what
//! requests share is behind locks that do not poison.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

/// What was polled has panicked. The panic hook has said where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panicked;

/// Polls; after a panic, what was polled must be dropped.
pub(super) fn poll_isolated<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Result<T, Panicked>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    }
}

#[cfg(test)]
mod tests;
