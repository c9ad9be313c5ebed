//! Compiled modules on disk: written once, checked before they are mapped.
//!
//! Machine code is loaded without being validated again, so whoever can write an artefact can run
//! code in this process. The cache is therefore a directory that only this user can enter, and
//! the file that is mapped is the very file whose digest was checked.
//!
//! ```text
//! <module sha256>-<engine fingerprint>-<artefact sha256>.cwasm
//! ```
#![allow(unsafe_code)] // One block, in `Artefact::map`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use crate::{engine, module::LoadError};

/// The largest module that is compiled, in bytes.
pub const MODULE_BYTES_MAX: usize = 16 << 20;
/// The most bytes that an [`ArtefactCache`] keeps; past it the artefacts used longest ago go.
pub const CACHE_BYTES_MAX: u64 = 512 << 20;

/// A module that could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Past [`MODULE_BYTES_MAX`].
    #[error("the module has {bytes} bytes, more than {MODULE_BYTES_MAX}")]
    TooLarge {
        /// The module's size.
        bytes: usize,
    },
    /// Not WebAssembly, or it uses a feature that guests do not get.
    #[error("the module does not compile: {0}")]
    Invalid(String),
}

/// Compiles a module to an artefact for this machine.
///
/// Costs seconds of CPU and tens of megabytes: run it in a child process, never in one that
/// serves.
///
/// # Errors
///
/// [`CompileError`] for a module that is too large or invalid.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    if MODULE_BYTES_MAX < wasm.len() {
        return Err(CompileError::TooLarge { bytes: wasm.len() });
    }
    let invalid = |error: wasmtime::Error| CompileError::Invalid(format!("{error:#}"));
    let compiler = wasmtime::Engine::new(&engine::config()).map_err(invalid)?;
    compiler.precompile_module(wasm).map_err(invalid)
}

/// A cache of artefacts that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("the artefact cache {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others could write or read here, so nothing in it can be trusted.
    #[error("the artefact cache {path} is not ours alone: {reason}")]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The engine could not be made, so its fingerprint is unknown.
    #[error("the engine has no fingerprint: {0}")]
    Engine(String),
}

/// A directory of artefacts, mode 0700 and owned by this user.
#[derive(Debug)]
pub struct ArtefactCache {
    directory: PathBuf,
    fingerprint: String,
}

/// A compiled module whose digest was checked; its file is open, so it cannot be exchanged.
#[derive(Debug)]
pub struct Artefact {
    file: File,
    path: PathBuf,
}

// === impl Artefact ===

impl Artefact {
    pub(crate) fn map(&self, engine: &wasmtime::Engine) -> Result<wasmtime::Module, LoadError> {
        let file = self.file.try_clone().map_err(|error| LoadError::Artefact(error.to_string()))?;
        // SAFETY: the file was written by `ArtefactCache::store` from `compile`'s output into a
        // directory that only this user may enter, its digest was checked through this very
        // descriptor, and the cache replaces files by rename, so the mapped one never changes.
        let module = unsafe { wasmtime::Module::deserialize_open_file(engine, file) };
        module.map_err(|error| LoadError::Artefact(format!("{error:#}")))
    }

    /// Where the artefact lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

// === impl ArtefactCache ===

impl ArtefactCache {
    /// Opens a cache; makes the directory if there is none.
    ///
    /// # Errors
    ///
    /// When the directory is not ours alone (owner, mode 0700, no symbolic link), or cannot be
    /// made.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, CacheError> {
        let directory = directory.as_ref().to_path_buf();
        let failed = |source| CacheError::Io { path: directory.clone(), source };
        match DirBuilder::new().recursive(true).mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
        let meta = fs::symlink_metadata(&directory).map_err(failed)?;
        let reason = if !meta.is_dir() {
            Some("it is not a directory")
        } else if meta.uid() != rustix::process::geteuid().as_raw() {
            Some("another user owns it")
        } else if meta.mode() & 0o077 != 0 {
            Some("its mode must be 0700")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(CacheError::NotPrivate { path: directory, reason });
        }
        Ok(Self { directory, fingerprint: fingerprint()? })
    }

    /// The artefact of the module with this SHA-256, if it is here and whole.
    ///
    /// A file whose digest is wrong is removed and not found.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn find(&self, wasm: &[u8; 32]) -> Result<Option<Artefact>, CacheError> {
        let prefix = self.prefix(wasm);
        for (path, _) in self.entries()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(digest) = name.strip_prefix(&prefix).and_then(|n| n.strip_suffix(".cwasm"))
            else {
                continue;
            };
            match open_checked(&path, digest) {
                Ok(Some(file)) => {
                    // So that the artefacts used longest ago are the first to go.
                    let _ = file.set_modified(SystemTime::now());
                    return Ok(Some(Artefact { file, path }));
                }
                Ok(None) => remove(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CacheError::Io { path, source }),
            }
        }
        Ok(None)
    }

    /// Keeps a compiled module, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn store(&self, wasm: &[u8; 32], cwasm: &[u8]) -> Result<Artefact, CacheError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let digest = hex(&Sha256::digest(cwasm));
        let path = self.directory.join(format!("{}{digest}.cwasm", self.prefix(wasm)));
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let partial = self.directory.join(format!(".{}-{serial}.partial", std::process::id()));
        let written = write_synced(&partial, cwasm).and_then(|()| fs::rename(&partial, &path));
        if let Err(source) = written {
            let _ = fs::remove_file(&partial);
            return Err(CacheError::Io { path, source });
        }
        self.shrink(&path)?;
        match open_checked(&path, &digest) {
            Ok(Some(file)) => Ok(Artefact { file, path }),
            Ok(None) => Err(CacheError::Io {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, "changed while it was written"),
            }),
            Err(source) => Err(CacheError::Io { path, source }),
        }
    }

    fn prefix(&self, wasm: &[u8; 32]) -> String {
        format!("{}-{}-", hex(wasm), self.fingerprint)
    }

    fn entries(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, CacheError> {
        let failed = |source| CacheError::Io { path: self.directory.clone(), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(meta) = entry.metadata() {
                entries.push((entry.path(), meta));
            }
        }
        Ok(entries)
    }

    /// Removes the artefacts used longest ago until the rest fits; never `keep`.
    fn shrink(&self, keep: &Path) -> Result<(), CacheError> {
        let mut entries = self.entries()?;
        let mut total: u64 = entries.iter().map(|(_, meta)| meta.len()).sum();
        entries.sort_by_key(|(_, meta)| meta.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        for (path, meta) in entries {
            if total <= CACHE_BYTES_MAX {
                return Ok(());
            }
            if path != keep {
                remove(&path)?;
                total = total.saturating_sub(meta.len());
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Io { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens a file and checks its digest through the descriptor that will be mapped.
fn open_checked(path: &Path, digest: &str) -> io::Result<Option<File>> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
    }
    file.rewind()?;
    Ok((hex(&hasher.finalize()) == digest).then_some(file))
}

/// What tells artefacts of another engine, processor or configuration apart.
fn fingerprint() -> Result<String, CacheError> {
    let engine = wasmtime::Engine::new(&engine::config())
        .map_err(|error| CacheError::Engine(format!("{error:#}")))?;
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
