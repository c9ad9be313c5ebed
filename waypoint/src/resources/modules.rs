//! Modules: found, checked against their digest, compiled in a child, mapped from the cache.

use std::collections::HashMap;
use std::path::Path;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use waypoint_abi::{
    Artefact, ArtefactCache, CacheError, Engine, EngineError, EngineOptions, LoadError,
    MODULE_BYTES_MAX, Module, SHIM,
};
use waypoint_policies::ModuleSource;

use super::fetch::{FetchError, Fetcher};
use crate::compile::{self, ChildError};
use crate::redirect::Mark;

/// The SHA-256 of a module's bytes.
pub(super) type ModuleDigest = [u8; 32];

/// Why a module cannot be used.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// No bundled filter has this name.
    #[error("there is no built-in module {name:?}; there are: {}", waypoint_filters::NAMES.join(", "))]
    UnknownBuiltin { name: String },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    /// The file is too large.
    #[error("{path} is larger than {MODULE_BYTES_MAX} bytes")]
    TooLarge { path: String },
    /// The module could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The bytes are not those that the resource names.
    #[error("the module's sha256 is {found}, not {wanted}")]
    DigestMismatch { wanted: String, found: String },
    /// It does not compile.
    #[error("the module does not compile: {0}")]
    Compile(#[from] ChildError),
    /// The cache of compiled modules cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It is not a proxy-wasm module that this host can run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine that modules run on could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Compilations at a time; past it, they wait.
const COMPILERS_MAX: usize = 2;

/// Where modules come from.
pub struct Modules {
    engine: Engine,
    cache: ArtefactCache,
    fetcher: Fetcher,
    loaded: Mutex<HashMap<ModuleDigest, Module>>,
    compilers: Semaphore,
}

impl Modules {
    /// Compiled modules are kept in `cache` and run on `engine`.
    pub fn new(engine: Engine, cache: ArtefactCache, mark: Mark) -> Self {
        let (fetcher, loaded) = (Fetcher::new(mark), Mutex::default());
        Self { engine, cache, fetcher, loaded, compilers: Semaphore::new(COMPILERS_MAX) }
    }

    /// Finds, checks and, where the cache lacks it, compiles a module.
    ///
    /// # Errors
    ///
    /// [`ModuleError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a compilation that was under way is ended.
    pub async fn load(
        &self,
        source: &ModuleSource,
        sha256: Option<&str>,
    ) -> Result<(Module, ModuleDigest), ModuleError> {
        let bytes = self.bytes(source, sha256).await?;
        // The digest is of the very bytes that are compiled.
        let digest: ModuleDigest = Sha256::digest(&bytes).into();
        let found = hex(&digest);
        if let Some(wanted) = sha256.filter(|wanted| *wanted != found) {
            return Err(ModuleError::DigestMismatch { wanted: wanted.to_owned(), found });
        }
        if let Some(module) = self.loaded.lock().get(&digest) {
            return Ok((module.clone(), digest));
        }
        let artefact = match self.cache.find(&digest)? {
            Some(artefact) => artefact,
            None => {
                let _slot = self.compilers.acquire().await.expect("the semaphore is never closed");
                // Another filter with the same module may have been first.
                compiled(&self.cache, &digest, &bytes).await?
            }
        };
        let module = self.engine.load(&artefact)?;
        self.loaded.lock().insert(digest, module.clone());
        Ok((module, digest))
    }

    /// Forgets modules that no filter uses any more.
    pub fn retain(&self, used: impl Fn(&ModuleDigest) -> bool) {
        self.loaded.lock().retain(|digest, _| used(digest));
    }

    async fn bytes(
        &self,
        source: &ModuleSource,
        sha256: Option<&str>,
    ) -> Result<Vec<u8>, ModuleError> {
        match source {
            ModuleSource::Builtin(name) => waypoint_filters::module(name)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| ModuleError::UnknownBuiltin { name: name.clone() }),
            ModuleSource::File(path) => read(Path::new(path)).await,
            ModuleSource::Http(url) => Ok(self.fetcher.fetch(url, sha256).await?),
        }
    }
}

/// The engine that runs guests; its shim is compiled in a child where the cache lacks it.
///
/// # Errors
///
/// [`ModuleError`].
///
/// # Cancel safety
///
/// Cancel safe: a compilation that was under way is ended.
pub async fn engine(cache: &ArtefactCache, options: EngineOptions) -> Result<Engine, ModuleError> {
    let shim = compiled(cache, &Sha256::digest(SHIM).into(), SHIM).await?;
    Ok(Engine::new(options, &shim)?)
}

/// A module's artefact: from the cache, or from a child.
async fn compiled(
    cache: &ArtefactCache,
    digest: &ModuleDigest,
    wasm: &[u8],
) -> Result<Artefact, ModuleError> {
    match cache.find(digest)? {
        Some(artefact) => Ok(artefact),
        None => Ok(cache.store(digest, &compile::in_child(wasm).await?)?),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let name = || path.display().to_string();
    let failed = |source| ModuleError::File { path: name(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() > MODULE_BYTES_MAX {
        return Err(ModuleError::TooLarge { path: name() });
    }
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
