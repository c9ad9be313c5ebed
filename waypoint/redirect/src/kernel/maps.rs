//! The maps: made once, pinned, found again by the next agent.

use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuHashMap};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use super::Bounds;
use super::layout::{self, ENTRY, EXEMPT_KEY, KEY, Key, SERVICE, SETTINGS, TOTALS, Value};

/// What clang made of bpf/redirect.c.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.o"));

const NO_PREALLOC: u32 = 1;

/// A map as this agent makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    pub(crate) entries: u32,
    flags: u32,
}

pub(crate) fn shapes(bounds: &Bounds) -> [Shape; 8] {
    let hash = |name, key, value, entries| Shape {
        name,
        kind: MapType::Hash,
        key,
        value,
        entries,
        flags: NO_PREALLOC,
    };
    let array = |name, kind, value, entries| Shape { name, kind, key: 4, value, entries, flags: 0 };
    let totals = u32::try_from(TOTALS).expect("a handful");
    [
        array("wp_live", MapType::Array, 4, 1),
        array("wp_settings", MapType::Array, SETTINGS, 2),
        hash("wp_entries", KEY, ENTRY, 2 * bounds.entries),
        hash("wp_refusals", KEY, 1, 2 * bounds.refusals),
        hash("wp_exempt", EXEMPT_KEY, 1, 2 * bounds.exempt),
        array("wp_totals", MapType::PerCpuArray, 8, totals),
        Shape { kind: MapType::PerCpuHash, ..hash("wp_services", KEY, SERVICE, bounds.entries) },
        Shape { kind: MapType::SkStorage, ..hash("wp_original", 4, layout::ORIGINAL, 0) },
    ]
}

/// How a pinned map differs from ours, or nothing.
pub(crate) fn difference(shape: &Shape, path: &Path) -> Result<Option<String>, MapError> {
    let info = MapInfo::from_pin(path)?;
    let kind = info.map_type()?;
    let found = (
        kind,
        info.key_size() as usize,
        info.value_size() as usize,
        info.max_entries(),
        info.map_flags(),
    );
    let wanted = (shape.kind, shape.key, shape.value, shape.entries, shape.flags);
    if found == wanted {
        return Ok(None);
    }
    Ok(Some(format!("type, key, value, entries, flags are {found:?}, expected {wanted:?}")))
}

/// Loads the object: maps that are pinned in `folder` are used, others made and pinned there.
/// Without a folder nothing is pinned.
pub(crate) fn load(folder: Option<&Path>, bounds: &Bounds) -> Result<Ebpf, aya::EbpfError> {
    let shapes = shapes(bounds);
    let mut loader = EbpfLoader::new();
    for shape in &shapes {
        if shape.entries > 0 {
            loader.map_max_entries(shape.name, shape.entries);
        }
        if let Some(folder) = folder {
            loader.map_pin_path(shape.name, folder.join(shape.name));
        }
    }
    loader.load(OBJECT)
}

/// The pinned maps, opened.
pub(crate) struct Maps {
    pub(crate) live: Array<MapData, u32>,
    pub(crate) settings: Array<MapData, [u8; SETTINGS]>,
    pub(crate) entries: HashMap<MapData, Key, Value>,
    pub(crate) refusals: HashMap<MapData, Key, u8>,
    pub(crate) exempt: HashMap<MapData, [u8; EXEMPT_KEY], u8>,
    pub(crate) totals: PerCpuArray<MapData, u64>,
    pub(crate) services: PerCpuHashMap<MapData, Key, [u8; SERVICE]>,
}

impl Maps {
    pub(crate) fn open(folder: &Path) -> Result<Maps, MapError> {
        let map = |name: &str| {
            let data = MapData::from_pin(folder.join(name))?;
            aya::maps::Map::from_map_data(data)
        };
        Ok(Maps {
            live: map("wp_live")?.try_into()?,
            settings: map("wp_settings")?.try_into()?,
            entries: map("wp_entries")?.try_into()?,
            refusals: map("wp_refusals")?.try_into()?,
            exempt: map("wp_exempt")?.try_into()?,
            totals: map("wp_totals")?.try_into()?,
            services: map("wp_services")?.try_into()?,
        })
    }

    /// The epoch that connects look at: 0 or 1.
    pub(crate) fn epoch(&self) -> Result<u8, MapError> {
        Ok(u8::from(self.live.get(&0, 0)? & 1 == 1))
    }

    /// What was counted, in the order of `enum total`.
    pub(crate) fn totals(&self) -> Result<[u64; TOTALS], MapError> {
        let mut totals = [0; TOTALS];
        for (index, total) in (0..).zip(&mut totals) {
            let values = self.totals.get(&index, 0)?;
            *total = values.iter().fold(0, |sum, value| value.wrapping_add(sum));
        }
        Ok(totals)
    }
}
