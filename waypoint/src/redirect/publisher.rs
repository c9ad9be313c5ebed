//! The waypoint's side: remembers the numbers of its service ports, and publishes them once they are
//! bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use thiserror::Error;
use waypoint_policies::ports::{
    Acknowledgement, Listens, Numbering, Ports, Published, RetiredPort,
};

use super::folder::{Folder, FolderError};
use super::own::{self, Mark};
use crate::drain::{Closing, unless};
use crate::resources::Trigger;

/// How often acknowledgements are looked at while numbers wait for them, and a write that failed is
/// tried again.
const LOOK: Duration = Duration::from_millis(500);

/// What and where to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The folder that is shared with the agents.
    pub folder: PathBuf,
    /// This waypoint's name in it.
    pub name: String,
    /// Addresses that clients reach it at, for entrances that listen on all.
    pub advertise: Vec<IpAddr>,
    /// Its share of new connections among the waypoints of a service; 0 = none.
    pub weight: u16,
    /// The mark of its own connections, where it may be set.
    pub mark: u32,
}

/// Why publishing cannot begin.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The folder, or what was published before.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another process publishes under the name.
    #[error("another waypoint publishes as `{name}` in {folder}: give each a --name of its own")]
    Taken { name: String, folder: PathBuf },
    /// Agents map numbers of this name, and nobody knows whose they were.
    #[error(
        "{path} is gone, and {agent} still maps numbers from it: restore it, or detach that agent \
         first"
    )]
    Forgotten { path: PathBuf, agent: String },
    /// Entrances listen on all addresses, and none is named that a client could connect to.
    #[error("--ports needs --advertise with the addresses that clients reach this waypoint at")]
    NoAddress,
}

/// Publishes; one for each process that has `--ports`.
pub struct Publisher {
    folder: Folder,
    name: String,
    advertise: Vec<IpAddr>,
    weight: u16,
    mark: Mark,
    state: Mutex<State>,
}

struct State {
    /// Held while this process is the one that publishes.
    lock: Option<File>,
    closed: bool,
    /// What the file says.
    written: Option<Published>,
    /// What it should say.
    wanted: Option<Published>,
}

impl Publisher {
    /// Begins: gives the ports as they were when the file was last written.
    ///
    /// `succeeds`: a predecessor may still publish under the name; nothing is written until it has
    /// ended.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: nothing is served, because a number could come to mean another service than
    /// an agent believes. Fails closed.
    pub fn open(
        publication: &Publication,
        mark: Mark,
        succeeds: bool,
    ) -> Result<(Arc<Self>, Ports), PublishError> {
        let folder = Folder::open(&publication.folder)?;
        let name = publication.name.clone();
        let lock = folder.lock_waypoint(&name)?;
        if lock.is_none() && !succeeds {
            return Err(PublishError::Taken { name, folder: publication.folder.clone() });
        }
        let written = folder.waypoint(&name)?;
        let maps = |one: &Acknowledgement| one.applied.get(&name).is_some_and(|&at| at > 0);
        if written.is_none()
            && let Some(agent) = folder.agents()?.into_iter().find(maps)
        {
            let path = folder.waypoint_path(&name);
            return Err(PublishError::Forgotten { path, agent: agent.agent });
        }
        let ports = written.as_ref().map(Published::ports).transpose();
        let ports = ports.expect("checked when it was read").unwrap_or_default();
        if identity(mark) == (None, None) {
            tracing::warn!(
                "agents cannot tell this waypoint's connections from those of its clients, and will \
                 not send it any: it needs CAP_NET_ADMIN, or a control group of its own"
            );
        }
        let (advertise, weight) = (publication.advertise.clone(), publication.weight);
        let state = Mutex::new(State { lock, closed: false, written, wanted: None });
        Ok((Arc::new(Self { folder, name, advertise, weight, mark, state }), ports))
    }

    /// What the next numbers are made from. Reads files.
    pub fn numbering(&self, ports: Ports, taken: BTreeSet<u16>) -> Numbering {
        let acknowledged = self.acknowledged();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Numbering { ports, acknowledged, now, taken }
    }

    /// What every agent has put in force. Read after what it is compared with was published: an agent
    /// that comes later cannot have read anything older. What cannot be read acknowledges nothing.
    fn acknowledged(&self) -> u64 {
        let published = self.state.lock().written.as_ref().map_or(0, |one| one.generation);
        match self.folder.agents() {
            Ok(agents) => {
                let lowest = Acknowledgement::lowest(&agents, &self.name);
                lowest.map_or(published, |lowest| lowest.min(published))
            }
            Err(error) => {
                tracing::error!(%error, "agents' acknowledgements cannot be read: no number is used again");
                0
            }
        }
    }

    /// Publishes what is bound: `bound` has where each entrance listens, by name.
    pub fn publish(&self, ports: &Ports, bound: &BTreeMap<String, SocketAddr>) {
        let listens = ports.given.iter().filter_map(|(service, port)| {
            let address = bound.get(&format!("service/{service}"))?;
            let addresses = self.reached_at(*address);
            Some(Listens { service: service.clone(), port: *port, addresses })
        });
        let (mark, cgroup) = identity(self.mark);
        let retired = ports.retired.iter().map(|(port, retired)| RetiredPort {
            port: *port,
            service: retired.service.clone(),
            generation: retired.generation,
            since: retired.since,
        });
        let published = Published {
            waypoint: self.name.clone(),
            generation: ports.generation,
            health: bound.get("health").map_or_else(Vec::new, |at| self.reached_at(*at)),
            weight: self.weight,
            machine: own::machine(),
            mark,
            cgroup,
            ports: listens.collect(),
            retired: retired.collect(),
        };
        self.state.lock().wanted = Some(published);
        self.write();
    }

    /// Where a socket can be reached that listens on `address`.
    fn reached_at(&self, address: SocketAddr) -> Vec<SocketAddr> {
        if !address.ip().is_unspecified() {
            return vec![address];
        }
        let heard = |ip: &&IpAddr| address.is_ipv6() || ip.is_ipv4();
        let reached = self.advertise.iter().filter(heard);
        reached.map(|ip| SocketAddr::new(*ip, address.port())).collect()
    }

    /// Writes what is wanted, if it is not written and this process is the one that publishes.
    fn write(&self) {
        let mut state = self.state.lock();
        if state.closed || state.wanted.is_none() || state.wanted == state.written {
            return;
        }
        if state.lock.is_none() {
            state.lock = self.folder.lock_waypoint(&self.name).unwrap_or_default();
        }
        let (Some(_), Some(wanted)) = (&state.lock, &state.wanted) else { return };
        match self.folder.publish(wanted) {
            Ok(()) => {
                tracing::info!(generation = wanted.generation, "published to the agents");
                state.written = state.wanted.clone();
            }
            Err(error) => tracing::error!(%error, "service ports cannot be published"),
        }
    }

    /// Writes what could not be written, and asks for a build when a retired number has become free,
    /// until `closing`.
    pub async fn follow(self: Arc<Self>, trigger: Trigger, closing: Closing) {
        while unless(closing.closing(), tokio::time::sleep(LOOK)).await.is_some() {
            if let Some(wanted) = &mut self.state.lock().wanted {
                // Somebody may have joined the group.
                wanted.cgroup = identity(self.mark).1;
            }
            self.write();
            let retired = self.state.lock().written.as_ref().map(|one| one.retired.is_empty());
            if retired == Some(false) {
                let this = Arc::clone(&self);
                let free = tokio::task::spawn_blocking(move || this.has_free()).await;
                if free.unwrap_or_default() {
                    trigger.pull();
                }
            }
        }
        // A successor may publish from now on.
        let mut state = self.state.lock();
        (state.closed, state.lock) = (true, None);
    }

    fn has_free(&self) -> bool {
        let written = self.state.lock().written.as_ref().and_then(|one| one.ports().ok());
        let numbering = self.numbering(written.unwrap_or_default(), BTreeSet::new());
        numbering.ports.retired.values().any(|retired| numbering.is_free(retired))
    }
}

/// By what agents know our connections: the mark, or else the control group.
fn identity(mark: Mark) -> (Option<u32>, Option<u64>) {
    match mark.value() {
        Some(mark) => (Some(mark), None),
        None => (None, own::cgroup()),
    }
}
