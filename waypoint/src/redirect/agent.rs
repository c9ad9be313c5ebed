//! The node agent: follows the resources and the waypoints, and keeps the kernel's table as they want
//! it. What it has put in force stays when it ends, however it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use waypoint_policies::ports::{Acknowledgement, Published};
use waypoint_policies::{Numbering, Problem, Redirection, ServicePortKey, render};
use waypoint_redirect as kernel;

use super::desired::{self, Alarm, Inputs, Seen};
use super::figures::{Figures, Health};
use super::folder::{Folder, FolderError};
use super::{own, probe};
use crate::admin;
use crate::drain::Drain;
use crate::resources::{self, Desired, Sources};

/// How long changes are gathered before they are followed: files are written in several steps.
const GATHER: Duration = Duration::from_millis(20);
/// How often the kernel is compared with what it should have, and waiting ports are looked at again;
/// a second more for each of [`COMPARED`] entries.
const TICK: Duration = Duration::from_secs(1);
const COMPARED: usize = 1_000;
/// How long a service port that needs L7 stays as it was while no waypoint publishes it: a change of the
/// resources reaches agents and waypoints one after the other. Past it, it is refused: fails closed.
const SETTLE: Duration = Duration::from_secs(5);
/// How long what serves the metrics may take to end.
const END: Duration = Duration::from_secs(1);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Files and folders of resources.
    pub files: Vec<PathBuf>,
    /// The folder that is shared with the waypoints.
    pub ports: PathBuf,
    /// This agent's name in it.
    pub name: String,
    /// Where programs are attached and pinned.
    pub kernel: kernel::Options,
    /// Connections that are never redirected, beside those of waypoints' control groups.
    pub exempt: kernel::Exempt,
    /// Where metrics, health and status are served.
    pub metrics: SocketAddr,
    /// Whether resources without any Service are meant.
    pub allow_empty: bool,
}

/// Why an agent did not start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The shared folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something in the files is refused: nothing was changed in the kernel.
    #[error("{count} problems in the resources")]
    Refused { count: usize },
    /// There is not one Service: a folder that is not mounted, more likely than a wish.
    #[error(
        "no Service in the resources: nothing would be redirected; --allow-empty if that is meant"
    )]
    Empty,
    /// Another process has the name.
    #[error("another agent is called `{name}` in {ports}: give each a --name of its own")]
    Taken { name: String, ports: PathBuf },
    /// What is exempt would exempt everybody.
    #[error(
        "--exempt-cgroup names the control group of --cgroup, or one above it: all would be exempt"
    )]
    ExemptsAll,
    /// The control group cannot be used.
    #[error("{path}")]
    Cgroup { path: PathBuf, source: std::io::Error },
    /// What is pinned there is attached elsewhere.
    #[error(
        "what is pinned in {pins} is attached to {attached}: detach it first, or give other --pins"
    )]
    Elsewhere { pins: PathBuf, attached: PathBuf },
    /// The programs could not be loaded or attached.
    #[error(transparent)]
    Kernel(#[from] kernel::OpenError),
    /// Privileges that are not needed any longer could not be given up.
    #[error("privileges cannot be dropped")]
    Privileges(#[from] kernel::PrivilegesError),
    /// The metrics port.
    #[error("metrics cannot listen on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
    /// The files cannot be watched.
    #[error("the files cannot be watched")]
    Watch(#[from] notify::Error),
    /// A signal handler or the runtime could not be set up.
    #[error("the process cannot be set up")]
    Setup(#[source] std::io::Error),
}

/// Attaches, follows, and returns at SIGTERM or SIGINT; the kernel goes on as it is.
///
/// # Errors
///
/// [`AgentError`]; once it follows, it returns `Ok`.
pub fn run(settings: AgentSettings) -> Result<(), AgentError> {
    // Everything that can be wrong, before the kernel is touched.
    let folder = Folder::open(&settings.ports)?;
    let mut desired = Desired::new(Sources(settings.files.clone()));
    let (redirections, refused) = read(&mut desired);
    if refused > 0 {
        return Err(AgentError::Refused { count: refused });
    }
    if redirections.is_empty() && !settings.allow_empty {
        return Err(AgentError::Empty);
    }
    let name = &settings.name;
    let taken = || AgentError::Taken { name: name.clone(), ports: settings.ports.clone() };
    let lock = folder.lock_agent(name)?.ok_or_else(taken)?;
    let attached = attached(&settings)?;
    let address = settings.metrics;
    let bound = std::net::TcpListener::bind(address);
    let listener = bound.map_err(|source| AgentError::Bind { address, source })?;
    let redirect = kernel::Redirect::open(&settings.kernel)?;
    for (hook, done) in redirect.opened() {
        tracing::info!(hook, ?done, "attached");
    }
    // Before the first thread: capabilities are those of threads.
    kernel::drop_privileges()?;
    let acknowledged = registered(&folder, &settings.name)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let agent = Agent {
        folder,
        desired,
        redirect,
        redirections,
        waypoints: BTreeMap::new(),
        ready: BTreeMap::new(),
        table: None,
        waiting: BTreeMap::new(),
        acknowledged,
        alarms: BTreeSet::new(),
        machine: own::machine(),
        figures: Arc::new(Figures::new(settings.kernel.pins.clone())),
        settings,
        attached,
        _lock: lock,
    };
    runtime.map_err(AgentError::Setup)?.block_on(agent.follow(listener))
}

/// The ids of the control group that is attached to, and of those above it.
fn attached(settings: &AgentSettings) -> Result<BTreeSet<u64>, AgentError> {
    let kernel::Options { cgroup, pins } = &settings.kernel;
    let failed = |source| AgentError::Cgroup { path: cgroup.clone(), source };
    let attached = kernel::cgroups_above(cgroup).map_err(failed)?;
    if !attached.is_disjoint(&settings.exempt.cgroups) {
        return Err(AgentError::ExemptsAll);
    }
    let own = kernel::cgroup_id(cgroup).map_err(failed)?;
    // Nothing pinned, or nothing that can be read: opening it tells.
    let hooks = kernel::State::read(pins).map(|state| state.hooks).unwrap_or_default();
    let mut links = hooks.into_iter().filter_map(|hook| hook.link);
    match links.find(|link| link.cgroup != own && link.cgroup_path.is_some()) {
        Some(link) => Err(AgentError::Elsewhere {
            pins: pins.clone(),
            attached: link.cgroup_path.unwrap_or_default(),
        }),
        None => Ok(attached),
    }
}

/// Reads the files: which service ports need L7, and how many mistakes there are. What is wrong is
/// told; its last good version counts.
fn read(desired: &mut Desired) -> (BTreeMap<ServicePortKey, Redirection>, usize) {
    let found = desired.read(&Numbering::default());
    let count = found.problems.iter().filter(|problem| Problem::is_error(problem)).count();
    if count > 0 {
        eprintln!("{}", render(&found.problems));
    }
    (found.checked.model.redirections, count)
}

/// What this agent acknowledged last. Written before anything is read that it could map: from here on
/// no waypoint uses a number again without it.
fn registered(folder: &Folder, name: &str) -> Result<Acknowledgement, FolderError> {
    let known = folder.agents()?.into_iter().find(|one| one.agent == name);
    let acknowledged =
        known.unwrap_or_else(|| Acknowledgement { agent: name.to_owned(), ..Default::default() });
    folder.acknowledge(&acknowledged)?;
    Ok(acknowledged)
}

struct Agent {
    settings: AgentSettings,
    folder: Folder,
    desired: Desired,
    redirect: kernel::Redirect,
    redirections: BTreeMap<ServicePortKey, Redirection>,
    /// The last good version of what each waypoint has published.
    waypoints: BTreeMap<String, Published>,
    ready: probe::Ready,
    /// What is in force; `None` until the first table is.
    table: Option<kernel::Table>,
    /// Service ports that no waypoint has published yet, since when.
    waiting: BTreeMap<ServicePortKey, Instant>,
    acknowledged: Acknowledgement,
    alarms: BTreeSet<Alarm>,
    machine: String,
    /// The control group that is attached to, and those above it.
    attached: BTreeSet<u64>,
    figures: Arc<Figures>,
    /// Of this agent's name.
    _lock: std::fs::File,
}

impl Agent {
    async fn follow(mut self, listener: std::net::TcpListener) -> Result<(), AgentError> {
        let setup = AgentError::Setup;
        let mut terminate = signal(SignalKind::terminate()).map_err(setup)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(setup)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(setup)?;
        let (drain, tasks, closing) = Drain::new();
        listener.set_nonblocking(true).map_err(setup)?;
        let listener = TcpListener::from_std(listener).map_err(setup)?;
        let figures = Arc::clone(&self.figures);
        let answer = move |request| std::future::ready(figures.answer(&request));
        tasks.spawn(admin::serve(listener, answer, closing.clone(), tasks.clone()));

        let changed = Arc::new(Notify::new());
        let notify = || {
            let changed = Arc::clone(&changed);
            move || changed.notify_one()
        };
        let _files = resources::watch(&self.desired.sources().clone(), notify())?;
        let published = Sources(vec![self.folder.waypoints_path()]);
        let _published = resources::watch(&published, notify())?;
        let (ask, asked) = watch::channel(probe::Asked::new());
        let (answer, mut ready) = watch::channel(probe::Ready::new());
        tasks.spawn(probe::run(asked, answer, closing));

        self.read_waypoints(&ask);
        // Before the first table: who is ready is asked once, or all would be refused for a moment.
        if !self.waypoints.is_empty() && ready.changed().await.is_ok() {
            self.ready = ready.borrow_and_update().clone();
        }
        self.step();
        loop {
            let pause = TICK * u32::try_from(1 + self.entries() / COMPARED).unwrap_or(u32::MAX);
            // Cancel safe, all of them: what was not seen is seen next time.
            tokio::select! {
                () = changed.notified() => {
                    sleep(GATHER).await;
                    self.reread(&ask);
                }
                _ = hangup.recv() => self.reread(&ask),
                told = ready.changed() => match told {
                    Ok(()) => self.ready = ready.borrow_and_update().clone(),
                    Err(_) => break,
                },
                () = sleep(pause) => self.compare(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            self.step();
        }
        drain.drain(END).await;
        tracing::info!("ended; what is in force stays so (`waypoint redirect detach` ends that)");
        Ok(())
    }

    fn entries(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.entries.len())
    }

    fn reread(&mut self, ask: &watch::Sender<probe::Asked>) {
        let (redirections, refused) = read(&mut self.desired);
        if refused > 0 {
            tracing::error!(refused, "mistakes in the resources; the last good ones count");
        }
        if redirections.is_empty() && !self.redirections.is_empty() && !self.settings.allow_empty {
            tracing::error!(
                "every Service is gone from the resources; those that were there count"
            );
            self.figures.refused_resources(refused.max(1));
        } else {
            self.redirections = redirections;
            self.figures.refused_resources(refused);
        }
        self.read_waypoints(ask);
    }

    /// Reads what waypoints have published. One whose file is wrong counts as it was.
    fn read_waypoints(&mut self, ask: &watch::Sender<probe::Asked>) {
        let all = match self.folder.waypoints() {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(%error, "waypoints cannot be read; those that are known count");
                return;
            }
        };
        self.waypoints.retain(|name, _| all.contains_key(name));
        for (name, read) in all {
            match read {
                Ok(published) => {
                    self.waypoints.insert(name, published);
                }
                Err(error) => tracing::error!(%error, "a waypoint's file; its last version counts"),
            }
        }
        let health = |(name, one): (&String, &Published)| (name.clone(), one.health.clone());
        let wanted: probe::Asked = self.waypoints.iter().map(health).collect();
        ask.send_if_modified(|asked| {
            let changed = *asked != wanted;
            *asked = wanted;
            changed
        });
    }

    /// Makes the table, puts it in force if it is another one, and acknowledges.
    fn step(&mut self) {
        let seen = |(name, published): (&String, &Published)| {
            let ready = self.ready.get(name).copied().unwrap_or_default();
            (name.clone(), Seen { published: published.clone(), ready })
        };
        let waypoints: BTreeMap<String, Seen> = self.waypoints.iter().map(seen).collect();
        let settling = |service: &ServicePortKey| {
            // At the start nothing is known of how it was.
            self.table.is_some()
                && self.waiting.get(service).is_none_or(|since| since.elapsed() < SETTLE)
        };
        let outcome = desired::outcome(&Inputs {
            redirections: &self.redirections,
            waypoints: &waypoints,
            current: self.table.as_ref(),
            settling: &settling,
            machine: &self.machine,
            exempt: &self.settings.exempt,
            attached: &self.attached,
        });
        let now = Instant::now();
        // What is refused from the start is not looked at as if it were new.
        let since =
            self.table.as_ref().map_or(now.checked_sub(SETTLE), |_| Some(now)).unwrap_or(now);
        let unserved = |alarm: &Alarm| match alarm {
            Alarm::Unserved(service) => Some(service.clone()),
            _ => None,
        };
        let still: BTreeSet<_> = outcome
            .waiting
            .iter()
            .cloned()
            .chain(outcome.alarms.iter().filter_map(unserved))
            .collect();
        self.waiting.retain(|service, _| still.contains(service));
        for service in still {
            self.waiting.entry(service).or_insert(since);
        }
        self.tell(outcome.alarms);
        let keeps_old = outcome.keeps_old;
        if self.table.as_ref() != Some(&outcome.table) && !self.apply(outcome.table) {
            return;
        }
        if !keeps_old {
            self.acknowledge();
        }
        self.figures.set(&waypoints, self.entries());
    }

    fn apply(&mut self, table: kernel::Table) -> bool {
        match self.redirect.apply(&table) {
            Ok(applied) => {
                tracing::info!(
                    entries = applied.entries,
                    left_out = applied.targets_left_out,
                    "table in force"
                );
                if applied.refused_table_full > 0 {
                    let refused = applied.refused_table_full;
                    tracing::error!(
                        refused,
                        "the table is full: connections to the rest are refused"
                    );
                }
                self.figures.applied(applied.refused_table_full);
                self.table = Some(table);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the table is not in force");
                self.figures.health(Health::ApplyFailed);
                false
            }
        }
    }

    /// Says which generation of each waypoint is in force.
    fn acknowledge(&mut self) {
        let applied = self.waypoints.iter().map(|(name, one)| (name.clone(), one.generation));
        let agent = self.settings.name.clone();
        let acknowledgement = Acknowledgement { agent, applied: applied.collect() };
        if acknowledgement == self.acknowledged {
            return;
        }
        match self.folder.acknowledge(&acknowledgement) {
            Ok(()) => self.acknowledged = acknowledgement,
            Err(error) => tracing::error!(%error, "what is in force cannot be acknowledged"),
        }
    }

    /// Logs what is new, and what is over.
    fn tell(&mut self, alarms: BTreeSet<Alarm>) {
        for alarm in alarms.difference(&self.alarms) {
            tracing::warn!(alarm = alarm.name(), "{alarm}");
        }
        for alarm in self.alarms.difference(&alarms) {
            tracing::info!(alarm = alarm.name(), "over: {alarm}");
        }
        self.figures.alarms(&alarms);
        self.alarms = alarms;
    }

    /// Compares the kernel with what it should have, and mends it.
    fn compare(&mut self) {
        let Some(table) = &self.table else { return };
        let differences = match self.redirect.drift(table) {
            Ok(differences) => differences,
            Err(error) => {
                tracing::error!(%error, "the kernel cannot be compared");
                self.figures.health(Health::Unknown);
                return;
            }
        };
        self.figures.drift(differences.len());
        if differences.is_empty() {
            return;
        }
        for difference in &differences {
            tracing::error!(difference, "the kernel is not as it should be");
        }
        match self.redirect.repair(table) {
            Ok(_) => tracing::info!("mended"),
            Err(error) => {
                tracing::error!(%error, "it cannot be mended");
                self.figures.health(Health::ApplyFailed);
            }
        }
    }
}
