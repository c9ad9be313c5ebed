//! An embedder for tests: it keeps what it is told, and answers callouts as a test says.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use waypoint_abi::{
    Artefact, ArtefactCache, Attributes, Bodies, BoxFuture, CallRefused, Direction, Engine,
    EngineOptions, Fault, FilterSpec, Generation, Headers, Host, HttpCall, HttpCallAnswer,
    Isolation, Limits, LoadError, LogLevel, Module, Outcome, SHIM, Shared, StartError, Status,
    Stream, compile,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One engine for all tests of the binary, as in a process that serves.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = EngineOptions { vms_max: 128, memory_bytes_max: 64 << 20 };
    Engine::new(options, &artefact(SHIM)).expect("an engine")
});

static CACHE: LazyLock<(tempfile::TempDir, ArtefactCache)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = ArtefactCache::open(directory.path().join("cache")).expect("a cache");
    (directory, cache)
});

fn artefact(wasm: &[u8]) -> Artefact {
    let digest: [u8; 32] = Sha256::digest(wasm).into();
    let cache = &CACHE.1;
    match cache.find(&digest).expect("a readable cache") {
        Some(artefact) => artefact,
        None => cache.store(&digest, &compile(wasm).expect("valid wasm")).expect("stored"),
    }
}

pub(crate) fn load(wasm: &[u8]) -> Result<Module, LoadError> {
    ENGINE.load(&artefact(wasm))
}

pub(crate) fn load_wat(text: &str) -> Result<Module, LoadError> {
    load(&wat::parse_str(text).expect("valid wat"))
}

/// A module with what every filter has: marker, memory, an allocator that never frees.
pub(crate) fn filter_wat(imports: &str, body: &str) -> String {
    format!(
        r#"(module
            {imports}
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $next))
                (global.set $next (i32.add (global.get $next) (local.get $size)))
                (local.get $at))
            {body})"#
    )
}

pub(crate) fn filter(imports: &str, body: &str) -> Module {
    load_wat(&filter_wat(imports, body)).expect("a filter")
}

pub(crate) fn spec() -> FilterSpec {
    FilterSpec {
        name: "tests/filter".to_owned(),
        owner: "tests".to_owned(),
        root_id: String::new(),
        configuration: None,
        vm_configuration: None,
        environment: Vec::new(),
        bodies: Bodies::AfterHeaders,
        isolation: Isolation::Shared,
        capabilities: None,
        limits: Limits { cpu_share: 100.0, ..Limits::default() },
    }
}

pub(crate) fn configured(configuration: &str) -> FilterSpec {
    FilterSpec { configuration: Some(Bytes::copy_from_slice(configuration.as_bytes())), ..spec() }
}

type Upstream = dyn Fn(HttpCall) -> Result<BoxFuture<HttpCallAnswer>, CallRefused> + Send + Sync;

/// The embedder.
pub(crate) struct TestHost {
    lines: Mutex<Vec<(LogLevel, String)>>,
    logged: Notify,
    upstream: Box<Upstream>,
}

impl TestHost {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_upstream(|call| {
            Err(CallRefused { reason: format!("unknown upstream {:?}", call.upstream) })
        })
    }

    pub(crate) fn with_upstream(
        upstream: impl Fn(HttpCall) -> Result<BoxFuture<HttpCallAnswer>, CallRefused>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            lines: Mutex::default(),
            logged: Notify::new(),
            upstream: Box::new(upstream),
        })
    }

    /// Every line so far, without its level.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn levels(&self) -> Vec<(LogLevel, String)> {
        self.lines.lock().clone()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.lines.lock().iter().filter(|(_, line)| line.contains(part)).count()
    }

    /// Waits until a line with `part` was logged `times` times.
    pub(crate) async fn saw(&self, part: &str, times: usize) {
        let seen = async {
            loop {
                let logged = self.logged.notified();
                let mut logged = std::pin::pin!(logged);
                logged.as_mut().enable();
                if times <= self.count(part) {
                    return;
                }
                logged.await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "no line with {part:?} in {:#?}", self.lines());
    }
}

impl Host for TestHost {
    fn spawn(&self, task: BoxFuture<()>) {
        // The embedder's door; a test that has ended has no runtime any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task);
        }
    }

    fn log(&self, _: &FilterSpec, level: LogLevel, message: &str) {
        self.lines.lock().push((level, message.to_owned()));
        self.logged.notify_waiters();
    }

    fn log_level(&self) -> LogLevel {
        LogLevel::Trace
    }

    fn http_call(
        &self,
        _: &FilterSpec,
        call: HttpCall,
    ) -> Result<BoxFuture<HttpCallAnswer>, CallRefused> {
        (self.upstream)(call)
    }

    fn foreign(
        &self,
        _: &FilterSpec,
        name: &str,
        arguments: &[u8],
    ) -> Option<Result<Vec<u8>, Status>> {
        (name == "reverse").then(|| Ok(arguments.iter().rev().copied().collect()))
    }
}

pub(crate) struct TestAttributes(HashMap<&'static str, &'static [u8]>);

impl Attributes for TestAttributes {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.0.get(path.join(".").as_str()).map(|value| value.to_vec())
    }
}

pub(crate) fn attributes() -> Arc<TestAttributes> {
    Arc::new(TestAttributes([("source.address", &b"10.0.0.7:4711"[..])].into()))
}

pub(crate) async fn start(
    module: &Module,
    spec: FilterSpec,
    host: &Arc<TestHost>,
) -> Result<Arc<Generation>, StartError> {
    let shared = Arc::new(Shared::new(&spec.limits));
    start_with(module, spec, host, &shared).await
}

pub(crate) async fn start_with(
    module: &Module,
    spec: FilterSpec,
    host: &Arc<TestHost>,
    shared: &Arc<Shared>,
) -> Result<Arc<Generation>, StartError> {
    let host: Arc<dyn Host> = Arc::<TestHost>::clone(host);
    Generation::start(module.clone(), spec, Arc::clone(shared), host).await
}

pub(crate) async fn started(module: &Module, spec: FilterSpec) -> (Arc<Generation>, Arc<TestHost>) {
    let host = TestHost::new();
    let generation = start(module, spec, &host).await.expect("the filter starts");
    (generation, host)
}

pub(crate) async fn open(generation: &Arc<Generation>) -> Stream {
    generation.open(attributes()).await.expect("a stream")
}

pub(crate) fn request(extra: &[(&'static str, &'static str)]) -> Headers {
    let first = [
        (":method", "GET"),
        (":path", "/a?b=c"),
        (":authority", "example.test"),
        (":scheme", "http"),
    ];
    first.into_iter().chain(extra.iter().copied()).collect()
}

pub(crate) fn response(extra: &[(&'static str, &'static str)]) -> Headers {
    [(":status", "200")].into_iter().chain(extra.iter().copied()).collect()
}

/// A head without a body in the request's direction.
pub(crate) async fn get(stream: &Stream) -> Result<Outcome, Fault> {
    stream.head(Direction::Request, request(&[]), true).await
}

pub(crate) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| std::str::from_utf8(value).expect("text"))
}
