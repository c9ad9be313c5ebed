//! The folder that waypoints and agents of one machine share.
//!
//! `waypoints/NAME.json` is written by that waypoint only, `agents/NAME.json` by that agent only; each
//! is replaced in one step, so that a reader never sees half of one. Whoever may write here decides
//! where connections go: the folder belongs to the operator.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use waypoint_policies::ports::{Acknowledgement, Published};

/// Largest file that is read, in bytes: 10,000 service ports take about 2 MiB. A larger one is an
/// error.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files of one kind; more are an error.
const FILES_MAX: usize = 5_000;

/// Why a file of the folder could not be read or written.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The system refuses.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// Not what it should be; the place is that of the JSON.
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    /// A number or a name in it cannot be right.
    #[error("{path}: {reason}")]
    Wrong { path: PathBuf, reason: String },
    /// Too large, or too many.
    #[error("{path}: {what}")]
    Bound { path: PathBuf, what: String },
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// Whether a text can name a waypoint or an agent: a DNS subdomain, so that it can be a file's name.
pub fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            label.starts_with(word)
                && label.ends_with(word)
                && label.chars().all(|c| word(c) || c == '-')
        })
}

impl Folder {
    /// Makes what is missing of it.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        for kind in ["waypoints", "agents"] {
            let path = path.join(kind);
            fs::create_dir_all(&path).map_err(|source| FolderError::Io { path, source })?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Where waypoints write: what an agent watches.
    pub fn waypoints_path(&self) -> PathBuf {
        self.0.join("waypoints")
    }

    pub(super) fn waypoint_path(&self, name: &str) -> PathBuf {
        self.waypoints_path().join(format!("{name}.json"))
    }

    fn agent_path(&self, name: &str) -> PathBuf {
        self.0.join("agents").join(format!("{name}.json"))
    }

    /// The lock of a waypoint's name; `None` if another process has it.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`].
    pub fn lock_waypoint(&self, name: &str) -> Result<Option<fs::File>, FolderError> {
        lock(&self.waypoints_path().join(format!("{name}.lock")))
    }

    /// The lock of an agent's name; `None` if another process has it.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`].
    pub fn lock_agent(&self, name: &str) -> Result<Option<fs::File>, FolderError> {
        lock(&self.0.join("agents").join(format!("{name}.lock")))
    }

    /// What one waypoint has published; `None` if it never did.
    ///
    /// # Errors
    ///
    /// [`FolderError`]: it cannot be read, or is not right.
    pub fn waypoint(&self, name: &str) -> Result<Option<Published>, FolderError> {
        let path = self.waypoint_path(name);
        let Some(published) = read::<Published>(&path)? else { return Ok(None) };
        let wrong = |reason| FolderError::Wrong { path: path.clone(), reason };
        published.ports().map_err(wrong)?;
        match published.waypoint == name {
            true => Ok(Some(published)),
            false => Err(wrong(format!("it names the waypoint `{}`", published.waypoint))),
        }
    }

    /// What each waypoint has published, or why it cannot be told.
    ///
    /// # Errors
    ///
    /// The folder itself cannot be read.
    pub fn waypoints(
        &self,
    ) -> Result<BTreeMap<String, Result<Published, FolderError>>, FolderError> {
        let names = names(&self.waypoints_path())?;
        let read = |name: String| Some((name.clone(), self.waypoint(&name).transpose()?));
        Ok(names.into_iter().filter_map(read).collect())
    }

    /// What every agent has put in force.
    ///
    /// # Errors
    ///
    /// One of them cannot be read: what it has in force is not known.
    pub fn agents(&self) -> Result<Vec<Acknowledgement>, FolderError> {
        let names = names(&self.0.join("agents"))?;
        let read = |name: String| read::<Acknowledgement>(&self.agent_path(&name)).transpose();
        names.into_iter().filter_map(read).collect()
    }

    /// Replaces a waypoint's file.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`]; the old one stays.
    pub fn publish(&self, published: &Published) -> Result<(), FolderError> {
        write(&self.waypoint_path(&published.waypoint), published)
    }

    /// Replaces an agent's file.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`]; the old one stays.
    pub fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), FolderError> {
        write(&self.agent_path(&acknowledgement.agent), acknowledgement)
    }

    /// Forgets an agent: nothing is mapped by it any longer.
    ///
    /// # Errors
    ///
    /// [`FolderError::Io`].
    pub fn forget_agent(&self, name: &str) -> Result<(), FolderError> {
        let path = self.agent_path(name);
        for path in [path.with_extension("lock"), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FolderError::Io { path, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn lock(path: &Path) -> Result<Option<fs::File>, FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let file = fs::File::options().create(true).append(true).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

/// Names of the files in one half of the folder; others than ours are passed over.
fn names(folder: &Path) -> Result<Vec<String>, FolderError> {
    let failed = |source| FolderError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
        if names.len() > FILES_MAX {
            let what = format!("more than {FILES_MAX} files");
            return Err(FolderError::Bound { path: folder.to_owned(), what });
        }
    }
    names.sort();
    Ok(names)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("more than {FILE_BYTES_MAX} bytes");
        return Err(FolderError::Bound { path: path.to_owned(), what });
    }
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| FolderError::Json { path: path.to_owned(), source })
}

/// Writes aside, syncs, and renames: what a crash leaves is the old file or the new one.
fn write(path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let text = serde_json::to_vec_pretty(value).expect("names and numbers");
    let aside = path.with_extension("tmp");
    let written = || {
        let mut file = fs::File::create(&aside)?;
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    written().map_err(failed)
}
