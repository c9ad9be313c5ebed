//! The connections of one endpoint, and the queue of those who wait for one.
//!
//! Both pools bound what they hold (see [`super::UpstreamLimits`]). When every connection is busy a
//! request waits its turn in a [`Queue`]; when that is full the request is shed.

mod http1;
mod http2;

use std::collections::VecDeque;

use tokio::sync::oneshot;

pub(super) use http1::{Http1Pool, Lease, Slot};
pub(super) use http2::{Http2Pool, StreamLease};

/// Requests that wait, first come first served. Whoever stopped waiting is skipped.
struct Queue<T> {
    waiting: VecDeque<oneshot::Sender<T>>,
    max: usize,
}

impl<T> Queue<T> {
    fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), max }
    }

    /// Joins at the end; `None` when the queue is full.
    fn join(&mut self) -> Option<oneshot::Receiver<T>> {
        if self.max <= self.waiting.len() {
            self.waiting.retain(|waiter| !waiter.is_closed());
        }
        if self.max <= self.waiting.len() {
            return None;
        }
        let (waiter, receiver) = oneshot::channel();
        self.waiting.push_back(waiter);
        Some(receiver)
    }

    /// Gives to the first who still waits, or back when nobody does.
    fn give(&mut self, mut gift: T) -> Result<(), T> {
        while let Some(waiter) = self.waiting.pop_front() {
            match waiter.send(gift) {
                Ok(()) => return Ok(()),
                Err(returned) => gift = returned,
            }
        }
        Err(gift)
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }
}
