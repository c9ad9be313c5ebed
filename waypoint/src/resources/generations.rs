//! Generations of filters: running state that outlives snapshots.
//!
//! A filter whose module, configuration and bounds are unchanged keeps its VMs; one that changed
//! gets a new generation, started and ready before the swap. Old generations end with their
//! streams; at most [`LIVE_MAX`] live, and the oldest is closed when one more comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use waypoint_abi::{FilterSpec, Generation, Host, Limits, Module, Shared, StartError, Stats};
use waypoint_policies::{Bodies, Filter, FilterKey, FilterLimits, Isolation};

use super::heard::Heard;
use super::modules::ModuleDigest;
use crate::filter_chain::{ActiveFilter, Running, add_counts};
use crate::metrics::{FilterSample, FilterSource};

/// Generations of one filter that may live at a time; past it the oldest one's streams are closed.
pub(super) const LIVE_MAX: usize = 8;
/// How long a swap waits for a filter that says it is not ready yet.
pub(super) const READY_MAX: Duration = Duration::from_secs(10);

/// Why a filter was not started.
#[derive(Debug, Error)]
pub enum FilterStartError {
    /// The guest refused, trapped or ran over a bound.
    #[error(transparent)]
    Start(StartError),
    /// The same, and the guest logged an error before.
    #[error("{start}; the filter says: {words}")]
    Told { start: StartError, words: String },
    /// It did not become ready in time.
    #[error("the filter was not ready within {} s", READY_MAX.as_secs())]
    NotReady,
}

/// Every filter that runs.
pub struct Generations {
    host: Arc<dyn Host>,
    lines: Mutex<BTreeMap<FilterKey, Line>>,
}

/// The generations of one filter.
struct Line {
    /// Shared data and guest metrics outlive a generation.
    shared: Arc<Shared>,
    identity: [u8; 32],
    module: ModuleDigest,
    newest: Arc<Running>,
    next: u64,
    live: VecDeque<Weak<Running>>,
    past: Arc<Mutex<Stats>>,
}

impl Generations {
    /// `host` serves the guests of every filter.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, lines: Mutex::default() }
    }

    /// The running generation that `filter` wants, started and ready if it is a new one.
    ///
    /// A first generation that is not ready in time is used all the same: it decides itself what
    /// its requests get (jwt-auth without keys refuses them). A later one is not: the last good
    /// one goes on.
    ///
    /// # Errors
    ///
    /// [`FilterStartError`]; what ran before goes on running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a generation that was starting ends.
    pub async fn ensure(
        &self,
        filter: &Arc<Filter>,
        module: Module,
        digest: ModuleDigest,
    ) -> Result<Arc<ActiveFilter>, FilterStartError> {
        let identity = identity(filter, &digest);
        let (shared, former) = {
            let lines = self.lines.lock();
            let line = lines.get(&filter.key);
            if let Some(line) = line.filter(|line| line.identity == identity) {
                return Ok(active(filter, Arc::clone(&line.newest)));
            }
            let shared = line.map(|line| Arc::clone(&line.shared));
            (shared, line.is_some())
        };
        let spec = spec(filter);
        let shared = shared.unwrap_or_else(|| Arc::new(Shared::new(&spec.limits)));
        let heard = Arc::new(Heard::new(Arc::clone(&self.host)));
        let host: Arc<dyn Host> = heard.clone();
        let started = Generation::start(module, spec, Arc::clone(&shared), host).await;
        let words = heard.take();
        let generation = started.map_err(|start| match words {
            Some(words) => FilterStartError::Told { start, words },
            None => FilterStartError::Start(start),
        })?;
        if timeout(READY_MAX, generation.ready()).await.is_err() && former {
            generation.close();
            return Err(FilterStartError::NotReady);
        }
        Ok(active(filter, self.admit(filter, identity, digest, shared, generation)))
    }

    fn admit(
        &self,
        filter: &Filter,
        identity: [u8; 32],
        module: ModuleDigest,
        shared: Arc<Shared>,
        generation: Arc<Generation>,
    ) -> Arc<Running> {
        let mut lines = self.lines.lock();
        let (next, mut live, past) = match lines.remove(&filter.key) {
            Some(line) => (line.next, line.live, line.past),
            None => (1, VecDeque::new(), Arc::default()),
        };
        let newest = Arc::new(Running {
            generation,
            number: next,
            retired: CancellationToken::new(),
            past: Arc::clone(&past),
        });
        live.retain(|running| running.strong_count() > 0);
        live.push_back(Arc::downgrade(&newest));
        while live.len() > LIVE_MAX {
            if let Some(oldest) = live.pop_front().and_then(|running| running.upgrade()) {
                oldest.retired.cancel();
            }
        }
        let running = Arc::clone(&newest);
        let line = Line { shared, identity, module, newest, next: next + 1, live, past };
        lines.insert(filter.key.clone(), line);
        running
    }

    /// The last good generation of a filter whose new version was refused, as it was applied.
    pub fn last_good(&self, filter: &Arc<Filter>) -> Option<Arc<ActiveFilter>> {
        let running = Arc::clone(&self.lines.lock().get(&filter.key)?.newest);
        Some(active(filter, running))
    }

    /// Forgets filters that are no longer wanted; their streams end by themselves.
    pub fn retain(&self, wanted: impl Fn(&FilterKey) -> bool) {
        self.lines.lock().retain(|key, _| wanted(key));
    }

    /// Ends every filter: no new streams, VMs end with those that run.
    pub fn close(&self) {
        for line in std::mem::take(&mut *self.lines.lock()).into_values() {
            line.newest.generation.close();
        }
    }

    /// Whether a filter runs this module.
    pub fn uses(&self, module: &ModuleDigest) -> bool {
        self.lines.lock().values().any(|line| line.module == *module)
    }
}

impl FilterSource for Generations {
    fn samples(&self) -> Vec<FilterSample> {
        self.lines.lock().iter().map(|(key, line)| line.sample(key)).collect()
    }
}

impl Line {
    fn sample(&self, key: &FilterKey) -> FilterSample {
        let mut stats = self.past.lock().clone();
        let mut live_generations = 0;
        for running in self.live.iter().filter_map(Weak::upgrade) {
            let more = running.generation.stats();
            add_counts(&mut stats, &more);
            stats.vms += more.vms;
            stats.memory_bytes += more.memory_bytes;
            stats.streams += more.streams;
            live_generations += 1;
        }
        FilterSample {
            name: key.to_string(),
            generation: self.newest.number,
            live_generations,
            stats,
            guest: self.shared.metrics(),
        }
    }
}

fn active(filter: &Arc<Filter>, running: Arc<Running>) -> Arc<ActiveFilter> {
    Arc::new(ActiveFilter { config: Arc::clone(filter), running })
}

/// What decides whether VMs can be kept: everything that a VM is started with.
fn identity(filter: &Filter, module: &ModuleDigest) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(module);
    // The debug form of these fields is total: two that differ print differently.
    digest.update(format!(
        "{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
        filter.root_id,
        filter.config,
        environment(filter),
        filter.limits,
        filter.capabilities,
        filter.isolation,
        filter.bodies,
    ));
    digest.finalize().into()
}

fn spec(filter: &Filter) -> FilterSpec {
    FilterSpec {
        name: filter.key.to_string(),
        owner: filter.key.namespace.clone(),
        root_id: filter.root_id.clone(),
        configuration: filter.config.clone().unwrap_or_default().map(Bytes::from),
        vm_configuration: None,
        environment: environment(filter),
        bodies: match filter.bodies {
            Bodies::AfterHeaders => waypoint_abi::Bodies::AfterHeaders,
            Bodies::BeforeHeaders => waypoint_abi::Bodies::BeforeHeaders,
        },
        isolation: match filter.isolation {
            Isolation::Shared => waypoint_abi::Isolation::Shared,
            Isolation::PerRequest => waypoint_abi::Isolation::PerRequest,
        },
        capabilities: filter.capabilities.clone().map(|names| names.into_iter().collect()),
        limits: limits(&filter.limits),
    }
}

/// The VM's environment; what it takes from ours is checked by [`crate::resources`] before.
fn environment(filter: &Filter) -> Vec<(String, String)> {
    let ours = filter.host_environment.iter().filter(|name| is_offered(name));
    let ours = ours.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    filter.environment.iter().cloned().chain(ours).collect()
}

/// Whether a variable of the proxy's own environment may be read by filters. Fails closed: only
/// those that an operator named for them.
pub(super) fn is_offered(name: &str) -> bool {
    name.starts_with("WAYPOINT_FILTER_")
}

/// The operator's bounds over the defaults.
fn limits(wanted: &FilterLimits) -> Limits {
    let default = Limits::default();
    let bytes = |value: Option<u64>, default: usize| {
        value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
    };
    Limits {
        memory_bytes: bytes(wanted.memory_bytes, default.memory_bytes),
        callback_cpu: wanted.deadline.unwrap_or(default.callback_cpu),
        stream_cpu_per_second: wanted.deadline.map_or(default.stream_cpu_per_second, |deadline| {
            default.stream_cpu_per_second.max(deadline * 2)
        }),
        buffered_body_bytes: bytes(wanted.buffered_body_bytes, default.buffered_body_bytes),
        streams_per_vm: wanted.streams_per_vm.unwrap_or(default.streams_per_vm),
        cpu_share: wanted.cpu_share.unwrap_or(default.cpu_share),
        callouts_per_stream: wanted.callouts_per_stream.unwrap_or(default.callouts_per_stream),
        ..default
    }
}
