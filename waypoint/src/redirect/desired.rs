//! What the kernel is to do: resources say which service ports need L7, waypoints where they serve
//! them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use waypoint_policies::ports::{Listens, Published};
use waypoint_policies::{Redirection, ServicePortKey, Unready};
use waypoint_redirect as kernel;

/// A waypoint as the agent sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) published: Published,
    /// Whether it answers that it is ready.
    pub(super) ready: bool,
}

/// What makes a table.
pub(super) struct Inputs<'a> {
    pub(super) redirections: &'a BTreeMap<ServicePortKey, Redirection>,
    pub(super) waypoints: &'a BTreeMap<String, Seen>,
    /// The table in force.
    pub(super) current: Option<&'a kernel::Table>,
    /// Whether a service port may stay as it was for a moment while no waypoint publishes it: the
    /// resources reach agents and waypoints one after the other.
    pub(super) settling: &'a dyn Fn(&ServicePortKey) -> bool,
    /// The machine that this agent runs on.
    pub(super) machine: &'a str,
    pub(super) exempt: &'a kernel::Exempt,
    /// The group that programs are attached to, and those above it: exempt, all would be.
    pub(super) attached: &'a BTreeSet<u64>,
}

/// A table, and what an operator should know of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) table: kernel::Table,
    pub(super) alarms: BTreeSet<Alarm>,
    /// Service ports that need L7 and that no waypoint publishes.
    pub(super) unpublished: BTreeSet<ServicePortKey>,
    /// Whether one of them stays as it was, with an entry: it may name a number that its waypoint has retired.
    pub(super) keeps_old: bool,
}

/// Something that keeps traffic from where it should go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// No waypoint has published a service port that needs one.
    Unserved(ServicePortKey),
    /// Waypoints have, and none is ready.
    Unready(ServicePortKey),
    /// A waypoint's connections cannot be told from those of its clients: it gets none.
    NotExempt(String),
    /// A service's address is one at which a waypoint listens: it is never redirected.
    OwnAddress(ServicePortKey, SocketAddr),
    /// Two services have the same address and port. Of two that need L7 the first has it; one that
    /// needs none goes where the other goes.
    SharedAddress(ServicePortKey, ServicePortKey),
}

impl Alarm {
    /// Every value of the metric's label.
    pub(super) const NAMES: [&'static str; 5] =
        ["unserved", "unready", "not_exempt", "own_address", "shared_address"];

    /// The value of the metric's label.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Unserved(_) => "unserved",
            Self::Unready(_) => "unready",
            Self::NotExempt(_) => "not_exempt",
            Self::OwnAddress(..) => "own_address",
            Self::SharedAddress(..) => "shared_address",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unserved(service) => {
                write!(out, "{service} needs L7, and no waypoint serves it")
            }
            Self::Unready(service) => write!(out, "no waypoint of {service} is ready"),
            Self::NotExempt(waypoint) => write!(
                out,
                "the waypoint {waypoint} has neither the agent's mark nor a control group of its own: \
                 it gets no connection, for its own could come back to it"
            ),
            Self::OwnAddress(service, address) => {
                write!(out, "{service} has the address of a waypoint, {address}: not redirected")
            }
            Self::SharedAddress(service, other) => {
                write!(out, "{service} has the address and port of {other}")
            }
        }
    }
}

/// Joins them. Fails closed: what needs L7 and has nobody to go to is refused, unless its Service says
/// otherwise.
pub(super) fn outcome(inputs: &Inputs<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.table.exempt = inputs.exempt.clone();
    let usable = usable(inputs, &mut outcome);
    let listening = listening(inputs.waypoints);
    let all = listening.values().flatten();
    let own: BTreeSet<SocketAddr> = all.flat_map(|(_, at)| at.addresses.iter().copied()).collect();
    let mut owners = direct_owners(inputs.redirections);
    for (service, redirection) in inputs.redirections.iter().filter(|(_, one)| one.applies()) {
        let listening = listening.get(service).map_or(&[][..], Vec::as_slice);
        if listening.is_empty() {
            outcome.unpublished.insert(service.clone());
            if (inputs.settling)(service) {
                outcome.keep(service, inputs.current);
                continue;
            }
        }
        for ip in &redirection.addresses {
            let address = SocketAddr::new(*ip, service.port);
            if own.contains(&address) {
                outcome.alarms.insert(Alarm::OwnAddress(service.clone(), address));
                continue;
            }
            if let Some((owner, applies)) = owners.get(&address).copied() {
                outcome.alarms.insert(Alarm::SharedAddress(service.clone(), owner.clone()));
                if applies {
                    continue;
                }
            }
            owners.insert(address, (service, true));
            let ready =
                listening.iter().filter(|(seen, _)| usable.contains(&*seen.published.waypoint));
            let targets: Vec<_> =
                ready.filter_map(|(seen, at)| target(seen, at, address)).collect();
            if targets.iter().all(|target| target.weight == 0) {
                let alarm = if listening.is_empty() { Alarm::Unserved } else { Alarm::Unready };
                outcome.alarms.insert(alarm(service.clone()));
            }
            outcome.table.entries.insert(address, entry(service, redirection, targets));
        }
    }
    outcome
}

fn entry(
    service: &ServicePortKey,
    redirection: &Redirection,
    targets: Vec<kernel::Target>,
) -> kernel::Entry {
    kernel::Entry {
        service: service.to_string(),
        targets,
        unready: match redirection.unready {
            Unready::Refuse => kernel::Unready::Refuse,
            Unready::Direct => kernel::Unready::Direct,
        },
        refuse_udp: redirection.refuse_udp,
    }
}

/// Which waypoints listen for each service port, and where.
fn listening(
    waypoints: &BTreeMap<String, Seen>,
) -> BTreeMap<&ServicePortKey, Vec<(&Seen, &Listens)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for seen in waypoints.values() {
        for at in &seen.published.ports {
            all.entry(&at.service).or_default().push((seen, at));
        }
    }
    all
}

/// Who has which address among those that go direct.
fn direct_owners(
    redirections: &BTreeMap<ServicePortKey, Redirection>,
) -> BTreeMap<SocketAddr, (&ServicePortKey, bool)> {
    let direct = redirections.iter().filter(|(_, one)| !one.applies());
    direct
        .flat_map(|(service, one)| {
            let address = move |ip: &IpAddr| (SocketAddr::new(*ip, service.port), (service, false));
            one.addresses.iter().map(address)
        })
        .collect()
}

impl Outcome {
    /// Leaves a service port as it was: without an entry, or with the one that it had.
    fn keep(&mut self, service: &ServicePortKey, current: Option<&kernel::Table>) {
        let name = service.to_string();
        let entries = current.iter().flat_map(|table| &table.entries);
        for (address, entry) in entries.filter(|(_, entry)| entry.service == name) {
            self.table.entries.insert(*address, entry.clone());
            self.keeps_old = true;
        }
    }
}

/// Waypoints that are ready and whose own connections are left alone; their control groups become
/// exempt. One on another machine is not seen by this agent's programs.
fn usable<'a>(inputs: &Inputs<'a>, outcome: &mut Outcome) -> BTreeSet<&'a str> {
    let mut usable = BTreeSet::new();
    for seen in inputs.waypoints.values() {
        let published = &seen.published;
        let here = published.machine == inputs.machine;
        let marked = published.mark.is_some_and(|mark| {
            inputs.exempt.mark.is_some_and(|exempt| mark & exempt.mask == exempt.value)
        });
        let cgroup = published.cgroup.filter(|id| here && !inputs.attached.contains(id));
        outcome.table.exempt.cgroups.extend(cgroup);
        if here && !marked && cgroup.is_none() {
            outcome.alarms.insert(Alarm::NotExempt(published.waypoint.clone()));
        } else if seen.ready {
            usable.insert(&*published.waypoint);
        }
    }
    usable
}

/// Where connections to `address` find the service at a waypoint: of the same family if it can be, else
/// an IPv4 address, which IPv6 sockets reach too.
fn target(seen: &Seen, listens: &Listens, address: SocketAddr) -> Option<kernel::Target> {
    let of = |v6: bool| listens.addresses.iter().find(|one| one.is_ipv6() == v6);
    let found = match address.is_ipv6() {
        true => of(true).or_else(|| of(false)),
        false => of(false),
    };
    Some(kernel::Target { address: *found?, weight: seen.published.weight })
}

#[cfg(test)]
mod tests;
