//! The entrances' sockets: bound when a snapshot wants them, drained when none does.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use waypoint_policies::Entrance;

use super::Settings;
use super::takeover::Inherited;
use crate::codec::CodecLimits;
use crate::drain::{Closing, Tasks};
use crate::journey::Journey;
use crate::lanes::Lanes;
use crate::listener::{self, HandshakeLog, Listener, TlsSource};
use crate::metrics::Metrics;
use crate::overload::Clients;
use crate::redirect::Publisher;
use crate::resources::Listeners;
use crate::snapshot::{Current, Snapshot, SnapshotTls};
use crate::upstream::Upstreams;

/// How often an address that is in use is tried, and the pause between.
const BIND_ATTEMPTS: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// What is bound, and everything that a new socket needs.
pub(super) struct Sockets {
    pub(super) settings: Settings,
    pub(super) current: Arc<Current>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) journey: Journey,
    pub(super) limits: CodecLimits,
    pub(super) slots: Arc<Semaphore>,
    pub(super) lanes: Lanes,
    pub(super) clients: Arc<Clients>,
    pub(super) closing: Closing,
    pub(super) tasks: Tasks,
    pub(super) addresses: Arc<Addresses>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) inherited: Inherited,
    /// Who tells the agents where services are served.
    pub(super) publisher: Option<Arc<Publisher>>,
    pub(super) bound: BTreeMap<Arc<str>, Bound>,
}

/// One entrance's socket.
pub(super) struct Bound {
    /// The port that was wanted.
    port: u16,
    https: bool,
    closing: Closing,
    /// Until the snapshot that wants it is in force: clients wait in the kernel's queue.
    waiting: Option<Listener>,
}

impl Listeners for Sockets {
    async fn before_swap(&mut self, next: &Arc<Snapshot>) -> Vec<(String, std::io::Error)> {
        let mut failed = Vec::new();
        // HTTPS became HTTP, or a service has another number: the new socket takes its place. All of
        // them first, for one may be in the way of another.
        for entrance in &next.model.entrances {
            let is_other = |bound: &Bound| {
                bound.https != entrance.tls.is_some() || bound.port != entrance.port
            };
            if self.bound.get(&entrance.name).is_some_and(is_other) {
                self.drain(&entrance.name);
            }
        }
        for entrance in &next.model.entrances {
            if self.bound.contains_key(&entrance.name) {
                continue;
            }
            match self.bind(entrance).await {
                Ok(bound) => {
                    self.bound.insert(Arc::clone(&entrance.name), bound);
                }
                Err(error) => failed.push((entrance.name.to_string(), error)),
            }
        }
        self.upstreams.listens_on(self.addresses.all().into_values().collect());
        failed
    }

    fn after_swap(&mut self, current: &Arc<Snapshot>) {
        let waiting: Vec<(Arc<str>, Listener)> = self
            .bound
            .iter_mut()
            .filter_map(|(name, bound)| Some((Arc::clone(name), bound.waiting.take()?)))
            .collect();
        for (name, listener) in waiting {
            let bound = &self.bound[&name];
            let (entrance, closing) = (self.entrance(&name, bound.https), bound.closing.clone());
            let (journey, tasks) = (self.journey.clone(), self.tasks.clone());
            self.tasks.spawn(async move {
                listener.run(entrance, journey, closing, &tasks).await;
            });
        }
        let gone: Vec<Arc<str>> = self
            .bound
            .keys()
            .filter(|name| !current.entrances.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.drain(&name);
        }
        self.upstreams.listens_on(self.addresses.all().into_values().collect());
        self.addresses.publish();
        // Not before they are bound: agents send connections to what is published.
        if let Some(publisher) = &self.publisher {
            publisher.publish(&current.ports, &self.addresses.all());
        }
    }
}

impl Sockets {
    /// Binds where the operator says, or at the entrance's port.
    async fn bind(&mut self, entrance: &Entrance) -> std::io::Result<Bound> {
        let own = SocketAddr::new(self.settings.address, entrance.port);
        let address = self.settings.bind.get(&*entrance.name).copied().unwrap_or(own);
        let listener = match self.inherited.take(&entrance.name, address) {
            Some(socket) => socket.into(),
            None => self.bind_soon(address).await?,
        };
        self.addresses.set(&entrance.name, listener.local_addr()?, &listener)?;
        Ok(Bound {
            port: entrance.port,
            https: entrance.tls.is_some(),
            closing: self.closing.child(),
            waiting: Some(listener),
        })
    }

    /// A socket of ours that is being closed may hold the address for a moment longer.
    async fn bind_soon(&self, address: SocketAddr) -> std::io::Result<Listener> {
        for _ in 1..BIND_ATTEMPTS {
            match Listener::bind(address, false) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(BIND_PAUSE).await,
                done => return done,
            }
        }
        Listener::bind(address, false)
    }

    fn entrance(&self, name: &Arc<str>, https: bool) -> listener::Entrance {
        let metrics = Arc::clone(&self.metrics);
        let tls = || {
            let (current, name) = (Arc::clone(&self.current), Arc::clone(name));
            Arc::new(SnapshotTls::new(current, name)) as Arc<dyn TlsSource>
        };
        let (log, named) = (HandshakeLog::default(), Arc::clone(name));
        listener::Entrance {
            name: Arc::clone(name),
            tls: https.then(tls),
            limits: self.limits,
            handshake_timeout: listener::Entrance::HANDSHAKE_TIMEOUT,
            connections: Arc::clone(&self.slots),
            lanes: self.lanes.clone(),
            clients: Arc::clone(&self.clients),
            handshake_failed: Arc::new(move |failure, peer| {
                metrics.handshake_failed(failure.reason());
                log.failed(&named, failure, peer);
            }),
        }
    }

    /// Stops accepting; connections finish within the drain's limit.
    fn drain(&mut self, name: &Arc<str>) {
        if let Some(bound) = self.bound.remove(name) {
            let limit = self.settings.drain;
            self.tasks.spawn(async move { bound.closing.close_within(limit).await });
            self.addresses.remove(name);
        }
    }
}

/// Where everything listens, by name.
pub(super) struct Addresses {
    file: Option<PathBuf>,
    /// Whether sockets are kept, to be given to a successor.
    keeps: bool,
    all: Mutex<BTreeMap<String, Listening>>,
}

struct Listening {
    address: SocketAddr,
    socket: Option<OwnedFd>,
}

impl Addresses {
    pub(super) fn new(file: Option<PathBuf>, keeps: bool) -> Self {
        Self { file, keeps, all: Mutex::default() }
    }

    /// A socket of this name listens.
    ///
    /// # Errors
    ///
    /// It cannot be kept for a successor: no descriptor is left.
    pub(super) fn set(
        &self,
        name: &str,
        address: SocketAddr,
        socket: &impl AsFd,
    ) -> std::io::Result<()> {
        let socket = self.keeps.then(|| socket.as_fd().try_clone_to_owned()).transpose()?;
        self.all.lock().insert(name.to_owned(), Listening { address, socket });
        Ok(())
    }

    /// The sockets, to be given to a successor.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub(super) fn sockets(&self) -> std::io::Result<BTreeMap<String, OwnedFd>> {
        let all = self.all.lock();
        let kept = all.iter().filter_map(|(name, one)| Some((name.clone(), one.socket.as_ref()?)));
        kept.map(|(name, socket)| Ok((name, socket.try_clone()?))).collect()
    }

    /// Keeps no socket any longer: what is not accepted from is closed.
    pub(super) fn forget_sockets(&self) {
        self.all.lock().values_mut().for_each(|listening| listening.socket = None);
    }

    fn remove(&self, name: &str) {
        self.all.lock().remove(name);
    }

    pub(super) fn all(&self) -> BTreeMap<String, SocketAddr> {
        self.all.lock().iter().map(|(name, one)| (name.clone(), one.address)).collect()
    }

    /// Writes the file, if there is to be one, in one step: a reader never sees half of it.
    pub(super) fn publish(&self) {
        let Some(file) = &self.file else { return };
        let text = serde_json::to_string_pretty(&self.all()).expect("names and addresses");
        let aside = file.with_extension("tmp");
        let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, file));
        if let Err(error) = written {
            tracing::error!(file = %file.display(), %error, "the addresses file cannot be written");
        }
    }
}
