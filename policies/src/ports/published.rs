//! What a waypoint tells the agents, and what they answer. In file mode both are JSON files of a
//! folder that the two share; the waypoint's is also what it remembers over restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Ports, Retired, SERVICE_PORTS};
use crate::model::ServicePortKey;

/// What one waypoint serves, and where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Published {
    /// Its name, unique in the folder.
    pub waypoint: String,
    /// Counts up whenever `ports` names other services or numbers.
    pub generation: u64,
    /// Where readiness is asked for (`GET /healthz/ready`).
    pub health: Vec<SocketAddr>,
    /// Its share of new connections among the waypoints of a service; 0 = none.
    pub weight: u16,
    /// The machine that it runs on (`boot_id`).
    pub machine: String,
    /// The mark (`SO_MARK`) of its own connections; none where it may not set one.
    pub mark: Option<u32>,
    /// The id of its control group (v2) on that machine, where no other process is in it.
    pub cgroup: Option<u64>,
    /// The service ports that it serves.
    pub ports: Vec<Listens>,
    /// Numbers that it still keeps from other services.
    pub retired: Vec<RetiredPort>,
}

/// One service port and where connections to it are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listens {
    /// The service port.
    pub service: ServicePortKey,
    /// The number that it was given (20000–29999).
    pub port: u16,
    /// Addresses that agents may send its connections to.
    pub addresses: Vec<SocketAddr>,
}

/// A number that waits to be free.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetiredPort {
    /// The number.
    pub port: u16,
    /// Whose it was.
    pub service: ServicePortKey,
    /// The first generation without it.
    pub generation: u64,
    /// When that was, in seconds since 1970.
    pub since: u64,
}

/// What one agent has put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acknowledgement {
    /// Its name, unique in the folder.
    pub agent: String,
    /// The generation of each waypoint. One that is not named is known to the agent in no
    /// generation, and nothing of it is mapped.
    pub applied: BTreeMap<String, u64>,
}

impl Published {
    /// The ports, as they are remembered.
    ///
    /// # Errors
    ///
    /// A number is outside the range or there twice, or a service is.
    pub fn ports(&self) -> Result<Ports, String> {
        let mut ports = Ports { generation: self.generation, ..Ports::default() };
        let mut numbers = BTreeSet::new();
        let mut check = |port: u16| match SERVICE_PORTS.contains(&port) && numbers.insert(port) {
            true => Ok(()),
            false => Err(format!("the port {port} is outside 20000–29999, or there twice")),
        };
        for one in &self.ports {
            check(one.port)?;
            if ports.given.insert(one.service.clone(), one.port).is_some() {
                return Err(format!("the service {} is there twice", one.service));
            }
        }
        for one in &self.retired {
            check(one.port)?;
            let retired = Retired {
                service: one.service.clone(),
                generation: one.generation,
                since: one.since,
            };
            ports.retired.insert(one.port, retired);
        }
        Ok(ports)
    }
}

impl Acknowledgement {
    /// The lowest generation of a waypoint that all of these agents have put in force.
    pub fn lowest<'a>(all: impl IntoIterator<Item = &'a Self>, waypoint: &str) -> Option<u64> {
        all.into_iter().map(|one| one.applied.get(waypoint).copied().unwrap_or_default()).min()
    }
}
