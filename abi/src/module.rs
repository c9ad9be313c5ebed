//! A module that was checked: it is a filter, and this host has all that it wants.

use std::sync::Arc;

use wasmtime::{ExternType, FuncType, ValType};

use crate::{engine::Engine, hostcalls::Imports};

/// The allocators that a guest may export, in the order in which they are looked for.
const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];
/// The linear memory's name.
pub(crate) const MEMORY: &str = "memory";
const MARKER_PREFIX: &str = "proxy_abi_version_";

/// A compiled filter that this host can run.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    compiled: wasmtime::Module,
    version: AbiVersion,
    allocator: &'static str,
    hooks: Hooks,
}

/// The versions of the ABI that this host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbiVersion {
    /// 0.2.0.
    V0_2_0,
    /// 0.2.1.
    V0_2_1,
}

/// Which callbacks of a stream a filter has, its capabilities considered.
///
/// A callback that is absent continues; the guest is not called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `proxy_on_request_headers`
    pub request_headers: bool,
    /// `proxy_on_request_body`
    pub request_body: bool,
    /// `proxy_on_request_trailers`
    pub request_trailers: bool,
    /// `proxy_on_response_headers`
    pub response_headers: bool,
    /// `proxy_on_response_body`
    pub response_body: bool,
    /// `proxy_on_response_trailers`
    pub response_trailers: bool,
    /// `proxy_on_log`
    pub log: bool,
}

impl Hooks {
    pub(crate) fn restricted(self, may_call: impl Fn(&str) -> bool) -> Self {
        Self {
            request_headers: self.request_headers && may_call("proxy_on_request_headers"),
            request_body: self.request_body && may_call("proxy_on_request_body"),
            request_trailers: self.request_trailers && may_call("proxy_on_request_trailers"),
            response_headers: self.response_headers && may_call("proxy_on_response_headers"),
            response_body: self.response_body && may_call("proxy_on_response_body"),
            response_trailers: self.response_trailers && may_call("proxy_on_response_trailers"),
            log: self.log && may_call("proxy_on_log"),
        }
    }
}

/// A callback or import whose type is not the ABI's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSignature {
    /// The function.
    pub name: String,
    /// The ABI's type.
    pub expected: String,
    /// The module's.
    pub found: String,
}

impl std::fmt::Display for BadSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, not {}", self.name, self.found, self.expected)
    }
}

/// A module that is not a filter that this host can run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The compiled file cannot be mapped, or the module asks for more than a slot of the pool.
    #[error("the artefact cannot be loaded: {0}")]
    Artefact(String),
    /// No export tells the ABI version.
    #[error("the module exports no proxy_abi_version_*: it is not a proxy-wasm filter")]
    NoMarker,
    /// A version of the ABI that this host does not speak.
    #[error("the module is built for proxy-wasm {version}; this host speaks 0.2.0 and 0.2.1")]
    AbiVersion {
        /// The module's version.
        version: String,
    },
    /// Imports that this host does not have.
    #[error("the module imports what this host does not have: {}", .0.join(", "))]
    MissingImports(Vec<String>),
    /// Imports whose type is not the ABI's.
    #[error("the module's imports have wrong types: {}", join(.0))]
    ImportSignatures(Vec<BadSignature>),
    /// Callbacks whose type is not the ABI's.
    #[error("the module's callbacks have wrong types: {}", join(.0))]
    CallbackSignatures(Vec<BadSignature>),
    /// No linear memory under the name `memory`.
    #[error("the module exports no memory named \"memory\"")]
    NoMemory,
    /// Nothing to allocate with.
    #[error("the module exports no allocator: neither malloc nor proxy_on_memory_allocate")]
    NoAllocator,
}

fn join(bad: &[BadSignature]) -> String {
    bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Module {
    pub(crate) fn check(
        engine: &Engine,
        compiled: wasmtime::Module,
        imports: &Imports,
    ) -> Result<Self, LoadError> {
        let version = version(&compiled)?;
        check_imports(&compiled, imports)?;
        check_callbacks(&compiled)?;
        if !matches!(compiled.get_export(MEMORY), Some(ExternType::Memory(_))) {
            return Err(LoadError::NoMemory);
        }
        let allocator = allocator(&compiled)?;
        let hooks = hooks(&compiled);
        let inner = Inner { engine: engine.clone(), compiled, version, allocator, hooks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The version of the ABI that the module is built for.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        self.inner.version
    }

    /// Which callbacks of a stream the module exports.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.inner.hooks
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn compiled(&self) -> &wasmtime::Module {
        &self.inner.compiled
    }

    pub(crate) fn allocator(&self) -> &'static str {
        self.inner.allocator
    }
}

/// The first marker that is known decides; any other is named in the refusal.
fn version(module: &wasmtime::Module) -> Result<AbiVersion, LoadError> {
    let mut other = None;
    for export in module.exports() {
        let Some(version) = export.name().strip_prefix(MARKER_PREFIX) else { continue };
        match version {
            "0_2_1" => return Ok(AbiVersion::V0_2_1),
            "0_2_0" => return Ok(AbiVersion::V0_2_0),
            _ => other = other.or_else(|| Some(version.replace('_', "."))),
        }
    }
    Err(other.map_or(LoadError::NoMarker, |version| LoadError::AbiVersion { version }))
}

fn check_imports(module: &wasmtime::Module, imports: &Imports) -> Result<(), LoadError> {
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for import in module.imports() {
        let name = format!("{}.{}", import.module(), import.name());
        let expected = imports.types.get(&(import.module().to_owned(), import.name().to_owned()));
        match (expected, import.ty()) {
            (Some(expected), ExternType::Func(found)) if FuncType::eq(expected, &found) => {}
            (Some(expected), found) => wrong.push(BadSignature {
                name,
                expected: describe(&ExternType::Func(expected.clone())),
                found: describe(&found),
            }),
            (None, _) => missing.push(name),
        }
    }
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        return Err(LoadError::MissingImports(missing));
    }
    if wrong.is_empty() { Ok(()) } else { Err(LoadError::ImportSignatures(wrong)) }
}

/// The callbacks' types: how many `i32` they take, and whether they answer one.
const CALLBACKS: &[(&str, usize, bool)] = &[
    ("proxy_on_memory_allocate", 1, true),
    ("malloc", 1, true),
    ("_initialize", 0, false),
    ("_start", 0, false),
    ("main", 2, true),
    ("__main_void", 0, true),
    ("proxy_on_context_create", 2, false),
    ("proxy_on_vm_start", 2, true),
    ("proxy_on_configure", 2, true),
    ("proxy_on_done", 1, true),
    ("proxy_on_log", 1, false),
    ("proxy_on_delete", 1, false),
    ("proxy_on_tick", 1, false),
    ("proxy_on_queue_ready", 2, false),
    ("proxy_on_new_connection", 1, true),
    ("proxy_on_downstream_data", 3, true),
    ("proxy_on_upstream_data", 3, true),
    ("proxy_on_downstream_connection_close", 2, false),
    ("proxy_on_upstream_connection_close", 2, false),
    ("proxy_on_request_headers", 3, true),
    ("proxy_on_request_body", 3, true),
    ("proxy_on_request_trailers", 2, true),
    ("proxy_on_response_headers", 3, true),
    ("proxy_on_response_body", 3, true),
    ("proxy_on_response_trailers", 2, true),
    ("proxy_on_http_call_response", 5, false),
    ("proxy_on_grpc_receive_initial_metadata", 3, false),
    ("proxy_on_grpc_receive", 3, false),
    ("proxy_on_grpc_receive_trailing_metadata", 3, false),
    ("proxy_on_grpc_close", 3, false),
    ("proxy_on_foreign_function", 3, false),
];

fn check_callbacks(module: &wasmtime::Module) -> Result<(), LoadError> {
    let mut wrong = Vec::new();
    for &(name, params, answers) in CALLBACKS {
        let Some(found) = module.get_export(name) else { continue };
        if !is_i32_func(&found, params, answers) {
            let expected = signature(params, answers);
            wrong.push(BadSignature { name: name.to_owned(), expected, found: describe(&found) });
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(LoadError::CallbackSignatures(wrong)) }
}

fn allocator(module: &wasmtime::Module) -> Result<&'static str, LoadError> {
    let found = ALLOCATORS.iter().find(|name| module.get_export(name).is_some());
    found.copied().ok_or(LoadError::NoAllocator)
}

fn hooks(module: &wasmtime::Module) -> Hooks {
    let has = |name| module.get_export(name).is_some();
    Hooks {
        request_headers: has("proxy_on_request_headers"),
        request_body: has("proxy_on_request_body"),
        request_trailers: has("proxy_on_request_trailers"),
        response_headers: has("proxy_on_response_headers"),
        response_body: has("proxy_on_response_body"),
        response_trailers: has("proxy_on_response_trailers"),
        log: has("proxy_on_log"),
    }
}

fn is_i32_func(ty: &ExternType, params: usize, answers: bool) -> bool {
    let ExternType::Func(func) = ty else { return false };
    func.params().len() == params
        && func.results().len() == usize::from(answers)
        && func.params().chain(func.results()).all(|value| matches!(value, ValType::I32))
}

fn signature(params: usize, answers: bool) -> String {
    let params = vec!["i32"; params].join(", ");
    format!("({params}){}", if answers { " -> i32" } else { "" })
}

fn describe(ty: &ExternType) -> String {
    let ExternType::Func(func) = ty else {
        return match ty {
            ExternType::Memory(_) => "a memory".to_owned(),
            ExternType::Global(_) => "a global".to_owned(),
            ExternType::Table(_) => "a table".to_owned(),
            _ => "not a function".to_owned(),
        };
    };
    let list = |types: Vec<String>| types.join(", ");
    let params = list(func.params().map(|value| value.to_string()).collect());
    let results = list(func.results().map(|value| value.to_string()).collect());
    if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") }
}
