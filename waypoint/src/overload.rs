//! What one client, and all of them together, may have at a time.
//!
//! Connections are counted by the client's address when they are accepted; requests by the client's
//! principal if it has one, by its address otherwise, and all together. Past a bound a connection is
//! closed before a byte is read; a request is answered 429 (its client has too many) or 503 (the
//! process has), with `retry-after`, before its body is read or a route chosen, and those that run
//! go on. Trusted hops are proxies: nobody is counted by their addresses.
//!
//! A client is held in memory while it has a connection or a request, so that there are never more
//! of them than connections and running requests, which are bounded themselves; nothing that a client
//! sends makes another one. One that has reset streams is remembered for some seconds longer
//! ([`REMEMBERED_MAX`]): who comes again does not begin anew.

mod descriptors;
mod resets;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use self::resets::Resets;
use crate::error::RequestError;
use crate::identity::TrustedHops;

pub use descriptors::{Descriptors, connections_within};
pub use resets::CLIENT_RESETS_MAX;

/// Requests at a time of the whole process, unless told otherwise.
pub const REQUESTS_MAX_DEFAULT: u32 = 50_000;

/// Clients without a connection whose resets are remembered. When full: the first of them is forgotten.
pub const REMEMBERED_MAX: usize = 10_000;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time of one address. Past it: closed before a byte is read.
    pub connections_per_address: u32,
    /// Requests at a time of one principal or address. Past it: 429.
    pub requests_per_client: u32,
    /// Requests at a time of the whole process. Past it: 503.
    pub requests: u32,
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    /// See [`network`].
    Address(IpAddr),
    Principal(Arc<str>),
}

/// How often each bound was met, by its name.
pub type Refused = Family<[(&'static str, &'static str); 1], Counter>;

/// What every connection and request of the process is counted in.
pub struct Clients {
    bounds: Bounds,
    trusted: Arc<TrustedHops>,
    refused: Refused,
    /// Open now, of all addresses.
    connections: AtomicU32,
    requests: Arc<AtomicU32>,
    known: Mutex<Known>,
}

/// The clients that are held in memory.
#[derive(Default)]
struct Known {
    clients: HashMap<Client, Arc<Counts>>,
    /// Those that are remembered, each once, in the order in which they left.
    remembered: VecDeque<(Instant, Client)>,
}

/// What one client has.
#[derive(Default)]
struct Counts {
    connections: AtomicU32,
    requests: Arc<AtomicU32>,
    resets: Resets,
    /// Whether it is among the remembered; looked at and set under the lock.
    remembered: AtomicBool,
}

/// A client that has a connection; forgotten with its last one.
pub struct Held {
    clients: Arc<Clients>,
    client: Client,
    counts: Arc<Counts>,
    /// Whether the connection counts towards its client's.
    counted: bool,
}

impl fmt::Debug for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Held").field(&self.client).finish()
    }
}

/// A request that runs: its places are given back with it.
pub struct Running {
    _of_client: Option<Place>,
    _of_process: Place,
}

/// One place of a counter.
struct Place(Arc<AtomicU32>);

// === impl Clients ===

impl Clients {
    /// Nobody has anything yet.
    pub fn new(bounds: Bounds, trusted: Arc<TrustedHops>, refused: Refused) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            trusted,
            refused,
            connections: AtomicU32::default(),
            requests: Arc::default(),
            known: Mutex::default(),
        })
    }

    /// A connection from an address; `None`: it has too many.
    pub fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Held> {
        let counted = !self.trusted.contains(address);
        let bound = counted.then_some(self.bounds.connections_per_address);
        let held = self.hold(Client::Address(network(address)), bound, counted)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(held)
    }

    /// The client of a connection whose certificate names it: its requests count towards its name,
    /// from wherever it connects.
    pub fn named(self: &Arc<Self>, principal: &Arc<str>) -> Option<Held> {
        self.hold(Client::Principal(Arc::clone(principal)), None, true)
    }

    fn hold(self: &Arc<Self>, client: Client, bound: Option<u32>, counted: bool) -> Option<Held> {
        let mut known = self.known.lock();
        known.forget(Instant::now());
        let counts = Arc::clone(known.clients.entry(client.clone()).or_default());
        // Under the lock: nobody else counts connections.
        let open = counts.connections.load(Ordering::Relaxed);
        if bound.is_some_and(|bound| bound <= open) {
            if open == 0 {
                known.leave(&client, &counts);
            }
            drop(known);
            self.refuse("connections_per_address");
            return None;
        }
        counts.connections.store(open + 1, Ordering::Relaxed);
        drop(known);
        Some(Held { clients: Arc::clone(self), client, counts, counted })
    }

    fn refuse(&self, limit: &'static str) {
        self.refused.get_or_create(&[("limit", limit)]).inc();
    }

    /// How many connections are open.
    pub fn open(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many requests run.
    pub fn running(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many clients are held in memory.
    pub fn held(&self) -> usize {
        self.known.lock().clients.len()
    }
}

// === impl Known ===

impl Known {
    /// A client's last connection has ended: it goes, or is remembered.
    fn leave(&mut self, client: &Client, counts: &Counts) {
        let now = Instant::now();
        if counts.remembered.load(Ordering::Relaxed) {
            return;
        }
        let Some(until) = counts.resets.until(now) else {
            self.clients.remove(client);
            return;
        };
        if REMEMBERED_MAX <= self.remembered.len() {
            self.forget_first(None);
        }
        counts.remembered.store(true, Ordering::Relaxed);
        self.remembered.push_back((until, client.clone()));
    }

    /// Forgets those whose time is over.
    fn forget(&mut self, now: Instant) {
        while self.remembered.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first(Some(now));
        }
    }

    /// The first of the remembered is remembered no longer, unless it has no connection and something
    /// is to be remembered of it again at `now`.
    fn forget_first(&mut self, now: Option<Instant>) {
        let Some((_, client)) = self.remembered.pop_front() else { return };
        let Some(counts) = self.clients.get(&client) else { return };
        counts.remembered.store(false, Ordering::Relaxed);
        if 0 < counts.connections.load(Ordering::Relaxed) {
            return;
        }
        match now.and_then(|now| counts.resets.until(now)) {
            None => drop(self.clients.remove(&client)),
            Some(until) => {
                counts.remembered.store(true, Ordering::Relaxed);
                self.remembered.push_back((until, client));
            }
        }
    }
}

/// What stands for one client: an IPv4 address, or 64 bits of an IPv6 address, for whoever has one has
/// the whole network.
///
/// # Source
///
/// RFC 6177, section 2; RFC 7421.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

// === impl Held ===

impl Held {
    /// A request of this client begins.
    ///
    /// # Errors
    ///
    /// The client, or the process, has too many.
    pub fn begin(&self) -> Result<Running, RequestError> {
        let Bounds { requests_per_client, requests, .. } = self.clients.bounds;
        let of_client = match self.counted {
            false => None,
            true => match Place::take(&self.counts.requests, requests_per_client) {
                Some(place) => Some(place),
                None => {
                    self.clients.refuse("requests_per_client");
                    return Err(RequestError::ClientRequestsMax);
                }
            },
        };
        let Some(of_process) = Place::take(&self.clients.requests, requests) else {
            self.clients.refuse("requests");
            return Err(RequestError::RequestsMax);
        };
        Ok(Running { _of_client: of_client, _of_process: of_process })
    }

    /// A stream of this client begins that it may reset.
    pub fn stream_begins(&self) {
        if self.counted {
            self.counts.resets.stream_begins(Instant::now());
        }
    }

    /// Whether this client may reset so many streams more, by [`CLIENT_RESETS_MAX`].
    #[must_use]
    pub fn may_reset(&self, streams: u32) -> bool {
        !self.counted || self.counts.resets.may_reset(streams, Instant::now())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that is held by its principal is held by its address, too.
        if let Client::Address(_) = self.client {
            self.clients.connections.fetch_sub(1, Ordering::Relaxed);
        }
        let mut known = self.clients.known.lock();
        if self.counts.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            known.leave(&self.client, &self.counts);
        }
    }
}

// === impl Place ===

impl Place {
    fn take(counter: &Arc<AtomicU32>, bound: u32) -> Option<Self> {
        let more = |taken: u32| (taken < bound).then_some(taken + 1);
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(counter)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
