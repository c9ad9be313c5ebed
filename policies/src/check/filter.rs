//! Filters: what they mean, what they are attached to, in which order they run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Checker, in_order};
use crate::model::{
    Bodies, Filter, FilterKey, FilterLimits, FilterMatch, Isolation, ModuleSource, Phase,
    ResourceKey, ServicePortKey,
};
use crate::nearest::nearest;
use crate::problem::{Note, Problem};
use crate::resource::filter::{self as written, TargetKind, TargetRef};
use crate::resource::gateway::Gateway;
use crate::resource::grpc_route::GrpcRoute;
use crate::resource::route::{HttpRoute, RouteRule};
use crate::resource::secret::ConfigMap;
use crate::resource::service::Service;
use crate::resource::wasm_plugin::{EnvSource, WasmPlugin};
use crate::resource::{Held, Kind};

/// Every filter, and what it is attached to.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub filters: BTreeMap<FilterKey, Arc<Filter>>,
    /// By namespace: filters without targets.
    namespaces: BTreeMap<String, Vec<FilterKey>>,
    /// By namespace and name of the target.
    gateways: BTreeMap<(String, String), Vec<FilterKey>>,
    services: BTreeMap<(String, String), Vec<FilterKey>>,
    routes: BTreeMap<(String, String), Vec<FilterKey>>,
    grpc_routes: BTreeMap<(String, String), Vec<FilterKey>>,
}

impl Attached {
    /// Filters of a service port: its Service's and its namespace's.
    pub(super) fn of_service(&self, key: &ServicePortKey) -> Vec<FilterKey> {
        let own = self.services.get(&(key.namespace.clone(), key.name.clone()));
        let all = self.namespaces.get(&key.namespace);
        in_order(&self.filters, own.into_iter().chain(all).flatten().cloned())
    }

    /// Filters of an entrance: those of its Gateways and of its namespace.
    pub(super) fn of_gateways(&self, namespace: &str, names: &BTreeSet<&str>) -> Vec<FilterKey> {
        let own = names
            .iter()
            .filter_map(|name| self.gateways.get(&(namespace.to_owned(), (*name).to_owned())));
        let all = self.namespaces.get(namespace);
        in_order(&self.filters, own.chain(all).flatten().cloned())
    }

    /// Filters of a rule: those of its route, and those that the rule names.
    pub(super) fn of_rule(&self, route: &ResourceKey, named: Vec<FilterKey>) -> Vec<FilterKey> {
        let grpc = route.kind == GrpcRoute::KIND;
        let routes = if grpc { &self.grpc_routes } else { &self.routes };
        let own = routes.get(&(route.namespace.clone(), route.name.clone()));
        in_order(&self.filters, own.into_iter().flatten().cloned().chain(named))
    }

    /// Filters in the order in which they run, each once.
    pub(super) fn in_order(&self, named: Vec<FilterKey>) -> Vec<FilterKey> {
        in_order(&self.filters, named)
    }

    /// Whether a filter is attached to this Gateway itself.
    pub(super) fn has_gateway(&self, namespace: &str, name: &str) -> bool {
        self.gateways.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    fn table(&mut self, kind: TargetKind) -> &mut BTreeMap<(String, String), Vec<FilterKey>> {
        match kind {
            TargetKind::Gateway => &mut self.gateways,
            TargetKind::Service => &mut self.services,
            TargetKind::HttpRoute => &mut self.routes,
            TargetKind::GrpcRoute => &mut self.grpc_routes,
        }
    }
}

/// What a filter's place in the chain is decided by: phase, priority (higher first, unset last),
/// namespace, name.
///
/// # Source
///
/// Istio, `WasmPlugin.priority` and its implementation, which sorts unset after every set one.
pub fn rank(filter: &Filter) -> (Phase, Reverse<Option<i32>>, String, String, String) {
    let key = &filter.key;
    // `None` is less than every `Some`: reversed it comes last.
    (
        filter.phase,
        Reverse(filter.priority),
        key.namespace.clone(),
        key.name.clone(),
        key.kind.clone(),
    )
}

impl<'a> Checker<'a> {
    pub(super) fn filters(&mut self) {
        for held in self.resources.each::<written::Filter>() {
            let config = self.config(held);
            let filter = from_filter(held.key(), held.spec, config);
            self.attach_filter(held, filter, held.spec.target_refs.as_deref());
        }
        for held in self.resources.each::<WasmPlugin>() {
            let filter = from_plugin(held.key(), held.spec);
            let targets =
                Some(held.spec.target_refs.as_slice()).filter(|targets| !targets.is_empty());
            self.attach_filter(held, filter, targets);
        }
        for (key, refused) in &self.resources.refused {
            self.report.statuses.condition(
                key,
                "Accepted",
                Err(("Invalid", refused.reason.clone())),
            );
        }
    }

    /// The text of a filter's configuration, written in it or kept in a ConfigMap.
    fn config(&mut self, held: Held<'a, written::Filter>) -> Result<Option<String>, String> {
        let Some(from) = &held.spec.config_from else {
            return Ok(held.spec.config.as_ref().map(json_text));
        };
        let (namespace, wanted) = (held.namespace(), &from.config_map_key_ref);
        let (resources, name) = (self.resources, &wanted.name.0);
        let Some(map) = resources.get::<ConfigMap>(namespace, name) else {
            let place = held.at("spec/configFrom/configMapKeyRef/name");
            let message = format!("there is no ConfigMap {namespace}/{name}");
            let problem = Problem::error("unknown-reference", &place, message.clone());
            let names = resources.names::<ConfigMap>(namespace);
            let problem = problem.of(held.key()).nearest(nearest(name, names));
            self.unknown("ConfigMap", namespace, name, problem);
            return Err(message);
        };
        map.spec.data.get(&wanted.key).cloned().map(Some).ok_or_else(|| {
            let place = held.at("spec/configFrom/configMapKeyRef/key");
            let message = format!("ConfigMap {namespace}/{name} has no key {:?}", wanted.key);
            let problem = Problem::error("unknown-reference", &place, message.clone());
            let keys = map.spec.data.keys().map(String::as_str);
            self.report.problems.push(problem.of(held.key()).nearest(nearest(&wanted.key, keys)));
            message
        })
    }

    fn attach_filter<K: Kind>(
        &mut self,
        held: Held<'a, K>,
        filter: Filter,
        targets: Option<&[TargetRef]>,
    ) {
        let key = filter.key.clone();
        self.attached.filters.insert(key.clone(), Arc::new(filter));
        let mut verdict = Ok(());
        match targets {
            None => self.attached.namespaces.entry(key.namespace.clone()).or_default().push(key),
            Some([]) => self.named_only(held),
            Some(targets) => {
                for (index, target) in targets.iter().enumerate() {
                    if self.target_exists(held, index, target) {
                        let place = (key.namespace.clone(), target.name.0.clone());
                        self.attached
                            .table(target.kind)
                            .entry(place)
                            .or_default()
                            .push(key.clone());
                    } else {
                        let message =
                            format!("there is no {} {}", target.kind.as_str(), target.name.0);
                        verdict = Err(("TargetNotFound", message));
                    }
                }
            }
        }
        self.report.statuses.condition(held.key(), "Accepted", verdict);
    }

    /// A filter with an empty list of targets waits for rules to name it.
    fn named_only<K: Kind>(&mut self, held: Held<'a, K>) {
        let http = self.resources.each::<HttpRoute>();
        let grpc = self.resources.each::<GrpcRoute>().map(|route| route.http());
        let mut routes = http.chain(grpc).filter(|route| route.namespace() == held.namespace());
        let is_named = routes.any(|route| {
            let filters = route.spec.rules.iter().flat_map(RouteRule::every_filter);
            let mut names = filters.filter_map(|filter| filter.extension_ref.as_ref());
            names.any(|extension| extension.name.0 == held.key().name)
        });
        if !is_named {
            let place = held.at("spec/targetRefs");
            let message = "the filter is attached to nothing: the list is empty, and no route names the filter";
            let problem = Problem::error("unattached", &place, message).of(held.key());
            self.report.problems.push(
                problem.expected("targets, or no `targetRefs` at all for the whole namespace"),
            );
        }
    }

    fn target_exists<K: Kind>(
        &mut self,
        held: Held<'a, K>,
        index: usize,
        target: &TargetRef,
    ) -> bool {
        let namespace = held.namespace();
        let name = &target.name.0;
        let resources = self.resources;
        let names: Vec<&str> = match target.kind {
            TargetKind::Gateway => resources.names::<Gateway>(namespace).collect(),
            TargetKind::Service => resources.names::<Service>(namespace).collect(),
            TargetKind::HttpRoute => resources.names::<HttpRoute>(namespace).collect(),
            TargetKind::GrpcRoute => resources.names::<GrpcRoute>(namespace).collect(),
        };
        if names.contains(&name.as_str()) {
            if target.kind == TargetKind::Service {
                self.warn_undeclared(held, index, name);
            }
            return true;
        }
        let place = held.at(&format!("spec/targetRefs/{index}/name"));
        let message = format!("there is no {} {namespace}/{name}", target.kind.as_str());
        let problem = Problem::error("unknown-reference", &place, message).of(held.key());
        let problem = problem.nearest(nearest(name, names));
        self.unknown(target.kind.as_str(), namespace, name, problem);
        false
    }

    /// A filter covers only ports that are declared HTTP (design decision 12).
    fn warn_undeclared<K: Kind>(&mut self, held: Held<'a, K>, index: usize, name: &str) {
        let ports: Vec<(u16, bool)> = self
            .services
            .iter()
            .filter(|(key, _)| key.namespace == held.namespace() && key.name == name)
            .map(|(key, draft)| (key.port, draft.is_http()))
            .collect();
        let place = held.at(&format!("spec/targetRefs/{index}/name"));
        for (port, _) in ports.iter().filter(|(_, is_http)| !is_http) {
            let message = format!(
                "port {port} of {name} is not declared HTTP: the filter does not see its own traffic"
            );
            if ports.iter().any(|(_, is_http)| *is_http) {
                self.report.notes.push(Note::new(&place, message, Some(held.key().clone())));
            } else {
                let problem = Problem::warning("not-http", &place, message).of(held.key());
                let expected = "`appProtocol: http` (or `kubernetes.io/h2c`, `grpc`) on the Service's port, or a name such as `http`";
                self.report.problems.push(problem.expected(expected));
            }
        }
    }
}

/// The phase of a built-in filter where its resource sets none: who is asking is settled first,
/// then where the request goes, and what leaves is cleaned last.
fn builtin_phase(module: &ModuleSource) -> Phase {
    match module {
        ModuleSource::Builtin(name) if name == "jwt-auth" => Phase::Authn,
        ModuleSource::Builtin(name) if name == "payload-router" => Phase::Authz,
        ModuleSource::Builtin(name) if name == "pii-redact" => Phase::Stats,
        _ => Phase::Unspecified,
    }
}

fn filter_key(key: &ResourceKey) -> FilterKey {
    FilterKey { kind: key.kind.clone(), namespace: key.namespace.clone(), name: key.name.clone() }
}

fn from_filter(
    key: &ResourceKey,
    spec: &written::Filter,
    config: Result<Option<String>, String>,
) -> Filter {
    let module = spec.module.url.0.clone();
    Filter {
        key: filter_key(key),
        sha256: spec.module.sha256.as_ref().map(|digest| digest.0.clone()),
        root_id: spec.root_id.clone(),
        config,
        environment: spec.environment.clone().into_iter().collect(),
        host_environment: Vec::new(),
        phase: spec.phase.map_or_else(|| builtin_phase(&module), Phase::from),
        module,
        priority: spec.priority,
        matches: spec.matches.iter().map(filter_match).collect(),
        failure_policy: spec.failure_policy.into(),
        limits: limits(&spec.limits),
        capabilities: spec.capabilities.as_ref().map(|names| names.iter().cloned().collect()),
        isolation: match spec.isolation {
            written::Isolation::Shared => Isolation::Shared,
            written::Isolation::PerRequest => Isolation::PerRequest,
        },
        bodies: match spec.bodies {
            written::Bodies::AfterHeaders => Bodies::AfterHeaders,
            written::Bodies::BeforeHeaders => Bodies::BeforeHeaders,
        },
    }
}

fn from_plugin(key: &ResourceKey, spec: &WasmPlugin) -> Filter {
    let (host, inline): (Vec<_>, Vec<_>) =
        spec.vm_config.env.iter().partition(|variable| variable.value_from == EnvSource::Host);
    let ports = |selector: &crate::resource::wasm_plugin::TrafficSelector| FilterMatch {
        ports: selector.ports.iter().map(|port| port.number).collect(),
        ..FilterMatch::default()
    };
    Filter {
        key: filter_key(key),
        module: spec.url.0.clone(),
        sha256: spec.sha256.as_ref().map(|digest| digest.0.clone()),
        root_id: spec.plugin_name.clone(),
        // Istio hands over nothing at all for an empty configuration.
        config: Ok(spec.plugin_config.as_ref().filter(|config| !config.is_empty()).map(json_text)),
        environment: inline
            .into_iter()
            .map(|variable| (variable.name.0.clone(), variable.value.clone().unwrap_or_default()))
            .collect(),
        host_environment: host.into_iter().map(|variable| variable.name.0.clone()).collect(),
        phase: spec.phase.into(),
        priority: spec.priority,
        matches: spec.matches.iter().map(ports).collect(),
        failure_policy: spec.fail_strategy.into(),
        limits: FilterLimits::default(),
        capabilities: None,
        isolation: Isolation::default(),
        bodies: Bodies::default(),
    }
}

fn json_text(object: &serde_json::Map<String, serde_json::Value>) -> String {
    serde_json::Value::Object(object.clone()).to_string()
}

fn filter_match(spec: &written::FilterMatch) -> FilterMatch {
    FilterMatch {
        methods: spec.methods.iter().map(|method| (*method).into()).collect(),
        path_prefixes: spec.path_prefixes.iter().map(|prefix| prefix.0.clone()).collect(),
        ports: spec.ports.clone(),
    }
}

fn limits(spec: &written::Limits) -> FilterLimits {
    FilterLimits {
        memory_bytes: spec.memory.as_ref().map(|memory| memory.0),
        deadline: spec.deadline.as_ref().map(|deadline| deadline.0),
        buffered_body_bytes: spec.buffered_body.as_ref().map(|bytes| bytes.0),
        streams_per_vm: spec.streams_per_vm,
        cpu_share: spec.cpu_share,
        callouts_per_stream: spec.callouts_per_stream,
        body_wait: spec.body_wait.as_ref().map(|wait| wait.0),
    }
}
