//! A table as elements of maps, before the kernel sees it: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Bounds;
use super::layout::{
    Key, SETTINGS_CGROUPS, SETTINGS_MARK, SETTINGS_NETNS, SETTINGS_REFUSALS, SETTINGS_UDP,
    Settings, Value, canonical, key, usable, value,
};
use crate::table::{SERVICE_MAX, Table};

/// Why a table cannot be applied, whatever the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two entries for one address, once as IPv4 and once as IPv4-mapped IPv6.
    #[error("{address} has two entries: {first} and {second}")]
    Twice {
        /// The address.
        address: SocketAddr,
        /// The service of the one.
        first: String,
        /// The service of the other.
        second: String,
    },
    /// More service ports than can be redirected and refused together.
    #[error("{found} service ports, at most {allowed} can be redirected or refused")]
    TooMany {
        /// Service ports in the table.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// More exempt cgroups than there is room for.
    #[error("{found} exempt cgroups, at most {allowed}")]
    TooManyExempt {
        /// Cgroups in the table.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
}

/// What the maps are to hold for one epoch. Keys are those of epoch 0.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) entries: BTreeMap<Key, Value>,
    pub(crate) refusals: BTreeSet<Key>,
    pub(crate) exempt: BTreeSet<u64>,
    pub(crate) settings: Settings,
    pub(crate) targets_left_out: usize,
    pub(crate) names_cut: usize,
}

impl Plan {
    pub(crate) fn of(table: &Table, bounds: &Bounds, netns: u64) -> Result<Plan, TableError> {
        let found = table.entries.len();
        let allowed = bounds.entries as usize + bounds.refusals as usize;
        if found > allowed {
            return Err(TableError::TooMany { found, allowed });
        }
        let (found, allowed) = (table.exempt.cgroups.len(), bounds.exempt as usize);
        if found > allowed {
            return Err(TableError::TooManyExempt { found, allowed });
        }
        let mut plan = Plan { exempt: table.exempt.cgroups.clone(), ..Plan::default() };
        let mut names = BTreeMap::new();
        let mut udp = false;
        for (address, entry) in &table.entries {
            let address = canonical(*address);
            if let Some(first) = names.insert(address, &entry.service) {
                return Err(TableError::Twice {
                    address,
                    first: first.clone(),
                    second: entry.service.clone(),
                });
            }
            if plan.entries.len() == bounds.entries as usize {
                plan.refusals.insert(key(address, 0));
                continue;
            }
            let targets = usable(address, &entry.targets);
            plan.targets_left_out += entry.targets.len() - targets.len();
            plan.names_cut += usize::from(entry.service.len() > SERVICE_MAX);
            udp |= entry.refuse_udp;
            plan.entries.insert(key(address, 0), value(entry, &targets));
        }
        plan.settings = plan.settings_of(table, netns, udp);
        Ok(plan)
    }

    fn settings_of(&self, table: &Table, netns: u64, udp: bool) -> Settings {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let exempt = &table.exempt;
        let mark = exempt.mark.map_or((0, 0), |mark| (mark.value & mark.mask, mark.mask));
        Settings {
            netns: if exempt.host_network { netns } else { 0 },
            mark: mark.0,
            mask: mark.1,
            flags: flag(exempt.host_network, SETTINGS_NETNS)
                // An empty mask would fit every socket.
                | flag(mark.1 != 0, SETTINGS_MARK)
                | flag(!exempt.cgroups.is_empty(), SETTINGS_CGROUPS)
                | flag(!self.refusals.is_empty(), SETTINGS_REFUSALS)
                | flag(udp, SETTINGS_UDP),
        }
    }
}
