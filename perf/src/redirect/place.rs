//! A cgroup and a bpffs of this part's own, taken away however the part ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waypoint_redirect::{
    DEFAULT_PINS, Finding, Options, Redirect, State, Table, Totals, default_cgroup, detach, doctor,
};

use super::process::Process;
use crate::peers::Result;

/// How long clean-up waits for processes that were ended to leave the cgroup.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const LEAVE_PAUSE: Duration = Duration::from_millis(10);

/// Where the programs are attached and pinned.
pub(super) struct Place {
    options: Options,
    /// Cleans up when this process has ended, even if it was killed.
    _cleaner: Process,
}

impl Place {
    /// The name is the cgroup's, after that of this program.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(super) fn new(name: &str) -> Result<Self> {
        let root = default_cgroup()?;
        demand(&Options { cgroup: root.clone(), pins: DEFAULT_PINS.into() })?;
        let cgroup = root.join(format!("waypoint-perf-{}-{name}", std::process::id()));
        let folder = tempfile::tempdir()?;
        let cleaner = Process::start("cleaner", &[&cgroup, folder.path()])?;
        let pins = pins(&folder.keep());
        fs::create_dir(&cgroup)?;
        Ok(Self { options: Options { cgroup, pins }, _cleaner: cleaner })
    }

    /// A client in the cgroup.
    pub(super) fn client(&self) -> Result<Process> {
        let client = Process::start("client", &[""; 0])?;
        self.adopt(&client)?;
        Ok(client)
    }

    /// The sockets that the process makes from now on are of this cgroup.
    pub(super) fn adopt(&self, process: &Process) -> Result<()> {
        fs::write(self.options.cgroup.join("cgroup.procs"), process.id().to_string())?;
        Ok(())
    }

    /// Attaches the programs, with a table.
    pub(super) fn attach(&self, table: &Table) -> Result<Redirect> {
        let mut redirect = Redirect::open(&self.options)?;
        redirect.apply(table)?;
        Ok(redirect)
    }

    /// From now on no connect meets these programs.
    pub(super) fn detach(&self, redirect: Redirect) -> Result<()> {
        drop(redirect);
        detach(&self.options.pins)?;
        Ok(())
    }

    /// What the programs have counted since they were attached.
    pub(super) fn totals(&self) -> Result<Totals> {
        Ok(State::read(&self.options.pins)?.totals)
    }
}

/// Fails with the names of what this machine lacks.
fn demand(options: &Options) -> Result<()> {
    let lacks = |finding: &Finding| finding.needed && !finding.ok;
    let line = |finding: Finding| {
        let remedy = finding.remedy.unwrap_or_default();
        format!("\n  {}: {} ({remedy})", finding.name, finding.found)
    };
    let missing: String = doctor(options).into_iter().filter(lacks).map(line).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("redirect needs{missing}").into()) }
}

fn pins(folder: &Path) -> PathBuf {
    folder.join("bpf/waypoint")
}

/// The cleaner: waits for the end of the process that asked for it, then leaves nothing behind.
pub(super) fn clean(cgroup: &Path, folder: &Path) -> Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    let begun = Instant::now();
    loop {
        let cleaned = clean_once(cgroup, folder);
        if cleaned.is_ok() || begun.elapsed() > LEAVE_MAX {
            return cleaned;
        }
        std::thread::sleep(LEAVE_PAUSE);
    }
}

fn clean_once(cgroup: &Path, folder: &Path) -> Result<()> {
    detach(&pins(folder))?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    if cgroup.exists() {
        fs::remove_dir(cgroup)?;
    }
    Ok(())
}
