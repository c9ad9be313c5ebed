//! HTTP/1 connections of one endpoint: a stack of idle ones and a count of all.
//!
//! A connection in use is a [`Lease`], the right to have one a [`Slot`]; dropping either gives the
//! right to the next who waits. No lock is held while a connection is polled for a request.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Queue;
use crate::codec::Wire;
use crate::lanes::Home;
use crate::upstream::balance::{Connections, Endpoint};
use crate::upstream::connect::connect;
use crate::upstream::{UpstreamError, UpstreamLimits};

pub(in crate::upstream) struct Http1Pool {
    state: Mutex<State>,
    connections_max: usize,
    idle_max: usize,
    idle_timeout: Duration,
}

struct State {
    /// The youngest last: what was used last is used first, so that the rest can grow old.
    idle: Vec<Idle>,
    /// Connections that exist or are being made.
    open: usize,
    queue: Queue<Grant>,
    /// Whether idle connections are still kept.
    keeping: bool,
}

struct Idle {
    wire: Box<Wire>,
    /// The wire's, where it is found without a look at each wire.
    home: Home,
    since: Instant,
}

/// The right to one connection of an endpoint; dropping it passes the right on.
pub(in crate::upstream) struct Slot(Option<Arc<Endpoint>>);

/// A connection that one request uses.
pub(in crate::upstream) struct Lease {
    pub(in crate::upstream) wire: Box<Wire>,
    /// Whether an earlier request was answered on it.
    pub(in crate::upstream) reused: bool,
    slot: Slot,
}

/// What one who waited is given.
enum Grant {
    Reuse(Lease),
    Connect(Slot),
}

enum Turn {
    Now(Grant),
    Wait(oneshot::Receiver<Grant>),
}

// === impl Lease ===

impl Lease {
    /// A connection to the endpoint, an idle one unless `fresh` is asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue or closes the half-made connection.
    pub(in crate::upstream) async fn take(
        endpoint: &Arc<Endpoint>,
        fresh: bool,
    ) -> Result<Self, UpstreamError> {
        loop {
            let grant = match Http1Pool::of(endpoint).turn(endpoint, fresh)? {
                Turn::Now(grant) => grant,
                Turn::Wait(granted) => wait(endpoint, granted).await?,
            };
            match grant {
                Grant::Connect(slot) => {
                    // In a box: rare, and large for the handshake that it may hold.
                    let wire = Box::new(Wire::new(Box::pin(connect(endpoint)).await?));
                    return Ok(Self { wire, reused: false, slot });
                }
                Grant::Reuse(mut lease) => {
                    lease.wire.settle_here();
                    if lease.wire.is_reusable() {
                        return Ok(lease);
                    }
                }
            }
        }
    }

    /// Puts the connection back if it can serve another request, closes it otherwise.
    pub(in crate::upstream) fn settle(mut self) {
        if !self.wire.is_settled() {
            return;
        }
        let Some(endpoint) = self.slot.0.take() else { return };
        self.reused = true;
        Http1Pool::of(&endpoint).put(self, &endpoint);
    }

    /// The connection and the right to it, for a tunnel.
    pub(in crate::upstream) fn into_parts(self) -> (Box<Wire>, Slot) {
        (self.wire, self.slot)
    }
}

/// Waits in the queue, within the queue's own time limit.
async fn wait(
    endpoint: &Endpoint,
    granted: oneshot::Receiver<Grant>,
) -> Result<Grant, UpstreamError> {
    let wait = endpoint.shared.limits.queue_wait;
    match timeout(wait, granted).await {
        Ok(Ok(grant)) => Ok(grant),
        Ok(Err(_)) | Err(_) => Err(UpstreamError::QueueTimeout { wait }),
    }
}

// === impl Slot ===

impl Slot {
    /// Gives the right back to a pool that is at hand already.
    fn forgo(mut self) {
        self.0 = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.take() {
            Http1Pool::of(&endpoint).release(&endpoint);
        }
    }
}

// === impl State ===

impl State {
    /// The youngest idle connection that is at home where the caller runs, or else the youngest of
    /// all.
    fn take_idle(&mut self) -> Option<Idle> {
        let here = Home::here();
        match self.idle.iter().rposition(|idle| idle.home == here) {
            Some(at) => Some(self.idle.remove(at)),
            None => self.idle.pop(),
        }
    }
}

// === impl Http1Pool ===

impl Http1Pool {
    pub(in crate::upstream) fn new(limits: &UpstreamLimits) -> Self {
        let queue = Queue::new(limits.queue_max);
        Self {
            state: Mutex::new(State { idle: Vec::new(), open: 0, queue, keeping: true }),
            connections_max: limits.http1_connections_max,
            idle_max: limits.idle_max,
            idle_timeout: limits.idle_timeout,
        }
    }

    fn of(endpoint: &Endpoint) -> &Self {
        match &endpoint.connections {
            Connections::Http1(pool) => pool,
            Connections::Http2(_) => unreachable!("an HTTP/1 lease is taken at HTTP/1 endpoints"),
        }
    }

    /// What a request may do now: use an idle connection, make one, or wait.
    fn turn(&self, endpoint: &Arc<Endpoint>, fresh: bool) -> Result<Turn, UpstreamError> {
        let slot = || Slot(Some(Arc::clone(endpoint)));
        let mut stale = None;
        let mut state = self.state.lock();
        let room = state.open < self.connections_max;
        let turn = match state.take_idle() {
            Some(idle) if fresh && room => {
                state.idle.push(idle);
                state.open += 1;
                Turn::Now(Grant::Connect(slot()))
            }
            // Also when it grew too old between two sweeps.
            Some(idle) if fresh || self.idle_timeout <= idle.since.elapsed() => {
                stale = Some(idle);
                Turn::Now(Grant::Connect(slot()))
            }
            Some(Idle { wire, .. }) => {
                Turn::Now(Grant::Reuse(Lease { wire, reused: true, slot: slot() }))
            }
            None if room => {
                state.open += 1;
                Turn::Now(Grant::Connect(slot()))
            }
            None => match state.queue.join() {
                Some(granted) => Turn::Wait(granted),
                None => return Err(UpstreamError::QueueFull { queue_max: state.queue.max }),
            },
        };
        drop(state);
        drop(stale); // Closing a socket is a system call: never under the lock.
        Ok(turn)
    }

    /// Takes a connection that can serve another request; the right to it has been taken from it.
    fn put(&self, mut lease: Lease, endpoint: &Arc<Endpoint>) {
        let home = lease.wire.home();
        let mut state = self.state.lock();
        if state.queue.len() != 0 {
            lease.slot = Slot(Some(Arc::clone(endpoint)));
            let Err(grant) = state.queue.give(Grant::Reuse(lease)) else { return };
            let Grant::Reuse(returned) = grant else { return };
            lease = returned;
        }
        let Lease { wire, slot, .. } = lease;
        slot.forgo(); // An idle connection does not keep its endpoint alive.
        if state.idle.len() < self.idle_max && state.keeping {
            state.idle.push(Idle { wire, home, since: Instant::now() });
        } else {
            drop(state);
            drop(wire);
            self.release(endpoint);
        }
    }

    /// A connection is gone: the next who waits may make one.
    fn release(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.state.lock();
        let slot = Slot(Some(Arc::clone(endpoint)));
        if let Err(Grant::Connect(slot)) = state.queue.give(Grant::Connect(slot)) {
            slot.forgo();
            state.open -= 1;
        }
    }

    /// Closes what was idle for too long or was closed by the endpoint meanwhile.
    pub(in crate::upstream) fn expire_idle(&self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let old = state.idle.partition_point(|idle| idle.since + self.idle_timeout <= now);
        gone.extend(state.idle.drain(..old));
        gone.extend(state.idle.extract_if(.., |idle| !idle.wire.is_reusable()));
        state.open -= gone.len();
        drop(state);
    }

    /// Closes every idle connection and keeps none from now on.
    pub(in crate::upstream) fn close_idle(&self) {
        self.state.lock().keeping = false;
        self.retire();
    }

    /// Closes every idle connection. One that is in use is kept if it is answered on.
    pub(in crate::upstream) fn retire(&self) {
        let mut state = self.state.lock();
        let gone = std::mem::take(&mut state.idle);
        state.open -= gone.len();
        drop(state);
    }

    /// Connections, those of them that are idle, and requests that wait.
    pub(in crate::upstream) fn figures(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        (state.open, state.idle.len(), state.queue.len())
    }
}
