//! One build: from files to the next snapshot, aside from the one that serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::task::{JoinError, spawn_blocking};
use waypoint_policies::ports::Ports;
use waypoint_policies::{
    AppProtocol, Checked, Denied, Endpoint, EndpointHost, Entrance, FailurePolicy, Filter,
    FilterKey, Model, Note, Numbering, Place, Problem, ResourceKey, ServicePort,
};

use super::desired::{Desired, Found};
use super::generations::is_offered;
use super::modules::ModuleDigest;
use super::{Generations, Modules, ReloadResult, Sources};
use crate::identity::ClientTrust;
use crate::listener::TlsTerms;
use crate::redirect::Publisher;
use crate::snapshot::{
    CalloutTargets, CertificateStore, Current, FilterSlot, ServedEntrance, ServedService, Services,
    Snapshot, SnapshotCertificates,
};
use crate::upstream::{Protocol, Security, Target, Upstreams};

/// What a build came to.
pub struct Built {
    /// The next snapshot; `None` when nothing changed.
    pub snapshot: Option<Arc<Snapshot>>,
    /// In one word.
    pub result: ReloadResult,
    /// What is refused, and what deserves a look.
    pub problems: Vec<Problem>,
    /// What was skipped.
    pub notes: Vec<Note>,
}

/// Where the parts of a snapshot come from.
pub struct Parts {
    /// The files.
    pub sources: Sources,
    /// The modules.
    pub modules: Modules,
    /// The filters that run.
    pub generations: Arc<Generations>,
    /// The endpoints that are used.
    pub upstreams: Arc<Upstreams>,
    /// What guests may call.
    pub targets: Arc<CalloutTargets>,
    /// What requests see.
    pub current: Arc<Current>,
    /// Where we run.
    pub place: Place,
    /// Who tells the agents.
    pub publisher: Option<Arc<Publisher>>,
    /// Service ports that are known already.
    pub ports: Ports,
}

/// Builds snapshots, and remembers what the last one was built from.
pub struct Builder {
    parts: Parts,
    desired: Desired,
    ports: Ports,
    /// Numbers of service ports that something else holds.
    taken: BTreeSet<u16>,
    /// Digest of the files and modules of the last build that had no problems.
    clean: Option<[u8; 32]>,
}

impl Builder {
    /// Nothing has been built yet.
    pub fn new(parts: Parts) -> Self {
        let desired = Desired::new(parts.sources.clone());
        let (ports, taken) = (parts.ports.clone(), BTreeSet::new());
        Self { parts, desired, ports, taken, clean: None }
    }

    /// The number of the snapshot in force.
    pub fn snapshot_number(&self) -> u64 {
        self.parts.current.load().number
    }

    /// Makes a snapshot the one that new requests see, and lets go of what nothing wants any more.
    pub fn swap(&self, next: &Arc<Snapshot>) {
        self.parts.current.swap(Arc::clone(next));
        self.parts.generations.retain(|key| next.filters.contains_key(key));
        self.parts.modules.retain(|module| self.parts.generations.uses(module));
    }

    /// Something else listens on these numbers: the next build gives others.
    pub fn give_up(&mut self, numbers: &BTreeSet<u16>) {
        self.taken.extend(numbers);
    }

    /// The next build swaps even if no file changes: something outside the files was wrong.
    pub fn retry(&mut self) {
        self.clean = None;
    }

    /// Builds the next snapshot.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped build may have started generations that the next one reuses.
    pub async fn build(&mut self) -> Built {
        let found = match self.check().await {
            Ok(found) => found,
            Err(error) => return unreadable(&error),
        };
        let Found { checked, mut problems, notes, digest: files } = found;
        let next = self.parts.current.load().number + 1;
        let Checked { model, denied, ports, .. } = checked;
        let renumbered = self.ports != ports;
        self.ports = ports;
        let services = Arc::new(self.services(&model, &mut problems));
        // Before the filters start: one may need a callout to become ready.
        self.parts.targets.set(Arc::clone(&services));
        let mut digest = Sha256::new();
        digest.update(files);
        let filters = self.filters(&model, &mut digest, &mut problems).await;
        let digest: [u8; 32] = digest.finalize().into();
        let refused = problems.iter().any(Problem::is_error);
        if !refused && !renumbered && self.clean == Some(digest) {
            return Built { snapshot: None, result: ReloadResult::Unchanged, problems, notes };
        }
        let entrances = self.entrances(&model, &filters, &denied, &mut problems);
        let by = |denied: &Denied| denied.key.to_string();
        let routes =
            denied.iter().flat_map(|one| one.routes.iter().map(move |key| (key.clone(), by(one))));
        let denied_routes = routes.collect();
        let ports = denied
            .iter()
            .flat_map(|one| one.services.iter().map(move |key| (key.clone(), by(one))));
        let denied_services = ports.collect();
        let refused = problems.iter().any(Problem::is_error);
        self.clean = (!refused).then_some(digest);
        let snapshot = Snapshot {
            number: next,
            model,
            ports: self.ports.clone(),
            entrances,
            services,
            filters,
            denied_routes,
            denied_services,
        };
        let result = if refused { ReloadResult::Refused } else { ReloadResult::Applied };
        Built { snapshot: Some(Arc::new(snapshot)), result, problems, notes }
    }

    /// Reads and checks the files, aside from the runtime's threads.
    async fn check(&mut self) -> Result<Found, JoinError> {
        let (mut desired, ports) = (self.desired.clone(), self.ports.clone());
        let (publisher, taken) = (self.parts.publisher.clone(), self.taken.clone());
        let read = spawn_blocking(move || {
            let numbering = match publisher {
                Some(publisher) => publisher.numbering(ports, taken),
                // Nobody maps a number of ours.
                None => Numbering { ports, acknowledged: u64::MAX, now: 0, taken },
            };
            let found = desired.read(&numbering);
            (desired, found)
        });
        let (desired, found) = read.await?;
        self.desired = desired;
        Ok(found)
    }

    fn services(&self, model: &Model, problems: &mut Vec<Problem>) -> Services {
        let mut served = |service: &Arc<ServicePort>| {
            let protocol = match service.protocol {
                AppProtocol::Http1 | AppProtocol::Undeclared => Protocol::Http1,
                AppProtocol::H2c | AppProtocol::Grpc => Protocol::Http2,
            };
            let name: Arc<str> = service.key.to_string().into();
            let security = self.security(service, protocol, problems);
            let groups = service.groups(&self.parts.place);
            let groups: Vec<Vec<Target>> =
                groups.into_iter().map(|group| group.into_iter().map(target).collect()).collect();
            let cluster = self.parts.upstreams.named_cluster(name, protocol, security, &groups);
            let key = Arc::new(service.key.clone());
            Arc::new(ServedService { key, model: Arc::clone(service), cluster })
        };
        model.services.iter().map(|(key, service)| (key.clone(), served(service))).collect()
    }

    /// How a service is spoken to. TLS that is demanded and cannot be had is told, and nothing is
    /// sent.
    fn security(
        &self,
        service: &ServicePort,
        protocol: Protocol,
        problems: &mut Vec<Problem>,
    ) -> Security {
        let settings = match &service.tls {
            None => return Security::Plain,
            Some(Err(reason)) => return Security::Refused(reason.as_str().into()),
            Some(Ok(settings)) => settings,
        };
        match self.parts.upstreams.tls(settings, protocol) {
            Ok(tls) => Security::Tls(tls),
            Err(error) => {
                let (message, at) = (error.to_string(), "spec/validation");
                let problem = self.desired.resources().problem(
                    "upstream-tls",
                    &settings.policy,
                    at,
                    &message,
                );
                // Once, however many ports it covers.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
                Security::Refused(message.into())
            }
        }
    }

    /// Starts what is new; what fails keeps its last good generation, or is denied.
    async fn filters(
        &self,
        model: &Model,
        digest: &mut Sha256,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<FilterKey, FilterSlot> {
        let mut slots = BTreeMap::new();
        // Together: a first start compiles every module.
        let started = join_all(model.filters.values().map(|filter| self.start(filter))).await;
        for ((key, filter), started) in model.filters.iter().zip(started) {
            let slot = match started {
                Ok((slot, module)) => {
                    digest.update(module);
                    slot
                }
                Err(message) => {
                    problems.push(self.problem(filter, message));
                    let last_good = self.parts.generations.last_good(filter);
                    let open = filter.failure_policy == FailurePolicy::Open;
                    last_good
                        .map_or(FilterSlot::Denied { key: key.clone(), open }, FilterSlot::Active)
                }
            };
            slots.insert(key.clone(), slot);
        }
        slots
    }

    /// Starts one filter, unless it runs; gives its module's digest too.
    async fn start(&self, filter: &Arc<Filter>) -> Result<(FilterSlot, ModuleDigest), String> {
        if let Err(fault) = &filter.config {
            return Err(format!("the configuration is missing: {fault}"));
        }
        if let Some(name) = filter.host_environment.iter().find(|name| !is_offered(name)) {
            return Err(format!(
                "vmConfig.env {name}: of the proxy's own environment, filters may read only \
                 variables that begin with WAYPOINT_FILTER_"
            ));
        }
        let loaded = self.parts.modules.load(&filter.module, filter.sha256.as_deref()).await;
        let (module, found) = loaded.map_err(|error| error.to_string())?;
        let ensured = self.parts.generations.ensure(filter, module, found).await;
        let active = ensured.map_err(|error| error.to_string())?;
        Ok((FilterSlot::Active(active), found))
    }

    fn problem(&self, filter: &Filter, message: String) -> Problem {
        let key = ResourceKey {
            kind: filter.key.kind.clone(),
            namespace: filter.key.namespace.clone(),
            name: filter.key.name.clone(),
        };
        self.desired.resources().problem("filter-start", &key, "spec", &message)
    }

    fn entrances(
        &self,
        model: &Model,
        filters: &BTreeMap<FilterKey, FilterSlot>,
        denied: &[Denied],
        problems: &mut Vec<Problem>,
    ) -> HashMap<Arc<str>, Arc<ServedEntrance>> {
        let former = self.parts.current.load();
        let mut served = HashMap::new();
        for entrance in &model.entrances {
            let denied_by = denied
                .iter()
                .find(|denied| denied.entrances.contains(&entrance.name))
                .map(|denied| denied.key.to_string());
            let certificates = self.certificates(entrance, &former, problems);
            let tls = self.terms(entrance, &former, problems);
            let wanted = entrance.filters.iter().filter_map(|key| filters.get(key).cloned());
            let one = ServedEntrance {
                model: Arc::clone(entrance),
                filters: wanted.collect(),
                denied_by,
                certificates,
                tls,
            };
            served.insert(Arc::clone(&entrance.name), Arc::new(one));
        }
        served
    }

    fn certificates(
        &self,
        entrance: &Entrance,
        former: &Snapshot,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<CertificateStore>> {
        let former = former.entrances.get(&entrance.name);
        let former = former.and_then(|former| former.certificates.as_deref());
        let (store, bad) = CertificateStore::build(entrance.tls.as_ref()?, former);
        problems.extend(bad.iter().map(|bad| {
            let (namespace, name) = bad.secret().split_once('/').unwrap_or_default();
            let (kind, namespace) = ("Secret".to_owned(), namespace.to_owned());
            let key = ResourceKey { kind, namespace, name: name.to_owned() };
            self.desired.resources().problem("certificate", &key, "metadata/name", &bad.to_string())
        }));
        Some(Arc::new(store))
    }

    /// What handshakes offer and demand: the former terms, unless something else is demanded now.
    fn terms(
        &self,
        entrance: &Entrance,
        former: &Snapshot,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<TlsTerms>> {
        let tls = entrance.tls.as_ref()?;
        let former = former.entrances.get(&entrance.name);
        let former = former.and_then(|former| former.tls.as_ref());
        let former_trust = former.and_then(|former| former.trust());
        let trust = tls.clients.as_ref().map(|clients| {
            let (trust, bad) = ClientTrust::build(clients, former_trust, &TlsTerms::provider());
            problems.extend(bad.iter().map(|bad| {
                let (key, message) = (bad.source(), bad.to_string());
                self.desired.resources().problem("client-trust", key, bad.place(), &message)
            }));
            trust
        });
        let same = match (&trust, former_trust) {
            (None, None) => true,
            (Some(trust), Some(former)) => trust.is_same(former),
            _ => false,
        };
        if let Some(former) = former.filter(|_| same) {
            return Some(Arc::clone(former));
        }
        let (current, name) = (Arc::clone(&self.parts.current), Arc::clone(&entrance.name));
        let resolver = Arc::new(SnapshotCertificates::new(current, name));
        Some(Arc::new(TlsTerms::new(resolver, trust.map(Arc::new))))
    }
}

fn target(endpoint: &Endpoint) -> Target {
    match &endpoint.host {
        EndpointHost::Address(address) => Target::Address(SocketAddr::new(*address, endpoint.port)),
        EndpointHost::Name(name) => Target::Name(Arc::clone(name), endpoint.port),
    }
}

/// The task that reads the files panicked, or the runtime ends.
fn unreadable(error: &JoinError) -> Built {
    let problem = Problem::of_file("", &format!("the files could not be read: {error}"));
    let (result, notes) = (ReloadResult::Refused, Vec::new());
    Built { snapshot: None, result, problems: vec![problem], notes }
}
