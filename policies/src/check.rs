//! Relates resources to each other: references, grants, listeners, the order of filters.
//!
//! What is wrong never stops the check: the model has everything that is right, and what is wrong
//! is a problem, a condition, or both.

mod backend_tls;
mod clients;
mod filter;
mod gateway;
mod grant;
mod redirect;
mod route;
mod rule;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Entrance, EntranceKind, FilterKey, Model, ResourceKey, ServicePortKey};
use crate::ports::{Numbering, Ports};
use crate::problem::{Note, Problem};
use crate::redirect::{Exception, Reason, Redirection};
use crate::resource::filter::{TargetKind, TargetRef};
use crate::resource::{Refused, Resources};
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
    /// The ports of service entrances: what the next call's [`Numbering`] begins with.
    pub ports: Ports,
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
/// `numbering` begins with the ports that the last check gave ([`Checked::ports`]); empty at first.
///
/// Problems are looked for in what was refused too, so that one run tells all of them; the model
/// has none of it.
pub fn check(resources: &Resources, numbering: &Numbering) -> Checked {
    let mut checked = run(resources, numbering);
    if let Some(all) = resources.with_suspects() {
        let Checked { problems, notes, .. } = run(&all, numbering);
        let is_refused = |key: &ResourceKey| resources.refused.contains_key(key);
        checked.problems = problems;
        checked.notes = notes;
        checked.notes.retain(|note| !note.resource.as_ref().is_some_and(is_refused));
    }
    checked
}

fn run(resources: &Resources, numbering: &Numbering) -> Checked {
    let mut checker = Checker {
        resources,
        report: Report::default(),
        services: BTreeMap::new(),
        tls: Covered::default(),
        attached: Attached::default(),
        slots: BTreeMap::new(),
        service_routes: BTreeMap::new(),
        route_reasons: BTreeMap::new(),
        denied_routes: BTreeMap::new(),
    };
    checker.services();
    checker.backend_tls();
    checker.filters();
    checker.gateways();
    checker.routes();
    checker.finish(numbering)
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
    /// Why these routes need L7.
    route_reasons: BTreeMap<ServicePortKey, Vec<Reason>>,
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
    fn finish(mut self, numbering: &Numbering) -> Checked {
        let redirections = self.redirections();
        let wanted = wanted(&redirections);
        let occupied: BTreeSet<u16> = self.slots.keys().map(|(_, port)| *port).collect();
        let ports = numbering.next(&wanted, &occupied);
        let mut entrances = self.gateway_entrances();
        entrances.extend(self.service_entrances(&ports));
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
            redirections,
            statuses: std::mem::take(&mut self.report.statuses).into_vec(),
        };
        let Report { mut problems, notes, .. } = self.report;
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        Checked { model, ports, problems, notes, denied }
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

    /// Entrances of service ports, and of those that need none any longer but may still be connected
    /// to: agents have yet to hear of it.
    fn service_entrances(&mut self, ports: &Ports) -> Vec<Entrance> {
        let mut routes = std::mem::take(&mut self.service_routes);
        let retired = ports.retired.iter().map(|(port, retired)| (&retired.service, *port));
        let given = ports.given.iter().map(|(key, port)| (key, *port));
        let remains = |key| {
            !ports.given.contains_key(key) && self.services.get(key).is_some_and(Draft::is_http)
        };
        let all = given.chain(retired.filter(|(key, _)| remains(key)));
        let entrance = |(key, port): (&ServicePortKey, u16)| Entrance {
            name: format!("service/{key}").into(),
            port,
            kind: EntranceKind::Service(key.clone()),
            tls: None,
            filters: self.attached.of_service(key),
            routes: routes.remove(key).map_or_else(TableBuilder::direct, TableBuilder::build),
        };
        all.map(entrance).collect()
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

    /// Refused filters that must not be skipped and cover a service port.
    fn refused_filters_of(&self, key: &ServicePortKey) -> impl Iterator<Item = &ResourceKey> {
        let covers = move |filter: &ResourceKey, refused: &Refused| {
            refused.denies
                && filter.namespace == key.namespace
                && refused.targets.as_ref().is_none_or(|targets| {
                    targets.iter().any(|target| names(target, TargetKind::Service, &key.name))
                })
        };
        let all = self.resources.refused.iter();
        all.filter(move |(filter, refused)| covers(filter, refused)).map(|(filter, _)| filter)
    }

    fn denied(&self, entrances: &[Entrance]) -> Vec<Denied> {
        let deny = |(key, refused): (&ResourceKey, &Refused)| {
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

/// Service ports that need an entrance of their own (design decision 12). Whether anything is
/// redirected there is another question: a laptop's files may have no `clusterIP`.
fn wanted(redirections: &BTreeMap<ServicePortKey, Redirection>) -> BTreeSet<ServicePortKey> {
    let needs = |one: &Redirection| {
        !one.reasons.is_empty() && !one.exception.is_some_and(Exception::excludes_entrance)
    };
    redirections.iter().filter(|(_, one)| needs(one)).map(|(key, _)| key.clone()).collect()
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
