//! Wires the stages: the only file that sees all of the configuration.

mod operator;
mod sockets;
mod state;
mod takeover;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::DropGuard;
use waypoint_policies::Place;
use waypoint_policies::ports::Ports;

use crate::access_log::{AccessLog, Format, Records};
use crate::admin::{Admin, Health};
use crate::cli::logging::LogHandle;
use crate::codec::CodecLimits;
use crate::drain::{Closing, Drain};
use crate::journey::BODY_IDLE_DEFAULT;
use crate::lanes::Lanes;
use crate::memory::{self, MemoryBudget};
use crate::redirect::{Mark, Publication, PublishError, Publisher};
use crate::resources::{
    self, Generations, ModuleError, Reloader, Report, Sources, Status, Trigger,
};
use crate::upstream::Upstreams;

use operator::{OperatorPorts, Traffic};
use sockets::{Addresses, Sockets};
use state::State;
use takeover::Inherited;

/// How long what supports traffic (admin, guests' last callbacks) may take to end after it.
const SUPPORT_DRAIN: Duration = Duration::from_secs(2);
/// How long a waypoint that is not ready any more still accepts connections, where agents send it some:
/// they ask it more than twice in that time.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How long the access log may take to be written at the end.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// All of the process's configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Files and folders of resources.
    pub files: Vec<PathBuf>,
    /// Serve what is right even if something is refused at the start.
    pub partial: bool,
    /// Follow changes of the files.
    pub watch: bool,
    /// The address of entrances.
    pub address: IpAddr,
    /// Addresses of single entrances and ports, by name.
    pub bind: BTreeMap<String, SocketAddr>,
    /// Where to write every entrance's address.
    pub addresses_file: Option<PathBuf>,
    /// The admin port.
    pub admin: SocketAddr,
    /// The metrics port.
    pub stats: SocketAddr,
    /// The health port.
    pub health: SocketAddr,
    /// Worker threads, and as many lanes; the number of cores without it.
    pub workers: Option<u16>,
    /// Downstream connections at a time; fewer where descriptors are short.
    pub connections_max: u32,
    /// Downstream connections at a time of one address; without it only the whole bounds them.
    pub address_connections_max: Option<u32>,
    /// Requests at a time of one principal or address; half of the whole without it.
    pub client_requests_max: Option<u32>,
    /// Requests at a time of the whole process.
    pub requests_max: u32,
    /// Resident memory near which new requests are shed; that of the control group without it.
    pub memory_max_bytes: Option<u64>,
    /// Networks whose forwarding headers are believed.
    pub trusted_hops: Vec<IpNet>,
    /// Whom to ask for the addresses of names; `None` = whom `/etc/resolv.conf` names.
    pub resolver: Option<SocketAddr>,
    /// Where the process runs: services may prefer endpoints that are near.
    pub place: Place,
    /// Where compiled modules are kept.
    pub cache_dir: PathBuf,
    /// Where listening sockets are taken over from a predecessor and given to a successor.
    pub takeover: Option<PathBuf>,
    /// Where service ports are published to the node agents, and remembered.
    pub publication: Option<Publication>,
    /// How long a drain may take.
    pub drain: Duration,
    /// The access log's form; none without it.
    pub access_log: Option<Format>,
}

/// Why the process did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The runtime's threads could not be started.
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    /// The VMs' memory could not be reserved, or their shim not be compiled.
    #[error("the Wasm engine cannot be started")]
    Engine(#[source] ModuleError),
    /// The cache of compiled modules cannot be used.
    #[error("the cache of compiled modules cannot be used")]
    Cache(#[from] waypoint_abi::CacheError),
    /// A socket could not be bound.
    #[error("{name} cannot listen on {address}")]
    Bind { name: String, address: SocketAddr, source: std::io::Error },
    /// Something in the files is refused, and there is no last good version yet.
    #[error("{count} problems in the resources; --partial serves the rest")]
    Refused { count: usize },
    /// With `--partial`: what cannot be told to be a resource may be one that protects others.
    #[error(
        "{count} problems in what may be a policy or a filter; --partial does not pass over it"
    )]
    Hidden { count: usize },
    /// The files cannot be watched.
    #[error("the files cannot be watched")]
    Watch(#[from] notify::Error),
    /// A predecessor is there and does not give its sockets, or the path cannot be written.
    #[error("no takeover at {path}")]
    Takeover { path: PathBuf, source: std::io::Error },
    /// Service ports cannot be published.
    #[error("service ports cannot be published")]
    Publish(#[from] PublishError),
    /// A signal handler or the log's thread could not be set up.
    #[error("the process cannot be set up")]
    Setup(#[source] std::io::Error),
}

/// Where compiled modules are kept unless told otherwise.
pub fn default_cache_dir() -> PathBuf {
    let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".cache"))
    });
    user.unwrap_or_else(std::env::temp_dir).join("waypoint")
}

/// Serves until a signal, drains, and returns.
///
/// # Errors
///
/// [`StartError`]; once it serves, it returns `Ok`.
pub fn run(settings: Settings, log: LogHandle) -> Result<(), StartError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = settings.workers {
        runtime.worker_threads(workers.into());
    }
    let runtime = runtime.enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let (app, signals) = App::start(settings, log).await?;
        app.until_signalled(signals).await;
        Ok(())
    })
}

/// A process that serves.
pub struct App {
    settings: Settings,
    /// Connections and requests.
    traffic: Drain,
    /// What they need: guests, connections upstream, admin, reloads.
    support: Drain,
    upstreams: Arc<Upstreams>,
    generations: Arc<Generations>,
    trigger: Trigger,
    log: Option<AccessLog>,
    addresses: Arc<Addresses>,
    /// Closes the operator's ports before the rest of the support, when a successor has them.
    operator: Closing,
    successor: Option<UnixListener>,
    health: Health,
    _watcher: Option<notify::RecommendedWatcher>,
    _lanes: DropGuard,
}

impl App {
    /// Reads, checks, builds, binds; serves when it returns. Signals are listened to before anybody
    /// is told that it does: one that comes at once is not lost and does not kill the process.
    ///
    /// # Errors
    ///
    /// [`StartError`]; then nothing is bound.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: sockets that are bound stay so until the runtime ends.
    pub async fn start(settings: Settings, log: LogHandle) -> Result<(Self, Signals), StartError> {
        let (traffic, traffic_tasks, closing) = Drain::new();
        let (support, tasks, ending) = Drain::new();
        let state = State::new(&settings, &tasks).await?;
        let access_log = state.access_log(&settings)?;
        let records =
            Records::new(Arc::clone(&state.metrics), access_log.clone().zip(settings.access_log));
        memory::begin_giving_back();
        let memory = MemoryBudget::new(settings.memory_max_bytes);
        tasks.spawn(Arc::clone(&memory).follow(ending.clone()));
        let journey = state.journey(&settings, records, memory, &tasks);

        let (publisher, known) = publisher(&settings, state.mark)?;
        let (clients, slots) = state.clients(&settings);
        let (lanes, lanes_end) = Lanes::start(lanes(&settings)).map_err(StartError::Runtime)?;
        tasks.spawn(lanes.clone().keep_even(ending.clone()));
        let keeps = settings.takeover.is_some();
        let addresses = Arc::new(Addresses::new(settings.addresses_file.clone(), keeps));
        let mut inherited = match &settings.takeover {
            Some(path) => Inherited::ask(path).await.map_err(no_takeover(path))?,
            None => Inherited::nothing(),
        };
        let ports = OperatorPorts::bind(&settings, &addresses, &mut inherited).await?;
        // Before the first name is resolved: none may lead to the admin port.
        state.upstreams.listens_on(addresses.all().into_values().collect());
        let mut sockets = Sockets {
            settings: settings.clone(),
            current: Arc::clone(&state.current),
            metrics: Arc::clone(&state.metrics),
            journey,
            limits: CodecLimits { body_idle_timeout: BODY_IDLE_DEFAULT, ..CodecLimits::default() },
            slots,
            lanes,
            clients: Arc::clone(&clients),
            closing: closing.clone(),
            tasks: traffic_tasks.clone(),
            addresses: Arc::clone(&addresses),
            upstreams: Arc::clone(&state.upstreams),
            inherited,
            publisher: publisher.clone(),
            bound: BTreeMap::new(),
        };
        let (upstreams, generations) =
            (Arc::clone(&state.upstreams), Arc::clone(&state.generations));
        let health = Health::new(closing.clone());
        let (status, metrics, current) =
            (Status::default(), Arc::clone(&state.metrics), Arc::clone(&state.current));
        let builder = state.builder(&settings, publisher.clone(), known);
        let (mut reloader, trigger) =
            Reloader::new(builder, Arc::clone(&status), Arc::clone(&metrics));
        // Before the files are read: a change after that is not missed.
        let watcher = settings.watch.then(|| {
            let trigger = trigger.clone();
            resources::watch(&Sources(settings.files.clone()), move || trigger.pull())
        });
        let report = reloader.first(&mut sockets, settings.partial).await;
        refused_at_start(&report, settings.partial)?;
        let watcher = watcher.transpose()?;
        let signals = Signals::listen().map_err(StartError::Setup)?;
        let mut inherited = std::mem::replace(&mut sockets.inherited, Inherited::nothing());

        tasks.spawn(reloader.run(sockets, ending.clone()));
        if let Some(publisher) = publisher {
            tasks.spawn(publisher.follow(trigger.clone(), closing));
        }
        let admin = Admin {
            current,
            status,
            trigger: trigger.clone(),
            generations: Arc::clone(&generations),
            upstreams: Arc::clone(&upstreams),
            log,
            health: health.clone(),
        };
        let operator = ending.child();
        let serving = Traffic { clients, tasks: traffic_tasks };
        ports.serve(Arc::new(admin), metrics, health.clone(), serving, &operator, &tasks);
        health.start();
        addresses.publish();
        let successor = match &settings.takeover {
            Some(path) => {
                let successor = takeover::listen(path).map_err(no_takeover(path))?;
                if let Err(error) = inherited.serving().await {
                    tracing::warn!(%error, "the predecessor has gone");
                }
                Some(successor)
            }
            None => None,
        };
        tracing::info!(snapshot = report.snapshot, "serving");
        let app = Self {
            settings,
            traffic,
            support,
            upstreams,
            generations,
            trigger,
            log: access_log,
            addresses,
            operator,
            successor,
            health,
            _watcher: watcher,
            _lanes: lanes_end,
        };
        Ok((app, signals))
    }

    /// Where everything listens, by name.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.addresses.all()
    }

    /// Serves until SIGTERM, SIGINT or a successor, then drains; a second signal ends the process at
    /// once.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: it ends the process's work.
    pub async fn until_signalled(self, signals: Signals) {
        let Signals { mut terminate, mut interrupt, mut hangup } = signals;
        let mut succeeded = false;
        {
            let mut taken_over = pin!(self.taken_over());
            loop {
                // Cancel safe, the three of them: a signal that was not received is received next
                // time.
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = &mut taken_over => {
                        tracing::info!("a successor has taken over");
                        self.operator.close();
                        succeeded = true;
                        break;
                    }
                    _ = hangup.recv() => self.trigger.pull(),
                }
            }
        }
        tracing::info!(seconds = self.settings.drain.as_secs(), "draining");
        let announced = async move {
            // A successor listens on the very sockets.
            if self.settings.publication.is_some() && !succeeded {
                self.health.leave();
                sleep(ANNOUNCE).await;
            }
            self.drain().await;
        };
        // Cancel safe: what is dropped here ends with the process.
        tokio::select! {
            () = announced => {}
            _ = terminate.recv() => tracing::warn!("second signal: ending at once"),
            _ = interrupt.recv() => tracing::warn!("second signal: ending at once"),
        }
    }

    /// Resolves when a successor serves in our place; never where none can.
    async fn taken_over(&self) {
        match &self.successor {
            Some(successor) => takeover::until_taken_over(successor, &self.addresses).await,
            None => std::future::pending().await,
        }
    }

    /// Finishes what is in flight, within the drain's limit, and ends.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was not drained is cut when the runtime ends.
    pub async fn drain(self) {
        self.addresses.forget_sockets();
        if !self.traffic.drain(self.settings.drain).await {
            tracing::warn!("the drain's limit has passed: what was in flight is cut");
        }
        self.upstreams.close();
        self.generations.close();
        self.support.drain(SUPPORT_DRAIN).await;
        if let Some(log) = self.log {
            log.flush(LOG_FLUSH);
        }
        tracing::info!("drained");
    }
}

/// As many as there are workers.
fn lanes(settings: &Settings) -> NonZeroUsize {
    let workers = settings.workers.and_then(|workers| NonZeroUsize::new(workers.into()));
    workers.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// What the operator says to a running process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Who publishes service ports, and those that were published before.
fn publisher(
    settings: &Settings,
    mark: Mark,
) -> Result<(Option<Arc<Publisher>>, Ports), PublishError> {
    let Some(publication) = &settings.publication else { return Ok((None, Ports::default())) };
    let mut publication = publication.clone();
    if publication.advertise.is_empty() {
        if settings.address.is_unspecified() {
            return Err(PublishError::NoAddress);
        }
        publication.advertise.push(settings.address);
    }
    let (publisher, ports) = Publisher::open(&publication, mark, settings.takeover.is_some())?;
    Ok((Some(publisher), ports))
}

fn refused_at_start(report: &Report, partial: bool) -> Result<(), StartError> {
    let count = report.problems.iter().filter(|problem| problem.is_error()).count();
    if count > 0 && !partial {
        return Err(StartError::Refused { count });
    }
    match report.problems.iter().filter(|problem| resources::hides_a_resource(problem)).count() {
        0 => Ok(()),
        count => Err(StartError::Hidden { count }),
    }
}

fn no_takeover(path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Takeover { path: path.to_owned(), source }
}
