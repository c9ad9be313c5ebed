//! How an agent starts: everything that can be wrong is found before the kernel is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use waypoint_policies::ports::Acknowledgement;
use waypoint_redirect as kernel;

use super::{Agent, read};
use crate::redirect::figures::Figures;
use crate::redirect::folder::{Folder, FolderError};
use crate::redirect::own;
use crate::resources::{Desired, Sources};

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
    let acknowledged = registered(&folder, name)?;
    let address = settings.metrics;
    let bound = std::net::TcpListener::bind(address);
    let listener = bound.map_err(|source| AgentError::Bind { address, source })?;
    let redirect = kernel::Redirect::open(&settings.kernel)?;
    for (hook, done) in redirect.opened() {
        tracing::info!(hook, ?done, "attached");
    }
    // Before the first thread: capabilities are those of threads.
    kernel::drop_privileges()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let agent = Agent {
        folder,
        desired,
        redirect,
        redirections,
        waypoints: BTreeMap::new(),
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

/// What this agent acknowledged last. Written before anything is read that it could map: from here on
/// no waypoint uses a number again without it.
fn registered(folder: &Folder, name: &str) -> Result<Acknowledgement, FolderError> {
    let known = folder.agents()?.into_iter().find(|one| one.agent == name);
    let acknowledged =
        known.unwrap_or_else(|| Acknowledgement { agent: name.to_owned(), ..Default::default() });
    folder.acknowledge(&acknowledged)?;
    Ok(acknowledged)
}
