//! Routes: where they attach, and what their rules mean.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use super::gateway::Placed;
use super::rule::Ready;
use crate::model::{Hostname, ResourceKey, ServicePortKey};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::gateway::{FromNamespaces, Gateway};
use crate::resource::grpc_route::GrpcRoute;
use crate::resource::namespace::Namespace;
use crate::resource::route::{HttpRoute, ParentRef};
use crate::resource::service::Service;
use crate::resource::{Held, Kind as _};
use crate::route::{TableBuilder, intersect};
use crate::status::{CONTROLLER_NAME, Condition, ParentStatus, Reference, Refusal};

impl<'a> Checker<'a> {
    pub(super) fn routes(&mut self) {
        let grpc = self.resources.each::<GrpcRoute>().map(|route| route.http());
        let mut routes: Vec<_> = self.resources.each::<HttpRoute>().chain(grpc).collect();
        // The older first: of two kinds of routes a listener takes the older one.
        routes.sort_by_key(|route| (&route.resource.created, route.resource.order));
        for route in routes {
            let mut faults = Vec::new();
            let rules: Vec<Ready> = (0..)
                .zip(&route.spec.rules)
                .map(|(index, rule)| self.rule(route, index, rule, &mut faults))
                .collect();
            let resolved = faults.into_iter().next().map_or(Ok(()), Err);
            self.parents(route, &rules, &resolved);
        }
    }

    /// Attaches a route to each of its parents.
    fn parents(
        &mut self,
        route: Held<'a, HttpRoute>,
        rules: &[Ready],
        resolved: &Result<(), Refusal>,
    ) {
        let mut taken = BTreeSet::new();
        for (index, parent) in route.spec.parent_refs.iter().enumerate() {
            let accepted = if parent.kind == "Service" {
                self.service_parent(route, index, parent, rules)
            } else {
                self.gateway_parent(route, index, parent, rules, &mut taken)
            };
            let conditions = Condition::accepted_and_resolved(accepted, resolved.clone());
            let parent_ref = reference(parent, route);
            let controller_name = CONTROLLER_NAME;
            let status = ParentStatus { parent_ref, controller_name, conditions };
            self.report.statuses.of(route.key()).parents.push(status);
        }
        // Where something is wrong already, the parent may be in that.
        if route.spec.parent_refs.is_empty() && !self.resources.refused.contains_key(route.key()) {
            let message = "the route has no parent: nothing reaches it";
            let problem = Problem::warning("no-parent", &route.at("metadata/name"), message);
            let expected = "`parentRefs` with a Gateway or a Service";
            self.report.problems.push(problem.expected(expected).of(route.key()));
        }
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
        let allowed: Vec<_> =
            wanted.into_iter().filter(|placed| self.allows(placed, route)).collect();
        if allowed.is_empty() {
            let message =
                format!("no listener of {} allows this route (`allowedRoutes`)", gateway.key());
            return Err(self.unattached(route, index, "NotAllowedByListeners", message));
        }
        let mut attached = false;
        let mut conflict = None;
        for placed in allowed {
            if let Some(other) = self.held_by_another_kind(route, &placed) {
                let message = format!(
                    "{other} is older and has a host of this route on the listener `{}`: routes \
                     of two kinds cannot share one",
                    placed.listener.name.0
                );
                conflict = Some(self.unattached(route, index, "RouteConflict", message));
                continue;
            }
            if self.attach(route, &placed, rules, taken) {
                let listener = &placed.listener.name.0;
                self.report.statuses.attached(placed.gateway.key(), listener);
                attached = true;
            }
        }
        if attached {
            return Ok(());
        }
        if let Some(conflict) = conflict {
            return Err(conflict);
        }
        let message = format!("no listener of {} has a hostname of this route", gateway.key());
        Err(self.unattached(route, index, "NoMatchingListenerHostname", message))
    }

    /// Whether a listener lets this route attach.
    fn allows(&self, placed: &Placed<'_>, route: Held<'_, HttpRoute>) -> bool {
        let allowed = &placed.listener.allowed_routes;
        let from = match (allowed.namespaces.from, &allowed.namespaces.selector) {
            (FromNamespaces::All, _) => true,
            (FromNamespaces::Same, _) => placed.gateway.namespace() == route.namespace(),
            (FromNamespaces::Selector, Some(selector)) => {
                let name = route.namespace();
                let known = self.resources.get::<Namespace>("default", name);
                let unlabelled = BTreeMap::new();
                let labels = known.as_ref().map_or(&unlabelled, |held| &held.resource.labels);
                selector.selects(name, labels)
            }
            (FromNamespaces::Selector | FromNamespaces::None, _) => false,
        };
        from && allowed.takes(&route.key().kind)
    }

    fn attach(
        &mut self,
        route: Held<'a, HttpRoute>,
        placed: &Placed<'a>,
        rules: &[Ready],
        taken: &mut BTreeSet<(String, u16, Option<Hostname>)>,
    ) -> bool {
        let listener = placed.hostname();
        let hosts = hosts_on(route, listener);
        let name = (placed.gateway.namespace().to_owned(), placed.listener.port);
        let once = taken.insert((name.0.clone(), name.1, listener.cloned()));
        if let Some(slot) = self.slots.get_mut(&name).filter(|_| once) {
            let key =
                |host: &Option<&Hostname>| (listener.cloned(), route.key().clone(), host.cloned());
            slot.held.extend(hosts.iter().map(key));
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

    /// An older route of another kind that has a host of this one on the listener.
    ///
    /// # Source
    ///
    /// Gateway API, `GRPCRoute`: exactly one of the two is accepted.
    fn held_by_another_kind(
        &self,
        route: Held<'a, HttpRoute>,
        placed: &Placed<'a>,
    ) -> Option<ResourceKey> {
        let listener = placed.hostname();
        let name = (placed.gateway.namespace().to_owned(), placed.listener.port);
        let hosts = hosts_on(route, listener);
        let shares = |held: &Option<Hostname>| {
            hosts.iter().any(|host| match (host, held) {
                (Some(host), Some(held)) => intersect(host, held),
                _ => true,
            })
        };
        let others = self.slots.get(&name)?.held.iter();
        let mut others = others.filter(|(on, key, host)| {
            on.as_ref() == listener && key.kind != route.key().kind && shares(host)
        });
        others.next().map(|(_, key, _)| key.clone())
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
        let (taken, free): (Vec<_>, Vec<_>) =
            http.into_iter().partition(|key| self.has_grpc(route, key));
        if free.is_empty()
            && let Some(key) = taken.first()
        {
            let message = format!("a GRPCRoute has the port {key}: it goes before an HTTPRoute");
            return Err(self.unattached(route, index, "RouteConflict", message));
        }
        for key in free {
            self.route_reason(route.key(), &key, rules);
            self.attach_to_service(key, rules);
        }
        Ok(())
    }

    /// Whether a port of a Service belongs to a GRPCRoute, and this is none.
    ///
    /// # Source
    ///
    /// Gateway API for service mesh: of several kinds of routes the most specific one applies.
    fn has_grpc(&self, route: Held<'a, HttpRoute>, key: &ServicePortKey) -> bool {
        let draft = self.services.get(key);
        route.key().kind != GrpcRoute::KIND
            && self.resources.each::<GrpcRoute>().any(|grpc| {
                grpc.namespace() == key.namespace
                    && grpc.spec.http.parent_refs.iter().any(|parent| {
                        let section = parent.section_name.as_ref().map(|name| name.0.as_str());
                        parent.kind == "Service"
                            && parent.name.0 == key.name
                            && parent.port.is_none_or(|port| port == key.port)
                            && section.is_none_or(|name| draft.is_some_and(|d| d.name == name))
                    })
            })
    }

    /// The port names the service, so the host of a request decides nothing here: hostnames of the
    /// route are ignored (design decision 11).
    fn attach_to_service(&mut self, key: ServicePortKey, rules: &[Ready]) {
        let table = self.service_routes.entry(key).or_insert_with(|| {
            let mut table = TableBuilder::default();
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
        let parent = &route.spec.parent_refs[index];
        let namespace = parent.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
        self.unknown(&parent.kind, namespace, &parent.name.0, problem);
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
}

fn reference(parent: &ParentRef, route: Held<'_, HttpRoute>) -> Reference {
    let namespace = parent.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
    Reference {
        group: parent.group.clone(),
        kind: parent.kind.clone(),
        namespace: namespace.to_owned(),
        name: parent.name.0.clone(),
        section_name: parent.section_name.as_ref().map(|name| name.0.clone()),
        port: parent.port,
    }
}

/// The hosts of a route that a listener has; `None` = all of them.
fn hosts_on<'a>(
    route: Held<'a, HttpRoute>,
    listener: Option<&Hostname>,
) -> Vec<Option<&'a Hostname>> {
    if route.spec.hostnames.is_empty() {
        return vec![None];
    }
    let names = route.spec.hostnames.iter().map(|name| &name.0);
    let meets = |name: &&Hostname| listener.is_none_or(|listener| intersect(listener, name));
    names.filter(meets).map(Some).collect()
}

/// Whether a parentRef names this listener.
fn selects(parent: &ParentRef, placed: &Placed<'_>) -> bool {
    parent.section_name.as_ref().is_none_or(|section| section.0 == placed.listener.name.0)
        && parent.port.is_none_or(|port| port == placed.listener.port)
}
