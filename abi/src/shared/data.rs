//! Keys and values with compare-and-swap, bounded by letting the oldest writes go.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::status::Status;

pub(super) struct Data {
    entries: HashMap<Vec<u8>, Entry>,
    /// Keys by their last write, oldest first.
    by_age: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    keys_max: usize,
    writes: u64,
}

struct Entry {
    value: Bytes,
    /// The number of the write: the order of age, and in its low bits what the guest compares.
    write: u64,
}

impl Entry {
    fn cas(&self) -> u32 {
        cas_of(self.write)
    }
}

/// Never 0, which means "whatever is there".
fn cas_of(write: u64) -> u32 {
    u32::try_from(write % u64::from(u32::MAX)).unwrap_or(0) + 1
}

impl Data {
    pub(super) fn new(bytes_max: usize, keys_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            keys_max,
            writes: 0,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.entries.get(key).map(|entry| (entry.value.clone(), entry.cas()))
    }

    /// A version for a key that is not there is accepted.
    pub(super) fn set(
        &mut self,
        key: &[u8],
        value: Option<Bytes>,
        cas: u32,
    ) -> Result<bool, Status> {
        let current = self.entries.get(key).map(Entry::cas);
        if cas != 0 && current.is_some_and(|current| current != cas) {
            return Err(Status::CasMismatch);
        }
        self.remove(key);
        let Some(value) = value else { return Ok(true) };
        let size = key.len() + value.len();
        if self.bytes_max < size || self.keys_max == 0 {
            return Ok(false);
        }
        let roomy = self.make_room(size);
        self.writes += 1;
        self.bytes += size;
        self.by_age.insert(self.writes, key.to_vec());
        self.entries.insert(key.to_vec(), Entry { value, write: self.writes });
        Ok(roomy)
    }

    fn make_room(&mut self, size: usize) -> bool {
        let mut roomy = true;
        while self.bytes_max < self.bytes + size || self.keys_max <= self.entries.len() {
            let Some((_, oldest)) = self.by_age.first_key_value() else { return roomy };
            let oldest = oldest.clone();
            self.remove(&oldest);
            roomy = false;
        }
        roomy
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_age.remove(&entry.write);
            self.bytes -= key.len() + entry.value.len();
        }
    }
}
