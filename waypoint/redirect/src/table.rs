//! What the kernel is to do: which service ports go where, and who is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The longest service name that is kept in the kernel, in bytes; longer ones are cut there.
pub const SERVICE_MAX: usize = 140;
/// Targets of one service port; those after it are left out and counted.
pub const TARGETS_MAX: usize = 16;
/// Service ports that are redirected. Those after it are refused, and reported as an alarm.
pub const ENTRIES_MAX: u32 = 65_536;
/// Service ports beyond [`ENTRIES_MAX`] that can be refused. A larger table is not applied.
pub const REFUSALS_MAX: u32 = 131_072;
/// Cgroups that can be exempt by name. A table with more is not applied.
pub const EXEMPT_MAX: u32 = 1024;

/// The whole desired state, applied at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By service address and port, IPv4 or IPv6. An IPv4-mapped IPv6 address is its IPv4 address.
    pub entries: BTreeMap<SocketAddr, Entry>,
    /// Whose connects are left alone.
    pub exempt: Exempt,
}

/// One service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `namespace/name:port`, for people who look at the map; at most [`SERVICE_MAX`] bytes of it.
    pub service: String,
    /// The waypoints that are ready, at most [`TARGETS_MAX`]. A weight of 0 is not chosen.
    pub targets: Vec<Target>,
    /// What happens when no target is ready.
    pub unready: Unready,
    /// Whether UDP to this port is refused, so that HTTP/3 cannot pass beside the waypoint.
    pub refuse_udp: bool,
}

/// Where a waypoint listens for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// IPv4 services can use IPv4 targets only; IPv6 services use IPv6 targets, or IPv4 ones if
    /// there are no others.
    pub address: SocketAddr,
    /// Its part among the weights of all targets.
    pub weight: u16,
}

/// What happens to a connect when no target is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unready {
    /// ECONNREFUSED.
    #[default]
    Refuse,
    /// It goes to the service as if there were no entry.
    Direct,
}

/// Whose connects are never redirected or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Ids of cgroups (v2), as `kernel::cgroup_id` gives them. A process in one of them or below
    /// it, down to 32 levels from the root, is exempt.
    pub cgroups: BTreeSet<u64>,
    /// Sockets with this mark (`SO_MARK`).
    pub mark: Option<Mark>,
    /// Sockets of the agent's own network namespace: on a node, the host network.
    pub host_network: bool,
}

/// A socket's mark is compared under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the masked mark must be.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}
