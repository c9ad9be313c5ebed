//! What stands in the maps: read, written, cleared and compared, one epoch at a time.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{MapError, PerCpuValues};

use super::apply::ApplyError;
use super::layout::{self, Key, SERVICE, Settings, Value, address, epoch, exempt, exempt_key};
use super::maps::Maps;
use super::plan::Plan;

pub(super) fn at(map: &'static str) -> impl Fn(MapError) -> ApplyError {
    move |source| ApplyError::Map { map, source }
}

fn with_epoch(key: &Key, epoch: u8) -> Key {
    let mut key = *key;
    key[18] = epoch;
    key
}

impl Maps {
    pub(super) fn write(&mut self, plan: &Plan, epoch: u8) -> Result<(), ApplyError> {
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
    pub(super) fn clear(&mut self, gone: u8) -> Result<(), ApplyError> {
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
    pub(super) fn add_counters(&mut self, plan: &Plan) -> Result<usize, MapError> {
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

    pub(super) fn remove_counters(&mut self, plan: &Plan) -> Result<(), MapError> {
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

    pub(super) fn drift(&self, plan: &Plan) -> Result<Vec<String>, ApplyError> {
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
