//! A table into the kernel: the whole new one beside the old, then one write that says which holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aya::maps::{MapError, MapInfo, PerCpuValues};

use super::layout::{self, Key, SERVICE, Settings, Value, address, epoch, exempt, exempt_key};
use super::maps::Maps;
use super::plan::Plan;
use super::{DRIFT_LINES, Done, OpenError, Redirect, TableError, sys};
use crate::table::Table;

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
        "the kernel refused to change {map}: {source}; the table before this one stays in force"
    )]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The new table is in force, but the old one could not be taken away yet.
    #[error("the new table is in force, but the kernel refused to wait for its programs: {0}")]
    Barrier(io::Error),
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

fn at(map: &'static str) -> impl Fn(MapError) -> ApplyError {
    move |source| ApplyError::Map { map, source }
}

fn with_epoch(key: &Key, epoch: u8) -> Key {
    let mut key = *key;
    key[18] = epoch;
    key
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
        self.maps.add_counters(&plan).map_err(at("wp_services"))?;
        let live = u32::from(new);
        self.maps.live.set(0, live, 0).map_err(at("wp_live"))?;
        self.barrier.wait().map_err(ApplyError::Barrier)?;
        self.maps.clear(old)?;
        self.maps.remove_counters(&plan).map_err(at("wp_services"))?;
        let uncounted = self.maps.add_counters(&plan).map_err(at("wp_services"))?;
        Ok(Applied {
            entries: plan.entries.len(),
            refused_table_full: plan.refusals.len(),
            targets_left_out: plan.targets_left_out,
            names_cut: plan.names_cut,
            uncounted,
        })
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
        let hooks = self.attach()?;
        let applied = self.apply(table)?;
        Ok(Repaired { hooks, pins, applied })
    }
}

impl Maps {
    fn write(&mut self, plan: &Plan, epoch: u8) -> Result<(), ApplyError> {
        for (key, value) in &plan.entries {
            let key = with_epoch(key, epoch);
            self.entries.insert(key, value, 0).map_err(at("wp_entries"))?;
        }
        for key in &plan.refusals {
            let key = with_epoch(key, epoch);
            self.refusals.insert(key, 1, 0).map_err(at("wp_refusals"))?;
        }
        for cgroup in &plan.exempt {
            let key = exempt_key(*cgroup, epoch);
            self.exempt.insert(key, 1, 0).map_err(at("wp_exempt"))?;
        }
        let settings = plan.settings.bytes();
        self.settings.set(u32::from(epoch), settings, 0).map_err(at("wp_settings"))
    }

    /// Takes away what an epoch has that is not in force.
    fn clear(&mut self, gone: u8) -> Result<(), ApplyError> {
        let of = |key: &Key| epoch(key) == gone;
        let entries: Vec<Key> = collect(self.entries.keys(), of).map_err(at("wp_entries"))?;
        for key in &entries {
            self.entries.remove(key).map_err(at("wp_entries"))?;
        }
        let refusals: Vec<Key> = collect(self.refusals.keys(), of).map_err(at("wp_refusals"))?;
        for key in &refusals {
            self.refusals.remove(key).map_err(at("wp_refusals"))?;
        }
        let keys = collect(self.exempt.keys(), |key| exempt(key).1 == gone);
        for key in &keys.map_err(at("wp_exempt"))? {
            self.exempt.remove(key).map_err(at("wp_exempt"))?;
        }
        Ok(())
    }

    /// Gives counters to services that have none; tells how many could not get them.
    fn add_counters(&mut self, plan: &Plan) -> Result<usize, MapError> {
        let have: BTreeSet<Key> = collect(self.services.keys(), |_| true)?.into_iter().collect();
        let processors = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        let mut without = 0;
        for key in plan.entries.keys().filter(|key| !have.contains(*key)) {
            let zeros = PerCpuValues::try_from(vec![[0u8; SERVICE]; processors]);
            let zeros = zeros.map_err(MapError::IoError)?;
            without += usize::from(self.services.insert(key, zeros, 0).is_err());
        }
        Ok(without)
    }

    fn remove_counters(&mut self, plan: &Plan) -> Result<(), MapError> {
        let gone = |key: &Key| !plan.entries.contains_key(key);
        for key in collect(self.services.keys(), gone)? {
            self.services.remove(&key)?;
        }
        Ok(())
    }

    /// The entries of an epoch, under keys of epoch 0.
    pub(crate) fn entries(&self, of: u8) -> Result<BTreeMap<Key, Value>, MapError> {
        let mut entries = BTreeMap::new();
        for element in self.entries.iter() {
            let (key, value) = element?;
            if epoch(&key) == of {
                entries.insert(with_epoch(&key, 0), value);
            }
        }
        Ok(entries)
    }

    /// The refused service ports of an epoch, under keys of epoch 0.
    pub(crate) fn refusals(&self, of: u8) -> Result<BTreeSet<Key>, MapError> {
        let keys = collect(self.refusals.keys(), |key| epoch(key) == of)?;
        Ok(keys.iter().map(|key| with_epoch(key, 0)).collect())
    }

    /// The exempt cgroups of an epoch.
    pub(crate) fn exempt(&self, of: u8) -> Result<BTreeSet<u64>, MapError> {
        let keys = collect(self.exempt.keys(), |key| exempt(key).1 == of)?;
        Ok(keys.iter().map(|key| exempt(key).0).collect())
    }

    fn drift(&self, plan: &Plan) -> Result<Vec<String>, ApplyError> {
        let epoch = self.epoch().map_err(at("wp_live"))?;
        let mut found = Vec::new();
        let name = |value: &Value| layout::entry(value).service;
        let live = self.entries(epoch).map_err(at("wp_entries"))?;
        for (key, value) in &plan.entries {
            let what = match live.get(key) {
                Some(there) if there == value => continue,
                Some(_) => "is changed",
                None => "is gone",
            };
            found.push(format!("the entry {} ({}) {what}", address(key), name(value)));
        }
        for (key, value) in live.iter().filter(|(key, _)| !plan.entries.contains_key(*key)) {
            found.push(format!("the entry {} ({}) is not of the table", address(key), name(value)));
        }
        let refusals = self.refusals(epoch).map_err(at("wp_refusals"))?;
        for key in refusals.symmetric_difference(&plan.refusals) {
            found.push(format!("whether {} is refused is changed", address(key)));
        }
        let exempt = self.exempt(epoch).map_err(at("wp_exempt"))?;
        for cgroup in exempt.symmetric_difference(&plan.exempt) {
            found.push(format!("whether cgroup {cgroup} is exempt is changed"));
        }
        let settings = self.settings.get(&u32::from(epoch), 0);
        if Settings::of(&settings.map_err(at("wp_settings"))?) != plan.settings {
            found.push("the settings are changed".to_owned());
        }
        Ok(found)
    }
}

fn collect<K>(
    keys: impl Iterator<Item = Result<K, MapError>>,
    wanted: impl Fn(&K) -> bool,
) -> Result<Vec<K>, MapError> {
    keys.filter(|key| key.as_ref().map_or(true, &wanted)).collect()
}
