//! A table into the kernel: the whole new one beside the old, then one write that says which holds.

use std::time::Duration;
use std::{io, thread};

use aya::maps::{MapError, MapInfo};

use super::contents::at;
use super::plan::Plan;
use super::{DRIFT_LINES, Done, OpenError, Redirect, TableError, sys, told};
use crate::detach;
use crate::table::Table;

/// The first pause before counters are tried again that the kernel had no memory for; each is twice as
/// long as the one before.
const COUNTERS_PAUSE_MIN: Duration = Duration::from_millis(1);
/// The last one: after it services are left without counters, and [`Applied::uncounted`] says so.
const COUNTERS_PAUSE_MAX: Duration = Duration::from_millis(128);

/// What [`Redirect::apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Service ports that are redirected, or handled as their entries say.
    pub entries: usize,
    /// An alarm when not 0: service ports that did not fit and are refused.
    pub refused_table_full: usize,
    /// Targets that were left out: of the other family, of weight 0, or too many.
    pub targets_left_out: usize,
    /// Names that were cut.
    pub names_cut: usize,
    /// Service ports that have no counters of their own, for want of memory.
    pub uncounted: usize,
}

/// Why a table is not in force. The one before it still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The table itself cannot be applied.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The kernel refused an element, mostly for want of memory.
    #[error(
        "the kernel refused to change {map}: {error}; the table before this one stays in force",
        error = told(source)
    )]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The new table is in force; the next one that is applied takes away what is left.
    #[error("the new table is in force, but the old one could not be taken away: {0}")]
    Retire(io::Error),
    /// A link or pin could not be made again.
    #[error(transparent)]
    Attach(#[from] OpenError),
}

/// What [`Redirect::repair`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Each hook.
    pub hooks: Vec<(&'static str, Done)>,
    /// Pins of maps that were set again.
    pub pins: usize,
    /// The table that was applied again.
    pub applied: Applied,
}

impl Redirect {
    /// Puts a table in force, whole: a connect meets the old one or this one.
    ///
    /// # Errors
    /// [`ApplyError`]; the table that was in force stays so.
    pub fn apply(&mut self, table: &Table) -> Result<Applied, ApplyError> {
        let plan = Plan::of(table, &self.bounds, self.netns)?;
        let old = self.maps.epoch().map_err(at("wp_live"))?;
        let new = 1 - old;
        // What an agent left that was killed here; or what is left when the kernel had no memory.
        self.maps.clear(new)?;
        if let Err(error) = self.maps.write(&plan, new) {
            self.maps.clear(new)?;
            return Err(error);
        }
        let uncounted = self.maps.add_counters(&plan).map_err(at("wp_services"))?;
        let live = u32::from(new);
        self.maps.live.set(0, live, 0).map_err(at("wp_live"))?;
        let uncounted = self.retire(old, &plan, uncounted).map_err(ApplyError::Retire)?;
        self.attach_waiting()?;
        Ok(Applied {
            entries: plan.entries.len(),
            refused_table_full: plan.refusals.len(),
            targets_left_out: plan.targets_left_out,
            names_cut: plan.names_cut,
            uncounted,
        })
    }

    /// Takes away the old table once no program looks at it any more; tells how many services have
    /// no counters.
    fn retire(&mut self, old: u8, plan: &Plan, mut uncounted: usize) -> io::Result<usize> {
        self.barrier.wait()?;
        self.maps.clear(old).map_err(io::Error::other)?;
        self.maps.remove_counters(plan).map_err(io::Error::other)?;
        // There may be room now; and memory of each processor is made in the background.
        let mut pause = COUNTERS_PAUSE_MIN;
        while 0 < uncounted && pause <= COUNTERS_PAUSE_MAX {
            thread::sleep(pause);
            pause *= 2;
            uncounted = self.maps.add_counters(plan).map_err(io::Error::other)?;
        }
        Ok(uncounted)
    }

    /// What `open` left to do until a table is in force: its maps are new, and until now programs
    /// of an earlier agent have decided by theirs.
    fn attach_waiting(&mut self) -> Result<(), ApplyError> {
        if !self.waiting {
            return Ok(());
        }
        self.opened = self.attach()?;
        detach::other_layouts(&self.root, &self.folders.layout)
            .map_err(|error| ApplyError::Retire(io::Error::other(error)))?;
        self.waiting = false;
        Ok(())
    }

    /// What in the kernel is not as this agent and this table want it, in words.
    ///
    /// # Errors
    /// The kernel does not let itself be read, or the table cannot be applied at all.
    pub fn drift(&self, table: &Table) -> Result<Vec<String>, ApplyError> {
        let mut found = Vec::new();
        for attachment in &self.hooks {
            let drift = attachment.drift(self.cgroup_id).map_err(|source| {
                let hook = attachment.hook.name;
                OpenError::Link { hook, source }
            })?;
            found.extend(drift);
        }
        for pin in &self.pins {
            let name = pin.path.file_name().unwrap_or_default().display();
            match MapInfo::from_pin(&pin.path) {
                Ok(info) if info.id() == pin.id => {}
                Ok(info) => found.push(format!("{name} is map {}, expected {}", info.id(), pin.id)),
                Err(_) => found.push(format!("the pin of {name} is gone")),
            }
        }
        let plan = Plan::of(table, &self.bounds, self.netns)?;
        found.extend(self.maps.drift(&plan)?);
        if found.len() > DRIFT_LINES {
            let more = found.len() - DRIFT_LINES;
            found.truncate(DRIFT_LINES);
            found.push(format!("and {more} more"));
        }
        Ok(found)
    }

    /// Makes links and pins that are gone again, and applies the table.
    ///
    /// # Errors
    /// As [`Redirect::apply`], or a link cannot be made.
    pub fn repair(&mut self, table: &Table) -> Result<Repaired, ApplyError> {
        let mut pins = 0;
        for pin in &self.pins {
            if MapInfo::from_pin(&pin.path).is_ok_and(|info| info.id() == pin.id) {
                continue;
            }
            // Whatever else stands there is not the map that the programs read.
            let _ = std::fs::remove_file(&pin.path);
            sys::pin(&pin.map, &pin.path)
                .map_err(|source| OpenError::Pins { path: pin.path.clone(), source })?;
            pins += 1;
        }
        let applied = self.apply(table)?;
        let hooks = self.attach()?;
        Ok(Repaired { hooks, pins, applied })
    }
}
