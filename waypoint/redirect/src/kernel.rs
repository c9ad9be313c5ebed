//! The agent's hold on the kernel: programs on the hooks of a cgroup, maps that they read, both
//! pinned, so that they outlive the agent and the next one takes them over.

mod apply;
mod contents;
pub(crate) mod layout;
pub(crate) mod links;
pub(crate) mod maps;
pub(crate) mod place;
mod plan;
pub(crate) mod sys;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::EbpfError;
use aya::maps::{MapError, MapInfo};
use aya::programs::ProgramError;

pub use apply::{Applied, ApplyError, Repaired};
pub use links::Done;
pub use place::{cgroup_id, cgroup_path, cgroups_above, default_cgroup};
pub use plan::TableError;

use crate::detach;
use crate::table::{ENTRIES_MAX, EXEMPT_MAX, REFUSALS_MAX};

use links::Attachment;
pub(crate) use links::{HOOKS, Hook};
pub(crate) use maps::Maps;
pub(crate) use place::{Lock, holder, remove_bpffs};

/// Where the agent pins what it loads, if it is not told otherwise.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/waypoint";
/// Lines of the verifier that an error shows.
const TOLD_LINES: usize = 8;
/// Differences that `drift` lists one by one.
pub(crate) const DRIFT_LINES: usize = 100;

/// Where to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cgroup (v2) whose processes are redirected, with all below it.
    pub cgroup: PathBuf,
    /// The folder for pins, on a bpffs; where none is, one is mounted at the folder's parent.
    pub pins: PathBuf,
}

/// The sizes of the maps. Maps that are pinned with other sizes are not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Service ports that can be redirected.
    pub entries: u32,
    /// Service ports beyond those that can be refused.
    pub refusals: u32,
    /// Cgroups that can be exempt.
    pub exempt: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { entries: ENTRIES_MAX, refusals: REFUSALS_MAX, exempt: EXEMPT_MAX }
    }
}

/// Why the kernel could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not one of cgroup2.
    #[error("{path}: {source}; expected a folder of cgroup2", path = path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no bpffs, and none could be mounted.
    #[error("no bpffs for {path}: {source}; mount -t bpf bpf /sys/fs/bpf", path = path.display())]
    Bpffs {
        /// The folder for pins.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder for pins cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Pins {
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another agent works there.
    #[error("{path} is held by another agent{pid}; end that one first, or give --pins another folder",
        path = path.display(), pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The folder for pins.
        path: PathBuf,
        /// Its process, where /proc/locks tells.
        pid: Option<u32>,
    },
    /// A pinned map is not as this agent makes it.
    #[error("{path} has another layout: {difference}; end the agents that use it, then detach", path = path.display())]
    Layout {
        /// The pinned map.
        path: PathBuf,
        /// What is different.
        difference: String,
    },
    /// The object was not taken.
    #[error("the programs cannot be loaded: {}", told(.0))]
    Load(#[from] EbpfError),
    /// The verifier refused a program, or this kernel lacks something that it needs.
    #[error("the program of {hook} cannot be loaded: {}", end_of(&told(reason)))]
    Program {
        /// The hook.
        hook: &'static str,
        /// What the kernel said; the verifier's whole log is in it.
        reason: ProgramError,
    },
    /// A program could not be attached.
    #[error("{hook} cannot be attached: {source}")]
    Link {
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pinned map cannot be opened.
    #[error("a pinned map cannot be opened: {}", told(.0))]
    Map(#[from] MapError),
    /// Some other call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An error with what it came from: the errno is at the end of aya's chains.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        // Some errors repeat what they came from.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// The end of a long text: the verifier writes a line for each instruction, and what is wrong last.
pub(crate) fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(TOLD_LINES) {
        None | Some(0) => text.to_owned(),
        Some(cut) => format!("({cut} lines)\n{}", lines[cut..].join("\n")),
    }
}

/// A pinned map, so that a lost pin can be set again.
#[derive(Debug)]
struct Pin {
    path: PathBuf,
    map: OwnedFd,
    id: u32,
}

/// The programs and maps of one cgroup. One process has it at a time; what it did to the kernel
/// stays when it is dropped, or its process is killed.
pub struct Redirect {
    _lock: Lock,
    bounds: Bounds,
    cgroup: File,
    cgroup_id: u64,
    /// Of the agent's own network namespace.
    netns: u64,
    barrier: sys::Barrier,
    maps: Maps,
    root: PathBuf,
    folders: Folders,
    pins: Vec<Pin>,
    hooks: Vec<Attachment>,
    /// The hooks are attached once a table is in force: programs of an earlier agent are there,
    /// and ours have new, empty maps.
    waiting: bool,
    opened: Vec<(&'static str, Done)>,
}

impl fmt::Debug for Redirect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redirect")
            .field("cgroup", &self.cgroup_id)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

impl Redirect {
    /// Loads the programs, or takes over what an earlier agent left: the table that it applied
    /// stays in force until the next [`Redirect::apply`].
    ///
    /// # Errors
    /// [`OpenError`], with what is missing. Programs that are attached stay attached.
    pub fn open(options: &Options) -> Result<Redirect, OpenError> {
        Redirect::open_bounded(options, Bounds::default())
    }

    /// The same with maps of other sizes.
    ///
    /// # Errors
    /// [`OpenError`], with what is missing.
    pub fn open_bounded(options: &Options, bounds: Bounds) -> Result<Redirect, OpenError> {
        let cgroup_error = |source| OpenError::Cgroup { path: options.cgroup.clone(), source };
        let cgroup_id = cgroup_id(&options.cgroup).map_err(cgroup_error)?;
        let cgroup = File::open(&options.cgroup).map_err(cgroup_error)?;
        let call = |call| move |source| OpenError::Call { call, source };
        let netns = sys::netns_cookie().map_err(call("SO_NETNS_COOKIE"))?;

        let lock = prepare(&options.pins)?;
        let folders = Folders::of(&options.pins);
        folders.make()?;
        let found = check_layouts(&folders.maps, &bounds)?;
        let mut object = maps::load(Some(&folders.maps), &bounds)?;
        let mut hooks = Vec::new();
        for hook in HOOKS {
            let loaded = Attachment::load(&mut object, hook, &folders.links);
            hooks.push(loaded.map_err(|reason| OpenError::Program { hook: hook.name, reason })?);
        }
        let mut redirect = Redirect {
            _lock: lock,
            bounds,
            cgroup,
            cgroup_id,
            netns,
            barrier: sys::Barrier::new().map_err(call("a map of maps"))?,
            maps: Maps::open(&folders.maps)?,
            pins: pins(&folders.maps, &bounds)?,
            hooks,
            waiting: !found && others_attached(&options.pins),
            root: options.pins.clone(),
            folders,
            opened: Vec::new(),
        };
        // An agent that was killed may have left a table that programs still look at.
        redirect.barrier.wait().map_err(call("a map of maps"))?;
        if !redirect.waiting {
            redirect.opened = redirect.attach()?;
        }
        Ok(redirect)
    }

    /// What was done to each hook; nothing yet if an earlier agent's maps could not be taken over:
    /// then its programs decide until the first table is in force.
    #[must_use]
    pub fn opened(&self) -> &[(&'static str, Done)] {
        &self.opened
    }

    fn attach(&mut self) -> Result<Vec<(&'static str, Done)>, OpenError> {
        let mut done = Vec::new();
        for attachment in &mut self.hooks {
            let hook = attachment.hook.name;
            match attachment.ensure(&self.cgroup, self.cgroup_id) {
                Ok(what) => done.push((hook, what)),
                Err(source) => return Err(OpenError::Link { hook, source }),
            }
        }
        Ok(done)
    }
}

/// The folders within the folder of pins. The layout's number is in the path: another layout gets
/// other maps.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) layout: PathBuf,
    pub(crate) maps: PathBuf,
    pub(crate) links: PathBuf,
}

impl Folders {
    pub(crate) fn of(pins: &Path) -> Folders {
        let layout = pins.join(format!("layout-{}", layout::LAYOUT));
        Folders { maps: layout.join("maps"), links: layout.join("links"), layout }
    }

    fn make(&self) -> Result<(), OpenError> {
        for path in [&self.layout, &self.maps, &self.links] {
            place::private_folder(path)
                .map_err(|source| OpenError::Pins { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// The folder of pins, and the lock on it.
fn prepare(pins: &Path) -> Result<Lock, OpenError> {
    place::ensure_bpffs(pins)
        .map_err(|source| OpenError::Bpffs { path: pins.to_owned(), source })?;
    let failed = |source| OpenError::Pins { path: pins.to_owned(), source };
    place::private_folder(pins).map_err(failed)?;
    if let Some(lock) = Lock::take(pins).map_err(failed)? {
        return Ok(lock);
    }
    Err(OpenError::Held { path: pins.to_owned(), pid: place::holder(pins).unwrap_or_default() })
}

/// Whether all maps are there, as this agent makes them.
fn check_layouts(folder: &Path, bounds: &Bounds) -> Result<bool, OpenError> {
    let mut all = true;
    for shape in maps::shapes(bounds) {
        let path = folder.join(shape.name);
        if !path.exists() {
            all = false;
            continue;
        }
        if let Some(difference) = maps::difference(&shape, &path)? {
            return Err(OpenError::Layout { path, difference });
        }
    }
    Ok(all)
}

fn pins(folder: &Path, bounds: &Bounds) -> Result<Vec<Pin>, OpenError> {
    let pin = |shape: maps::Shape| {
        let path = folder.join(shape.name);
        let id = MapInfo::from_pin(&path)?.id();
        let map =
            sys::pinned(&path).map_err(|source| OpenError::Pins { path: path.clone(), source })?;
        Ok(Pin { path, map, id })
    };
    maps::shapes(bounds).into_iter().map(pin).collect()
}

/// Whether an agent, of whatever layout, has left links.
fn others_attached(pins: &Path) -> bool {
    let links = |layout: PathBuf| std::fs::read_dir(layout.join("links")).ok();
    let layouts = detach::layouts(pins).unwrap_or_default();
    layouts.into_iter().filter_map(links).any(|mut links| links.next().is_some())
}
