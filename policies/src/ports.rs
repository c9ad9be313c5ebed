//! Which port the waypoint listens on for each service port, and who may know it (design decision
//! 11).
//!
//! ```text
//! needs L7 ─► given (published: agents map it) ─► retired ─► free
//!             keeps its number                    │ still listened on, no longer published
//!                                                 └ until every agent has acknowledged, or 24 h
//! ```
//! A number that one service had goes to another only when no agent can still map it to the first:
//! otherwise its connections would end at the wrong service, past its own filters.

mod published;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::model::ServicePortKey;

pub use published::{Acknowledgement, Listens, Published, RetiredPort};

/// Ports that service entrances get: outside the ephemeral range, for an outgoing connection that
/// holds a port makes listening on it fail.
pub const SERVICE_PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// After how long a retired number is free even if an agent never acknowledged, in seconds.
pub const REUSE_AFTER_SECONDS: u64 = 24 * 60 * 60;

/// The ports of service entrances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Counts up whenever `given` changes.
    pub generation: u64,
    /// The port of each service port that needs one.
    pub given: BTreeMap<ServicePortKey, u16>,
    /// Numbers that nobody else may have yet.
    pub retired: BTreeMap<u16, Retired>,
}

/// Who had a number, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Whose it was.
    pub service: ServicePortKey,
    /// The first generation without it.
    pub generation: u64,
    /// When that was, in seconds since 1970.
    pub since: u64,
}

/// What the next [`Ports`] are made from.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    /// The last ones.
    pub ports: Ports,
    /// The lowest generation that is in force at every agent; without any agent, the last one that
    /// was published, for one that comes now reads that. `u64::MAX` where nothing is published.
    pub acknowledged: u64,
    /// Seconds since 1970.
    pub now: u64,
    /// Ports of the range that something else listens on.
    pub taken: BTreeSet<u16>,
}

impl Numbering {
    /// Gives a port to each wanted service port, leaving out `occupied` ones, which are our own.
    ///
    /// Pure and stable: what has a port keeps it, what had one gets it back, and the others get the
    /// lowest free ones in the order of their names. When all 10,000 are in use the rest get none:
    /// they are absent in the answer.
    pub fn next(&self, wanted: &BTreeSet<ServicePortKey>, occupied: &BTreeSet<u16>) -> Ports {
        let unusable = |port: &u16| occupied.contains(port) || self.taken.contains(port);
        let mut given = self.kept(wanted);
        given.retain(|_, port| !unusable(port));
        let mut retired = self.ports.retired.clone();
        retired.retain(|_, retired| !self.is_free(retired));
        let previous = self.ports.given.iter();
        let lost = previous.filter(|(key, port)| given.get(*key) != Some(*port));
        let generation = self.ports.generation + 1;
        let lost: Vec<(u16, Retired)> = lost
            .map(|(key, port)| {
                (*port, Retired { service: key.clone(), generation, since: self.now })
            })
            .collect();
        // A broken table may name a port twice, or one outside the range.
        let used: BTreeSet<u16> = given.values().copied().collect();
        let lost = lost.into_iter().filter(|(port, _)| !used.contains(port));
        retired.extend(lost.filter(|(port, _)| SERVICE_PORTS.contains(port)));
        for (port, former) in retired.clone() {
            let key = &former.service;
            if wanted.contains(key) && !given.contains_key(key) && !unusable(&port) {
                given.insert(key.clone(), port);
                retired.remove(&port);
            }
        }
        let used: BTreeSet<u16> = given.values().copied().chain(retired.keys().copied()).collect();
        let mut free = SERVICE_PORTS.filter(|port| !used.contains(port) && !unusable(port));
        for key in wanted {
            if given.contains_key(key) {
                continue;
            }
            let Some(port) = free.next() else { break };
            given.insert(key.clone(), port);
        }
        let generation = if given == self.ports.given { self.ports.generation } else { generation };
        Ports { generation, given, retired }
    }

    /// Whether a retired number may go to another service.
    pub fn is_free(&self, retired: &Retired) -> bool {
        retired.generation <= self.acknowledged
            || self.now.saturating_sub(retired.since) >= REUSE_AFTER_SECONDS
    }

    /// The entries of the last table that stay; one that names a port twice or one outside the range
    /// keeps the first and drops the other.
    fn kept(&self, wanted: &BTreeSet<ServicePortKey>) -> BTreeMap<ServicePortKey, u16> {
        let mut taken = BTreeSet::new();
        let stays = |(key, port): &(&ServicePortKey, &u16)| {
            wanted.contains(*key) && SERVICE_PORTS.contains(*port) && taken.insert(**port)
        };
        let kept = self.ports.given.iter().filter(stays);
        kept.map(|(key, port)| (key.clone(), *port)).collect()
    }
}
