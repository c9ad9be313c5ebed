//! Routes: where they attach, and what their rules mean.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::grant::{Reference, permits};
use super::{Checker, gateway::Placed};
use crate::model::{
    Backend, BackendFault, FilterKey, HeaderEdits, Hostname, ResourceKey, Rule, ServicePortKey,
};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::gateway::{FromNamespaces, Gateway};
use crate::resource::route::{
    BackendRef, HeaderModifier, HttpRoute, ParentRef, PathMatchType, RouteFilter, RouteMatch,
    RouteRule, ValueMatchType,
};
use crate::resource::service::Service;
use crate::resource::{Held, filter};
use crate::route::{Match, PathMatch, Seniority, TextMatch, intersect};
use crate::text::{Format, GatewayDuration, Parsed, RegexText};

/// A rule with its matches, ready to be attached.
struct Ready {
    rule: Arc<Rule>,
    matches: Vec<(Match, Seniority)>,
}

/// Why a route is not accepted by a parent.
type Refusal = (&'static str, String);

impl<'a> Checker<'a> {
    pub(super) fn routes(&mut self) {
        for route in self.resources.each::<HttpRoute>() {
            let mut faults = Vec::new();
            let rules: Vec<Ready> = (0..)
                .zip(&route.spec.rules)
                .map(|(index, rule)| self.rule(route, index, rule, &mut faults))
                .collect();
            let accepted = self.parents(route, &rules);
            self.report.condition(route.key(), "Accepted", accepted);
            let resolved = faults.into_iter().next().map_or(Ok(()), Err);
            self.report.condition(route.key(), "ResolvedRefs", resolved);
        }
    }

    /// Attaches a route to each of its parents; it is accepted if one of them takes it.
    fn parents(&mut self, route: Held<'a, HttpRoute>, rules: &[Ready]) -> Result<(), Refusal> {
        let mut taken = BTreeSet::new();
        let mut refusal = None;
        for (index, parent) in route.spec.parent_refs.iter().enumerate() {
            let result = if parent.kind == "Service" {
                self.service_parent(route, index, parent, rules)
            } else {
                self.gateway_parent(route, index, parent, rules, &mut taken)
            };
            match result {
                Ok(()) => refusal = Some(Ok(())),
                Err(reason) => refusal = refusal.or(Some(Err(reason))),
            }
        }
        refusal.unwrap_or_else(|| {
            let message = "the route has no parent: nothing reaches it";
            let problem = Problem::warning("no-parent", &route.at("metadata/name"), message);
            self.report
                .problems
                .push(problem.expected("`parentRefs` with a Gateway or a Service").of(route.key()));
            Err(("NoMatchingParent", message.to_owned()))
        })
    }

    fn gateway_parent(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        parent: &ParentRef,
        rules: &[Ready],
        taken: &mut BTreeSet<(String, u16, Option<Hostname>)>,
    ) -> Result<(), Refusal> {
        let namespace = parent.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
        let name = parent.name.0.as_str();
        let Some(gateway) = self.resources.get::<Gateway>(namespace, name) else {
            let near = nearest(name, self.resources.names::<Gateway>(namespace));
            let message = format!("there is no Gateway {namespace}/{name}");
            return Err(self.no_parent(route, index, "name", message, near));
        };
        let wanted: Vec<Placed<'a>> = self
            .slots
            .values()
            .flat_map(|slot| &slot.listeners)
            .filter(|placed| placed.gateway.key() == gateway.key() && selects(parent, placed))
            .copied()
            .collect();
        if wanted.is_empty() {
            return Err(self.no_listener(route, index, parent, gateway));
        }
        let allowed: Vec<_> = wanted.into_iter().filter(|placed| allows(placed, route)).collect();
        if allowed.is_empty() {
            let message =
                format!("no listener of {} allows this route (`allowedRoutes`)", gateway.key());
            return Err(self.unattached(route, index, "NotAllowedByListeners", message));
        }
        let mut attached = false;
        for placed in allowed {
            attached |= self.attach(route, &placed, rules, taken);
        }
        if attached {
            return Ok(());
        }
        let message = format!("no listener of {} has a hostname of this route", gateway.key());
        Err(self.unattached(route, index, "NoMatchingListenerHostname", message))
    }

    fn attach(
        &mut self,
        route: Held<'a, HttpRoute>,
        placed: &Placed<'a>,
        rules: &[Ready],
        taken: &mut BTreeSet<(String, u16, Option<Hostname>)>,
    ) -> bool {
        let listener = placed.hostname();
        let hosts: Vec<Option<&Hostname>> = if route.spec.hostnames.is_empty() {
            vec![None]
        } else {
            let names = route.spec.hostnames.iter().map(|name| &name.0);
            let meets =
                |name: &&Hostname| listener.is_none_or(|listener| intersect(listener, name));
            names.filter(meets).map(Some).collect()
        };
        let name = (placed.gateway.namespace().to_owned(), placed.listener.port);
        let once = taken.insert((name.0.clone(), name.1, listener.cloned()));
        if let Some(slot) = self.slots.get_mut(&name).filter(|_| once) {
            for host in hosts.iter().collect::<BTreeSet<_>>() {
                for ready in rules {
                    for (when, seniority) in &ready.matches {
                        slot.table.attach(
                            listener,
                            *host,
                            when.clone(),
                            seniority.clone(),
                            &ready.rule,
                        );
                    }
                }
            }
        }
        !hosts.is_empty()
    }

    fn service_parent(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        parent: &ParentRef,
        rules: &[Ready],
    ) -> Result<(), Refusal> {
        let namespace = parent.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
        let name = parent.name.0.as_str();
        if namespace != route.namespace() {
            let message =
                "a route for a Service of another namespace (consumer route) is not supported yet";
            return Err(self.no_parent(route, index, "namespace", message.to_owned(), None));
        }
        if self.resources.get::<Service>(namespace, name).is_none() {
            let near = nearest(name, self.resources.names::<Service>(namespace));
            let message = format!("there is no Service {namespace}/{name}");
            return Err(self.no_parent(route, index, "name", message, near));
        }
        let section = parent.section_name.as_ref().map(|section| section.0.as_str());
        let of_service = |key: &&ServicePortKey| key.namespace == namespace && key.name == name;
        let selected: Vec<(ServicePortKey, bool)> = self
            .services
            .iter()
            .filter(|(key, _)| of_service(key))
            .filter(|(key, draft)| {
                parent.port.is_none_or(|port| port == key.port)
                    && section.is_none_or(|section| section == draft.name)
            })
            .map(|(key, draft)| (key.clone(), draft.is_http()))
            .collect();
        if selected.is_empty() {
            let field = if parent.port.is_some() { "port" } else { "sectionName" };
            let message = format!("Service {namespace}/{name} has no such port");
            return Err(self.no_parent(route, index, field, message, None));
        }
        let http: Vec<_> =
            selected.iter().filter(|(_, is_http)| *is_http).map(|(key, _)| key.clone()).collect();
        if http.is_empty() {
            let message = format!(
                "no port of Service {namespace}/{name} is declared HTTP: nothing reaches the route"
            );
            return Err(self.unattached(route, index, "UnsupportedProtocol", message));
        }
        for key in http {
            self.attach_to_service(key, rules);
        }
        Ok(())
    }

    /// The port names the service, so the host of a request decides nothing here: hostnames of the
    /// route are ignored (design decision 11).
    fn attach_to_service(&mut self, key: ServicePortKey, rules: &[Ready]) {
        let table = self.service_routes.entry(key).or_insert_with(|| {
            let mut table = crate::route::TableBuilder::default();
            table.listener(None);
            table
        });
        for ready in rules {
            for (when, seniority) in &ready.matches {
                table.attach(None, None, when.clone(), seniority.clone(), &ready.rule);
            }
        }
    }

    fn no_listener(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        parent: &ParentRef,
        gateway: Held<'a, Gateway>,
    ) -> Refusal {
        let names = gateway.spec.listeners.iter().map(|listener| listener.name.0.as_str());
        let section = parent.section_name.as_ref().map(|section| section.0.as_str());
        let known = |section: &&str| !names.clone().any(|name| name == *section);
        match section.filter(known) {
            Some(section) => {
                let message = format!("{} has no listener `{section}`", gateway.key());
                let near = nearest(section, names);
                self.no_parent(route, index, "sectionName", message, near)
            }
            None => {
                let field = if parent.port.is_some() { "port" } else { "name" };
                let message = format!("{} has no such listener", gateway.key());
                self.no_parent(route, index, field, message, None)
            }
        }
    }

    /// A parent that is not there: a mistake.
    fn no_parent(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        field: &str,
        message: String,
        near: Option<&str>,
    ) -> Refusal {
        let place = route.at(&format!("spec/parentRefs/{index}/{field}"));
        let code = if message.ends_with("not supported yet") {
            "unsupported"
        } else {
            "unknown-reference"
        };
        let problem = Problem::error(code, &place, message.clone()).nearest(near).of(route.key());
        self.report.problems.push(problem);
        ("NoMatchingParent", message)
    }

    /// A parent that does not take the route: its owner may have meant that.
    fn unattached(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        reason: &'static str,
        message: String,
    ) -> Refusal {
        let place = route.at(&format!("spec/parentRefs/{index}/name"));
        let problem =
            Problem::warning("route-not-attached", &place, message.clone()).of(route.key());
        self.report.problems.push(problem);
        (reason, message)
    }

    fn rule(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Ready {
        let label = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.0.clone());
        let key = route.key();
        let named = self.named_filters(route, index, rule, faults);
        let backends = rule.backend_refs.iter().enumerate();
        let mut backends: Vec<Backend> = backends
            .map(|(number, backend)| {
                self.backend(
                    route,
                    &format!("spec/rules/{index}/backendRefs/{number}"),
                    backend,
                    faults,
                )
            })
            .collect();
        if named.is_none() {
            // A filter that cannot be found must not be skipped (Gateway API): the rule answers 500.
            backends.clear();
        }
        let (request_headers, response_headers) = edits(&rule.filters);
        let ready = Rule {
            id: format!("{}/{}/{label}", key.namespace, key.name).into(),
            route: key.clone(),
            filters: self.attached.of_rule(key, named.unwrap_or_default()),
            request_headers,
            response_headers,
            request_timeout: bound(rule.timeouts.request.as_ref()),
            backend_timeout: bound(rule.timeouts.backend_request.as_ref()),
            backends,
        };
        let seniority = |position| Seniority {
            created: route.resource.created.clone(),
            order: route.resource.order,
            name: (key.namespace.clone(), key.name.clone()),
            rule: index,
            position,
        };
        let every = [RouteMatch::default()];
        let written = if rule.matches.is_empty() { &every[..] } else { &rule.matches };
        let matches = (0..)
            .zip(written)
            .filter_map(|(position, when)| Some((compile(when)?, seniority(position))));
        Ready { rule: Arc::new(ready), matches: matches.collect() }
    }

    /// Filters that the rule names; `None` when one of them is not there.
    fn named_filters(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Option<Vec<FilterKey>> {
        let mut found = Some(Vec::new());
        for (number, written) in rule.filters.iter().enumerate() {
            let Some(extension) = &written.extension_ref else { continue };
            let (namespace, name) = (route.namespace(), extension.name.0.as_str());
            let key = ResourceKey {
                kind: "Filter".into(),
                namespace: namespace.into(),
                name: name.into(),
            };
            if self.resources.get::<filter::Filter>(namespace, name).is_some() {
                let key = FilterKey { kind: key.kind, namespace: key.namespace, name: key.name };
                found.iter_mut().for_each(|found| found.push(key.clone()));
                continue;
            }
            found = None;
            let message = format!("there is no Filter {namespace}/{name}");
            faults.push(("InvalidFilter", message.clone()));
            if self.resources.refused.contains_key(&key) {
                self.denied_routes.entry(key).or_default().insert(route.key().clone());
                continue;
            }
            let place = route.at(&format!("spec/rules/{index}/filters/{number}/extensionRef/name"));
            let near = nearest(name, self.resources.names::<filter::Filter>(namespace));
            let problem = Problem::error("unknown-reference", &place, message).nearest(near);
            self.report.problems.push(problem.of(route.key()));
        }
        found
    }

    fn backend(
        &mut self,
        route: Held<'a, HttpRoute>,
        at: &str,
        backend: &BackendRef,
        faults: &mut Vec<Refusal>,
    ) -> Backend {
        let target = self.backend_target(route, at, backend);
        let target = target.map_err(|(fault, problem)| {
            let reason = match fault {
                BackendFault::BackendNotFound => "BackendNotFound",
                BackendFault::RefNotPermitted => "RefNotPermitted",
                BackendFault::InvalidKind => "InvalidKind",
            };
            faults.push((reason, problem.message.clone()));
            self.report.problems.push(problem.of(route.key()));
            fault
        });
        let (request_headers, response_headers) = edits(&backend.filters);
        Backend { weight: backend.weight, target, request_headers, response_headers }
    }

    fn backend_target(
        &self,
        route: Held<'a, HttpRoute>,
        at: &str,
        backend: &BackendRef,
    ) -> Result<ServicePortKey, (BackendFault, Problem)> {
        let warn = |field: &str, message: String| {
            Problem::warning("backend", &route.at(&format!("{at}/{field}")), message)
        };
        let (kind, group) = (backend.kind.as_str(), backend.group.as_str());
        if (kind, group) != ("Service", "") {
            let problem =
                warn("kind", format!("a backend cannot be a {kind}: its requests get 500"));
            return Err((
                BackendFault::InvalidKind,
                problem.expected("`Service`").nearest(nearest(kind, ["Service"])),
            ));
        }
        let namespace =
            backend.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
        let name = backend.name.0.as_str();
        let reference = Reference {
            from_kind: "HTTPRoute",
            from_namespace: route.namespace(),
            to_kind: "Service",
            to_namespace: namespace,
            to_name: name,
        };
        // Before anything is said about what is there: another namespace's names are its own.
        if !permits(self.resources, reference) {
            let message = format!(
                "no ReferenceGrant in {namespace} lets routes of {} use Service {name}: its requests get 500",
                route.namespace()
            );
            return Err((BackendFault::RefNotPermitted, warn("namespace", message)));
        }
        let port = backend.port.unwrap_or_default();
        let key = ServicePortKey { namespace: namespace.to_owned(), name: name.to_owned(), port };
        if self.services.contains_key(&key) {
            return Ok(key);
        }
        let problem = match self.resources.get::<Service>(namespace, name) {
            None => {
                let near = nearest(name, self.resources.names::<Service>(namespace));
                warn(
                    "name",
                    format!("there is no Service {namespace}/{name}: its requests get 500"),
                )
                .nearest(near)
            }
            Some(service) => {
                let ports: Vec<String> =
                    service.spec.ports.iter().map(|port| port.port.to_string()).collect();
                warn(
                    "port",
                    format!(
                        "Service {namespace}/{name} has no TCP port {port}: its requests get 500"
                    ),
                )
                .expected(crate::read::one_of(ports.iter().map(String::as_str)))
            }
        };
        Err((BackendFault::BackendNotFound, problem))
    }
}

/// Whether a parentRef names this listener.
fn selects(parent: &ParentRef, placed: &Placed<'_>) -> bool {
    parent.section_name.as_ref().is_none_or(|section| section.0 == placed.listener.name.0)
        && parent.port.is_none_or(|port| port == placed.listener.port)
}

/// Whether a listener lets this route attach.
fn allows(placed: &Placed<'_>, route: Held<'_, HttpRoute>) -> bool {
    let allowed = &placed.listener.allowed_routes;
    let from = match allowed.namespaces.from {
        FromNamespaces::All => true,
        FromNamespaces::Same => placed.gateway.namespace() == route.namespace(),
        FromNamespaces::None => false,
    };
    let group = |group: &Option<String>| {
        group.as_deref().is_none_or(|group| group == "gateway.networking.k8s.io")
    };
    from && (allowed.kinds.is_empty()
        || allowed.kinds.iter().any(|kind| kind.kind == "HTTPRoute" && group(&kind.group)))
}

/// `0s` means without bound (GEP-1742).
fn bound(duration: Option<&Parsed<GatewayDuration>>) -> Option<Duration> {
    duration.map(|duration| duration.0).filter(|duration| !duration.is_zero())
}

/// What a match means. Expressions were checked when they were read; one that does not compile
/// would never match.
fn compile(when: &RouteMatch) -> Option<Match> {
    let text = |kind: ValueMatchType, value: &str| {
        Some(match kind {
            ValueMatchType::Exact => TextMatch::Exact(value.to_owned()),
            ValueMatchType::RegularExpression => TextMatch::Regex(RegexText::parse(value).ok()?),
        })
    };
    let path = match when.path.kind {
        PathMatchType::Exact => PathMatch::Exact(when.path.value.clone()),
        PathMatchType::PathPrefix => PathMatch::prefix(&when.path.value),
        PathMatchType::RegularExpression => {
            PathMatch::Regex(RegexText::parse(&when.path.value).ok()?)
        }
    };
    let headers = when
        .headers
        .iter()
        .map(|header| Some((header.name.0.clone(), text(header.kind, &header.value)?)));
    let query = when
        .query_params
        .iter()
        .map(|query| Some((query.name.clone(), text(query.kind, &query.value)?)));
    Some(Match {
        path,
        method: when.method.map(Into::into),
        headers: headers.collect::<Option<_>>()?,
        query: query.collect::<Option<_>>()?,
    })
}

/// Header edits of a list of filters: request side, response side.
fn edits(filters: &[RouteFilter]) -> (HeaderEdits, HeaderEdits) {
    let first = |pick: fn(&RouteFilter) -> Option<&HeaderModifier>| {
        filters.iter().find_map(pick).map(header_edits).unwrap_or_default()
    };
    (
        first(|filter| filter.request_header_modifier.as_ref()),
        first(|filter| filter.response_header_modifier.as_ref()),
    )
}

fn header_edits(written: &HeaderModifier) -> HeaderEdits {
    let pairs = |edits: &[crate::resource::route::HeaderEdit]| {
        edits.iter().map(|edit| (edit.name.0.clone(), edit.value.0.clone())).collect()
    };
    HeaderEdits {
        set: pairs(&written.set),
        add: pairs(&written.add),
        remove: written.remove.iter().map(|name| name.0.clone()).collect(),
    }
}
