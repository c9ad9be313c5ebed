//! Rules of routes: what they match and where requests go.

mod actions;

use std::sync::Arc;

use smallvec::SmallVec;

use super::Checker;
use super::grant::{Reference, permits};
use crate::model::{Backend, BackendFault, Rule, ServicePortKey};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::Held;
use crate::resource::route::{
    BackendRef, HttpRoute, PathMatchType, RouteMatch, RouteRule, ValueMatchType,
};
use crate::resource::service::Service;
use crate::route::{Match, PathMatch, Seniority, TextMatch};
use crate::status::Refusal;
use crate::text::{Format, RegexText};

/// A rule with its matches, ready to be attached.
pub(super) struct Ready {
    pub rule: Arc<Rule>,
    pub matches: Vec<(Match, Seniority)>,
}

impl<'a> Checker<'a> {
    pub(super) fn rule(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Ready {
        let label = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.0.clone());
        let key = route.key();
        let at = format!("spec/rules/{index}");
        let named = self.named_filters(route, &at, &rule.filters, faults);
        let mut actions = self.actions(route, &at, &rule.filters, rule, faults);
        let backends = (0..).zip(&rule.backend_refs);
        let mut backends: SmallVec<[Backend; 1]> = backends
            .map(|(number, backend)| self.backend(route, (index, number), backend, rule, faults))
            .collect();
        if named.is_none() {
            // A filter that cannot be found must not be skipped (Gateway API): the rule answers 500,
            // and answers nothing itself either.
            backends.clear();
            (actions.redirect, actions.cors) = (None, None);
        }
        if let Some(rewrite) = &actions.rewrite {
            for backend in &mut backends {
                Arc::make_mut(&mut backend.actions).inherit_rewrite(rewrite);
            }
        }
        let ready = Rule {
            id: format!("{}/{}/{label}", key.namespace, key.name).into(),
            route: Box::new(key.clone()),
            filters: self.attached.of_rule(key, named.unwrap_or_default()),
            actions: actions.shared(),
            request_timeout: rule.timeouts.request(),
            backend_timeout: rule.timeouts.backend_request(),
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

    /// A backend with its own filters; one of them that is not there makes it answer 500.
    fn backend(
        &mut self,
        route: Held<'a, HttpRoute>,
        (index, number): (usize, usize),
        backend: &BackendRef,
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Backend {
        let at = format!("spec/rules/{index}/backendRefs/{number}");
        let target = self.target(route, &at, backend, "its requests get 500", faults);
        let named = self.named_filters(route, &at, &backend.filters, faults);
        let actions = self.actions(route, &at, &backend.filters, rule, faults).shared();
        let target = target.and_then(|key| match named {
            Some(_) => Ok(key),
            None => Err(BackendFault::FilterNotFound),
        });
        let filters = self.attached.in_order(named.unwrap_or_default());
        Backend { weight: backend.weight, target, filters, actions }
    }

    /// The service port that a reference means; what is wrong with it is told.
    fn target(
        &mut self,
        route: Held<'a, HttpRoute>,
        at: &str,
        backend: &BackendRef,
        lost: &str,
        faults: &mut Vec<Refusal>,
    ) -> Result<Arc<ServicePortKey>, BackendFault> {
        self.backend_target(route, at, backend, lost).map_err(|(fault, problem)| {
            faults.push((fault.reason(), problem.message.clone()));
            let namespace =
                backend.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
            // A Service without a port was reported when the route was read.
            if backend.kind != "Service" || backend.port.is_some() {
                self.unknown(&backend.kind, namespace, &backend.name.0, problem.of(route.key()));
            }
            fault
        })
    }

    fn backend_target(
        &self,
        route: Held<'a, HttpRoute>,
        at: &str,
        backend: &BackendRef,
        lost: &str,
    ) -> Result<Arc<ServicePortKey>, (BackendFault, Box<Problem>)> {
        let warn = |field: &str, message: String| {
            Problem::warning("backend", &route.at(&format!("{at}/{field}")), message)
        };
        let (kind, group) = (backend.kind.as_str(), backend.group.as_str());
        if (kind, group) != ("Service", "") {
            let problem = warn("kind", format!("a backend cannot be a {kind}: {lost}"));
            return Err((
                BackendFault::InvalidKind,
                Box::new(problem.expected("`Service`").nearest(nearest(kind, ["Service"]))),
            ));
        }
        let namespace =
            backend.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
        let name = backend.name.0.as_str();
        let reference = Reference {
            from_kind: &route.key().kind,
            from_namespace: route.namespace(),
            to_kind: "Service",
            to_namespace: namespace,
            to_name: name,
        };
        // Before anything is said about what is there: another namespace's names are its own.
        if !permits(self.resources, reference) {
            let message = format!(
                "no ReferenceGrant in {namespace} lets routes of {} use Service {name}: {lost}",
                route.namespace()
            );
            return Err((BackendFault::RefNotPermitted, Box::new(warn("namespace", message))));
        }
        let port = backend.port.unwrap_or_default();
        let key = ServicePortKey { namespace: namespace.to_owned(), name: name.to_owned(), port };
        if let Some(draft) = self.services.get(&key) {
            return Ok(Arc::clone(&draft.key));
        }
        let problem = match self.resources.get::<Service>(namespace, name) {
            None => {
                let near = nearest(name, self.resources.names::<Service>(namespace));
                warn("name", format!("there is no Service {namespace}/{name}: {lost}"))
                    .nearest(near)
            }
            Some(service) => {
                let ports: Vec<String> =
                    service.spec.ports.iter().map(|port| port.port.to_string()).collect();
                warn("port", format!("Service {namespace}/{name} has no TCP port {port}: {lost}"))
                    .expected(crate::read::one_of(ports.iter().map(String::as_str)))
            }
        };
        Err((BackendFault::BackendNotFound, Box::new(problem)))
    }
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
        PathMatchType::AnyService => PathMatch::AnyService(when.path.value.clone()),
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
