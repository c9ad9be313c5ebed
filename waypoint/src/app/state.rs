//! What lives as long as the process, made from its settings.

use std::sync::Arc;

use tokio::sync::Semaphore;
use waypoint_abi::{ArtefactCache, EngineOptions};
use waypoint_policies::ports::Ports;

use super::{Settings, StartError};
use crate::access_log::{AccessLog, Records};
use crate::drain::Tasks;
use crate::filter_chain::host::FilterHost;
use crate::identity::TrustedHops;
use crate::journey::Journey;
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::mirror::Mirrors;
use crate::overload::{self, Bounds, Clients, Descriptors};
use crate::redirect::{Mark, Publisher};
use crate::resources::{self, Builder, Generations, Modules, Parts, Sources};
use crate::snapshot::{CalloutTargets, Current};
use crate::upstream::{NameLimits, UpstreamLimits, Upstreams};

/// VMs of the whole process; past it, a filter that wants one more waits or fails by its policy. Each
/// place costs about 60 KiB even while it is empty.
const VMS_MAX: u32 = 128;
/// Largest linear memory that a filter may ask for, in bytes.
const VM_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What lives as long as the process.
pub(super) struct State {
    pub(super) current: Arc<Current>,
    pub(super) targets: Arc<CalloutTargets>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) generations: Arc<Generations>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) modules: Modules,
    pub(super) mark: Mark,
}

impl State {
    pub(super) async fn new(settings: &Settings, tasks: &Tasks) -> Result<Self, StartError> {
        let cache = ArtefactCache::open(&settings.cache_dir)?;
        let options = EngineOptions { vms_max: VMS_MAX, memory_bytes_max: VM_MEMORY_BYTES_MAX };
        let engine = resources::engine(&cache, options).await.map_err(StartError::Engine)?;
        let targets = Arc::new(CalloutTargets::default());
        let host = FilterHost::new(tasks.clone(), Arc::clone(&targets));
        let generations = Arc::new(Generations::new(Arc::new(host)));
        let names = NameLimits { resolver: settings.resolver, ..NameLimits::default() };
        let mark = settings.publication.as_ref();
        let mark = mark.map_or_else(Mark::default, |one| Mark::if_allowed(one.mark));
        let limits = UpstreamLimits { names, mark, ..UpstreamLimits::default() };
        let upstreams = Upstreams::new(limits, tasks.clone());
        let metrics = Metrics::new(Arc::clone(&generations) as _, &upstreams);
        tracing::debug!(cache = %settings.cache_dir.display(), "engine started");
        Ok(Self {
            current: Arc::new(Current::empty()),
            targets,
            upstreams,
            generations,
            metrics,
            modules: Modules::new(engine, cache, mark),
            mark,
        })
    }

    pub(super) fn journey(
        &self,
        settings: &Settings,
        records: Arc<Records>,
        memory: Arc<MemoryBudget>,
        tasks: &Tasks,
    ) -> Journey {
        let trusted = trusted(settings);
        let mirrors = Mirrors::new(tasks.clone(), Arc::clone(&self.metrics));
        Journey::new(Arc::clone(&self.current), records, trusted, memory, mirrors)
    }

    /// Who counts clients, and how many connections there may be.
    pub(super) fn clients(&self, settings: &Settings) -> (Arc<Clients>, Arc<Semaphore>) {
        let descriptors = Descriptors::raise();
        let connections = overload::connections_within(descriptors, settings.connections_max);
        tracing::info!(connections, descriptors = ?descriptors.0, "downstream connections at most");
        let requests = settings.requests_max;
        let bounds = Bounds {
            connections_per_address: settings.address_connections_max.unwrap_or(connections),
            // One client never takes all.
            requests_per_client: settings.client_requests_max.unwrap_or(requests.div_ceil(2)),
            requests,
        };
        let refused = self.metrics.over_bounds.clone();
        let clients = Clients::new(bounds, trusted(settings), refused);
        (clients, Arc::new(Semaphore::new(connections as usize)))
    }

    pub(super) fn access_log(&self, settings: &Settings) -> Result<Option<AccessLog>, StartError> {
        let start = |_| AccessLog::start(std::io::stdout(), self.metrics.log_shed.clone());
        settings.access_log.map(start).transpose().map_err(StartError::Setup)
    }

    pub(super) fn builder(
        self,
        settings: &Settings,
        publisher: Option<Arc<Publisher>>,
        ports: Ports,
    ) -> Builder {
        Builder::new(Parts {
            sources: Sources(settings.files.clone()),
            modules: self.modules,
            generations: self.generations,
            upstreams: self.upstreams,
            targets: self.targets,
            current: self.current,
            place: settings.place.clone(),
            publisher,
            ports,
        })
    }
}

fn trusted(settings: &Settings) -> Arc<TrustedHops> {
    Arc::new(TrustedHops(settings.trusted_hops.clone()))
}
