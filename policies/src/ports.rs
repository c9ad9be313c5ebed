//! Which port the waypoint listens on for each service port (design decision 11).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::model::ServicePortKey;

/// Ports that service entrances get: outside the ephemeral range, for an outgoing connection that
/// holds a port makes listening on it fail.
pub const SERVICE_PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// Gives a port to each wanted service port.
///
/// Pure and stable: what had a port keeps it; the others get the lowest free ones in the order of
/// their names. A port that was given up is free at once; who must wait before a number is used
/// again (agents that still map it) leaves it in `previous` for as long, under its old owner, and
/// in `wanted` too. When all 10,000 are taken the rest get none: they are absent in the answer.
pub fn allocate(
    previous: &BTreeMap<ServicePortKey, u16>,
    wanted: &BTreeSet<ServicePortKey>,
) -> BTreeMap<ServicePortKey, u16> {
    allocate_around(previous, wanted, &BTreeSet::new())
}

/// [`allocate`], leaving out ports that something else listens on.
pub(crate) fn allocate_around(
    previous: &BTreeMap<ServicePortKey, u16>,
    wanted: &BTreeSet<ServicePortKey>,
    occupied: &BTreeSet<u16>,
) -> BTreeMap<ServicePortKey, u16> {
    let mut ports = kept(previous, wanted);
    ports.retain(|_, port| !occupied.contains(port));
    let mut taken = occupied.clone();
    taken.extend(ports.values());
    let mut free = SERVICE_PORTS.filter(|port| !taken.contains(port));
    for key in wanted {
        if ports.contains_key(key) {
            continue;
        }
        let Some(port) = free.next() else { break };
        ports.insert(key.clone(), port);
    }
    ports
}

/// The entries of the previous table that stay; a table that names a port twice or one outside the
/// range keeps the first and drops the other.
fn kept(
    previous: &BTreeMap<ServicePortKey, u16>,
    wanted: &BTreeSet<ServicePortKey>,
) -> BTreeMap<ServicePortKey, u16> {
    let mut taken = BTreeSet::new();
    previous
        .iter()
        .filter(|(key, port)| {
            wanted.contains(key) && SERVICE_PORTS.contains(port) && taken.insert(**port)
        })
        .map(|(key, port)| (key.clone(), *port))
        .collect()
}
