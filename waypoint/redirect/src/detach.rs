//! Leaves the machine as it was: no link, no map, no folder, and no bpffs that we mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::kernel::{self, Lock, sys};

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detached {
    /// Links: from now on no connect meets these programs.
    pub links: usize,
    /// Maps.
    pub maps: usize,
    /// Whether the bpffs was unmounted, for we had mounted it and nobody else used it.
    pub unmounted: bool,
}

/// Why not everything was taken away.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// An agent is running; it would find its programs gone.
    #[error("{path} is held by an agent{pid}; end it first",
        path = path.display(), pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The folder of pins.
        path: PathBuf,
        /// Its process, where /proc/locks tells.
        pid: Option<u32>,
    },
    /// A file cannot be taken away.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes away all that agents have pinned in this folder, of whatever layout. Where nothing is,
/// nothing is done.
///
/// # Errors
/// [`DetachError`]; links go first, so what cannot be removed does not redirect any more.
pub fn detach(pins: &Path) -> Result<Detached, DetachError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DetachError::File { path, source }
    };
    let mut detached = Detached::default();
    if pins.exists() {
        let Some(lock) = Lock::take(pins).map_err(failed(pins))? else {
            return Err(DetachError::Held {
                path: pins.to_owned(),
                pid: kernel::holder(pins).unwrap_or_default(),
            });
        };
        let layouts = layouts(pins).map_err(failed(pins))?;
        remove_layouts(&layouts, &mut detached)?;
        fs::remove_dir(pins).map_err(failed(pins))?;
        drop(lock);
    }
    detached.unmounted = kernel::remove_bpffs(pins).map_err(failed(pins))?;
    Ok(detached)
}

/// Takes away what agents with other layouts have left, now that this one's table is in force.
pub(crate) fn other_layouts(pins: &Path, own: &Path) -> Result<(), DetachError> {
    let found =
        layouts(pins).map_err(|source| DetachError::File { path: pins.to_owned(), source })?;
    let others: Vec<_> = found.into_iter().filter(|layout| layout != own).collect();
    remove_layouts(&others, &mut Detached::default())
}

/// Links first: nothing decides by maps that are going.
fn remove_layouts(layouts: &[PathBuf], detached: &mut Detached) -> Result<(), DetachError> {
    for layout in layouts {
        detached.links += remove_pins(&layout.join("links"), true)?;
    }
    for layout in layouts {
        detached.maps += remove_pins(&layout.join("maps"), false)?;
        fs::remove_dir(layout)
            .map_err(|source| DetachError::File { path: layout.clone(), source })?;
    }
    Ok(())
}

/// The folders of pins, one for each layout that an agent has had here.
pub(crate) fn layouts(pins: &Path) -> io::Result<Vec<PathBuf>> {
    let of_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b"layout-")
    };
    let all: Result<Vec<PathBuf>, io::Error> =
        fs::read_dir(pins)?.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(all?.into_iter().filter(of_ours).collect())
}

/// Removes a folder of pins, and says how many they were.
fn remove_pins(folder: &Path, links: bool) -> Result<usize, DetachError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DetachError::File { path, source }
    };
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        files => files.map_err(failed(folder))?,
    };
    let mut removed = 0;
    for file in files {
        let path = file.map_err(failed(folder))?.path();
        if links {
            // At once, and even if a process still has it open: removing the pin alone would not.
            let link = sys::pinned(&path).map_err(failed(&path))?;
            sys::detach(&link).map_err(failed(&path))?;
        }
        fs::remove_file(&path).map_err(failed(&path))?;
        removed += 1;
    }
    fs::remove_dir(folder).map_err(failed(folder))?;
    Ok(removed)
}
