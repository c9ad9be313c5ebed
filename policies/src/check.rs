//! Relates resources to each other: references, grants, listeners, the order of filters.
//!
//! What is wrong never stops the check: the model has everything that is right, and what is wrong
//! is a problem, a condition, or both.

mod backend_tls;
mod clients;
mod filter;
mod gateway;
mod grant;
mod route;
mod rule;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Entrance, EntranceKind, FilterKey, Model, ResourceKey, ServicePortKey};
use crate::ports;
use crate::problem::{Note, Problem};
use crate::resource::Resources;
use crate::resource::filter::{TargetKind, TargetRef};
use crate::route::TableBuilder;
use crate::status::Statuses;
use backend_tls::Covered;
use filter::Attached;
pub use filter::rank;
use gateway::Slot;
use service::Draft;

/// What [`check`] found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Everything that is right.
    pub model: Model,
    /// The port of each service entrance: the next call's `previous_ports`.
    pub ports: BTreeMap<ServicePortKey, u16>,
    /// Every mistake between resources.
    pub problems: Vec<Problem>,
    /// What a reader may want to know.
    pub notes: Vec<Note>,
    /// What must be refused until a filter that was refused is right again.
    pub denied: Vec<Denied>,
}

/// Targets of a filter that must not be skipped, was refused, and has no last good version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The filter.
    pub key: ResourceKey,
    /// Entrances whose requests are refused.
    pub entrances: Vec<Arc<str>>,
    /// Routes whose requests are refused.
    pub routes: Vec<ResourceKey>,
    /// Services to which nothing is sent, whoever routes there.
    pub services: Vec<ServicePortKey>,
    /// Why the filter was refused.
    pub reason: String,
}

/// Builds the model.
///
/// `previous_ports` is the table that the last check gave ([`Checked::ports`]); empty at first.
///
/// Problems are looked for in what was refused too, so that one run tells all of them; the model
/// has none of it.
pub fn check(resources: &Resources, previous_ports: &BTreeMap<ServicePortKey, u16>) -> Checked {
    let mut checked = run(resources, previous_ports);
    if let Some(all) = resources.with_suspects() {
        let Checked { problems, notes, .. } = run(&all, previous_ports);
        let is_refused = |key: &ResourceKey| resources.refused.contains_key(key);
        checked.problems = problems;
        checked.notes = notes;
        checked.notes.retain(|note| !note.resource.as_ref().is_some_and(is_refused));
    }
    checked
}

fn run(resources: &Resources, previous_ports: &BTreeMap<ServicePortKey, u16>) -> Checked {
    let mut checker = Checker {
        resources,
        report: Report::default(),
        services: BTreeMap::new(),
        tls: Covered::default(),
        attached: Attached::default(),
        slots: BTreeMap::new(),
        service_routes: BTreeMap::new(),
        denied_routes: BTreeMap::new(),
    };
    checker.services();
    checker.backend_tls();
    checker.filters();
    checker.gateways();
    checker.routes();
    checker.finish(previous_ports)
}

/// The work in progress.
struct Checker<'a> {
    resources: &'a Resources,
    report: Report,
    services: BTreeMap<ServicePortKey, Draft>,
    tls: Covered,
    attached: Attached,
    /// Merged listeners by namespace and port.
    slots: BTreeMap<(String, u16), Slot<'a>>,
    /// Routes whose parent is a service port.
    service_routes: BTreeMap<ServicePortKey, TableBuilder>,
    /// Routes with a rule that names a refused filter, by that filter.
    denied_routes: BTreeMap<ResourceKey, BTreeSet<ResourceKey>>,
}

/// What the check has to say.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<Problem>,
    notes: Vec<Note>,
    statuses: Statuses,
}

impl Checker<'_> {
    fn finish(mut self, previous_ports: &BTreeMap<ServicePortKey, u16>) -> Checked {
        let wanted = self.wanted();
        let occupied: BTreeSet<u16> = self.slots.keys().map(|(_, port)| *port).collect();
        let ports = ports::allocate_around(previous_ports, &wanted, &occupied);
        let mut entrances = self.gateway_entrances();
        entrances.extend(self.service_entrances(&wanted, &ports));
        entrances.sort_by(|a, b| a.name.cmp(&b.name));
        let denied = self.denied(&entrances);
        let services = std::mem::take(&mut self.services);
        let services = services.into_iter().map(|(key, draft)| {
            let filters = self.attached.of_service(&key);
            let tls = self.tls.take(&key);
            (key.clone(), Arc::new(draft.port(key, tls, filters)))
        });
        let model = Model {
            entrances: entrances.into_iter().map(Arc::new).collect(),
            services: services.collect(),
            filters: std::mem::take(&mut self.attached.filters),
            statuses: std::mem::take(&mut self.report.statuses).into_vec(),
        };
        let Report { mut problems, notes, .. } = self.report;
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        Checked { model, ports, problems, notes, denied }
    }

    /// Service ports that need an entrance of their own (design decision 12).
    fn wanted(&self) -> BTreeSet<ServicePortKey> {
        let needs = |key: &&ServicePortKey| {
            self.service_routes.contains_key(*key)
                || !self.attached.of_service(key).is_empty()
                || self.refused_covers_service(key)
        };
        let declared = self.services.iter().filter(|(_, draft)| draft.is_http());
        declared.map(|(key, _)| key).filter(needs).cloned().collect()
    }

    fn gateway_entrances(&mut self) -> Vec<Entrance> {
        let slots = std::mem::take(&mut self.slots);
        let entrance = |((namespace, port), slot): ((String, u16), Slot<'_>)| {
            let gateways = slot.gateways();
            Entrance {
                name: format!("gateway/{namespace}/{port}").into(),
                port,
                kind: EntranceKind::Gateway,
                filters: self.attached.of_gateways(&namespace, &gateways),
                tls: slot.tls,
                routes: slot.table.build(),
            }
        };
        slots.into_iter().map(entrance).collect()
    }

    fn service_entrances(
        &mut self,
        wanted: &BTreeSet<ServicePortKey>,
        ports: &BTreeMap<ServicePortKey, u16>,
    ) -> Vec<Entrance> {
        let mut routes = std::mem::take(&mut self.service_routes);
        let entrance = |key: &ServicePortKey| {
            let port = *ports.get(key)?;
            Some(Entrance {
                name: format!("service/{key}").into(),
                port,
                kind: EntranceKind::Service(key.clone()),
                tls: None,
                filters: self.attached.of_service(key),
                routes: routes.remove(key).map_or_else(TableBuilder::direct, TableBuilder::build),
            })
        };
        wanted.iter().filter_map(entrance).collect()
    }

    /// Reports a reference to something that is not there; not where it was refused, or where it
    /// may be in a document that cannot be read: that was reported, and this would mislead.
    fn unknown(&mut self, kind: &str, namespace: &str, name: &str, problem: Problem) {
        let key = ResourceKey { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        let is_refused = self.resources.refused.contains_key(&key);
        let may_be_unread =
            self.resources.incomplete && problem.nearest.is_none() && problem.code != "unsupported";
        if !is_refused && !may_be_unread {
            self.report.problems.push(problem);
        }
    }

    fn refused_covers_service(&self, key: &ServicePortKey) -> bool {
        self.resources.refused.iter().any(|(filter, refused)| {
            refused.denies
                && filter.namespace == key.namespace
                && refused.targets.as_ref().is_none_or(|targets| {
                    targets.iter().any(|target| names(target, TargetKind::Service, &key.name))
                })
        })
    }

    fn denied(&self, entrances: &[Entrance]) -> Vec<Denied> {
        let deny = |(key, refused): (&ResourceKey, &crate::resource::Refused)| {
            let hits = |kind: TargetKind, name: &str| {
                let targets = refused.targets.as_ref();
                targets.is_none_or(|targets| targets.iter().any(|target| names(target, kind, name)))
            };
            let is_denied = |entrance: &&Entrance| match &entrance.kind {
                EntranceKind::Service(service) => {
                    service.namespace == key.namespace && hits(TargetKind::Service, &service.name)
                }
                EntranceKind::Gateway => {
                    self.gateways_behind(&entrance.name).iter().any(|gateway| {
                        gateway.namespace == key.namespace
                            && hits(TargetKind::Gateway, &gateway.name)
                    })
                }
            };
            let mut routes = self.denied_routes.get(key).cloned().unwrap_or_default();
            for target in refused.targets.iter().flatten() {
                if matches!(target.kind, TargetKind::HttpRoute | TargetKind::GrpcRoute) {
                    routes.insert(ResourceKey {
                        kind: target.kind.as_str().into(),
                        namespace: key.namespace.clone(),
                        name: target.name.0.clone(),
                    });
                }
            }
            let services = self.services.keys().filter(|service| {
                service.namespace == key.namespace && hits(TargetKind::Service, &service.name)
            });
            Denied {
                key: key.clone(),
                entrances: entrances
                    .iter()
                    .filter(is_denied)
                    .map(|e| Arc::clone(&e.name))
                    .collect(),
                routes: routes.into_iter().collect(),
                services: services.cloned().collect(),
                reason: refused.reason.clone(),
            }
        };
        self.resources.refused.iter().filter(|(_, refused)| refused.denies).map(deny).collect()
    }
}

/// Whether a target is that resource.
fn names(target: &TargetRef, kind: TargetKind, name: &str) -> bool {
    target.kind == kind && target.name.0 == name
}

/// Sorts filters in the order in which they run, each once.
fn in_order(
    filters: &BTreeMap<FilterKey, Arc<crate::model::Filter>>,
    keys: impl IntoIterator<Item = FilterKey>,
) -> Vec<FilterKey> {
    let keys: BTreeSet<FilterKey> = keys.into_iter().collect();
    let mut found: Vec<_> = keys.iter().filter_map(|key| filters.get(key)).collect();
    found.sort_by_key(|filter| filter::rank(filter));
    found.into_iter().map(|filter| filter.key.clone()).collect()
}
