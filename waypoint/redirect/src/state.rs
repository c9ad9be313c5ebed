//! What is in the kernel now, read from the pins without the agent and without its lock.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use serde::Serialize;

use crate::kernel::{self, Folders, HOOKS, Maps, layout, sys};
use crate::table::{Mark, Unready};

/// Reading meets the agent at work: the epoch must not change meanwhile.
const ATTEMPTS: usize = 10;

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nothing is pinned there, or by an agent with another layout of its maps.
    #[error("nothing of this version is pinned in {path}", path = .0.display())]
    Nothing(PathBuf),
    /// A map cannot be read.
    #[error("a pinned map cannot be read: {}", kernel::told(.0))]
    Map(#[from] MapError),
    /// A link, or the lock, cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent applied tables faster than they can be read.
    #[error("the table changes all the time")]
    Busy,
}

/// Everything that is pinned.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// The folder of pins.
    pub pins: PathBuf,
    /// The process of the agent, if one is running and /proc/locks tells.
    pub agent: Option<u32>,
    /// The number of the layout of maps.
    pub layout: u32,
    /// Which of the two tables is in force.
    pub epoch: u8,
    /// One for each hook.
    pub hooks: Vec<HookState>,
    /// What is redirected.
    pub entries: Vec<EntryState>,
    /// Service ports that did not fit and are refused.
    pub refused_table_full: Vec<SocketAddr>,
    /// Who is left alone.
    pub exempt: ExemptState,
    /// What was counted since the maps were made.
    pub totals: Totals,
}

/// A hook, and what is on it of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookState {
    /// `connect4` and so on.
    pub hook: &'static str,
    /// Nothing if the link is gone.
    pub link: Option<LinkState>,
}

/// A link and the program in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkState {
    /// The kernel's number of the link.
    pub id: u32,
    /// The id of the cgroup that it is on; 0 if that is gone.
    pub cgroup: u64,
    /// Where that cgroup is.
    pub cgroup_path: Option<PathBuf>,
    /// The kernel's number of the program.
    pub program: u32,
    /// The program's tag, in hexadecimal: its code in short. Only with CAP_SYS_ADMIN.
    pub tag: Option<String>,
}

/// One service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryState {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its name.
    pub service: String,
    /// Where its connects go.
    pub targets: Vec<TargetState>,
    /// Whether they go direct when no target is ready; otherwise they are refused.
    pub direct_when_unready: bool,
    /// Whether UDP is refused.
    pub refuse_udp: bool,
    /// What was counted since the entry came, if it has counters.
    pub counters: Option<Counters>,
}

/// A waypoint's address for one service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetState {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its part among all weights.
    pub weight: u16,
}

/// Connects of one service port, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Sent to a waypoint.
    pub redirected: u64,
    /// Sent on as they were, because no target was ready and the entry says so.
    pub direct: u64,
    /// Refused because no target was ready.
    pub refused: u64,
    /// UDP that was refused.
    pub refused_udp: u64,
}

/// What was counted over all service ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// TCP connects to what is not in the table.
    pub missed: u64,
    /// Sent to a waypoint.
    pub redirected: u64,
    /// Without a ready target, direct as the entry says.
    pub direct: u64,
    /// Left alone, though there is an entry.
    pub exempt: u64,
    /// Without a ready target, refused.
    pub refused: u64,
    /// Refused because the table was full.
    pub refused_table_full: u64,
    /// UDP that was refused.
    pub refused_udp: u64,
    /// Redirected, but without memory for the original address: `getpeername` names the waypoint.
    pub unremembered: u64,
}

/// Who is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExemptState {
    /// Ids of cgroups.
    pub cgroups: Vec<u64>,
    /// A mark and its mask.
    pub mark: Option<(u32, u32)>,
    /// The cookie of the agent's network namespace.
    pub netns: Option<u64>,
}

impl State {
    /// Reads what is pinned in this folder.
    ///
    /// # Errors
    /// [`StateError`]: nothing is there, or it cannot be read.
    pub fn read(pins: &Path) -> Result<State, StateError> {
        let folders = Folders::of(pins);
        match folders.maps.metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::Nothing(pins.to_owned()));
            }
            Err(source) => return Err(StateError::File { path: pins.to_owned(), source }),
        }
        let maps = Maps::open(&folders.maps)?;
        let agent = kernel::holder(pins)
            .map_err(|source| StateError::File { path: pins.to_owned(), source })?;
        for _ in 0..ATTEMPTS {
            let epoch = maps.epoch()?;
            let entries = entries(&maps, epoch)?;
            let refused = maps.refusals(epoch)?;
            let exempt = exempt(&maps, epoch)?;
            if maps.epoch()? != epoch {
                continue;
            }
            return Ok(State {
                pins: pins.to_owned(),
                agent,
                layout: layout::LAYOUT,
                epoch,
                hooks: hooks(&folders.links)?,
                entries,
                refused_table_full: refused.iter().map(|key| layout::address(key)).collect(),
                exempt,
                totals: totals(&maps)?,
            });
        }
        Err(StateError::Busy)
    }
}

fn entries(maps: &Maps, epoch: u8) -> Result<Vec<EntryState>, MapError> {
    let mut counters = BTreeMap::new();
    for element in maps.services.iter() {
        let (key, values) = element?;
        counters.insert(key, layout::service(&values));
    }
    let state = |(key, value): (&layout::Key, &layout::Value)| {
        let entry = layout::entry(value);
        let targets = entry.targets.into_iter();
        let counters = counters.get(key).map(|counters| Counters {
            redirected: counters[0],
            direct: counters[1],
            refused: counters[2],
            refused_udp: counters[3],
        });
        EntryState {
            address: layout::address(key),
            service: entry.service,
            targets: targets
                .map(|target| TargetState { address: target.address, weight: target.weight })
                .collect(),
            direct_when_unready: entry.unready == Unready::Direct,
            refuse_udp: entry.refuse_udp,
            counters,
        }
    };
    Ok(maps.entries(epoch)?.iter().map(state).collect())
}

fn exempt(maps: &Maps, epoch: u8) -> Result<ExemptState, MapError> {
    let settings = layout::Settings::of(&maps.settings.get(&u32::from(epoch), 0)?);
    let has = |flag: u32| settings.flags & flag != 0;
    let mark = Mark { value: settings.mark, mask: settings.mask };
    Ok(ExemptState {
        cgroups: maps.exempt(epoch)?.into_iter().collect(),
        mark: has(layout::SETTINGS_MARK).then_some((mark.value, mark.mask)),
        netns: has(layout::SETTINGS_NETNS).then_some(settings.netns),
    })
}

fn totals(maps: &Maps) -> Result<Totals, MapError> {
    let [
        missed,
        redirected,
        direct,
        exempt,
        refused,
        refused_table_full,
        refused_udp,
        unremembered,
    ] = maps.totals()?;
    Ok(Totals {
        missed,
        redirected,
        direct,
        exempt,
        refused,
        refused_table_full,
        refused_udp,
        unremembered,
    })
}

fn hooks(folder: &Path) -> Result<Vec<HookState>, StateError> {
    let state = |hook: &kernel::Hook| {
        let path = folder.join(hook.name);
        let link = match sys::pinned(&path).and_then(|link| sys::link_info(&link)) {
            Ok(info) => Some(LinkState {
                id: info.id,
                cgroup: info.cgroup,
                cgroup_path: kernel::cgroup_path(info.cgroup),
                program: info.program,
                tag: sys::program(info.program)
                    .and_then(|program| sys::program_info(&program))
                    .ok()
                    .map(|program| format!("{:016x}", program.tag)),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(StateError::File { path, source }),
        };
        Ok(HookState { hook: hook.name, link })
    };
    HOOKS.iter().map(state).collect()
}
