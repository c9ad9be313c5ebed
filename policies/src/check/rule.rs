//! Rules of routes: what they match, what they do, where requests go.

use std::sync::Arc;

use http::HeaderValue;

use super::Checker;
use super::grant::{Reference, permits};
use crate::model::{
    Backend, BackendFault, FilterKey, HeaderEdits, Mirror, ResourceKey, Rule, ServicePortKey,
};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::route::filter::{
    CorsFilter, HeaderEdit, HeaderModifier, PathModifier, PathModifierType, RedirectScheme,
    RequestRedirect, RouteFilter, UrlRewrite,
};
use crate::resource::route::{
    BackendRef, HttpRoute, PathMatchType, RouteMatch, RouteRule, ValueMatchType,
};
use crate::resource::service::Service;
use crate::resource::{Held, filter};
use crate::route::{
    Allowed, Cors, Match, PathEdit, PathMatch, Redirect, Rewrite, Seniority, TextMatch,
};
use crate::status::Refusal;
use crate::text::{Format, HeaderNameText, Parsed, RegexText};

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
        let named = self.named_filters(route, index, rule, faults);
        let backends = rule.backend_refs.iter().enumerate();
        let mut backends: Vec<Backend> = backends
            .map(|(number, backend)| {
                self.backend(
                    route,
                    &format!("spec/rules/{index}/backendRefs/{number}"),
                    backend,
                    "its requests get 500",
                    faults,
                )
            })
            .collect();
        if named.is_none() {
            // A filter that cannot be found must not be skipped (Gateway API): the rule answers 500.
            backends.clear();
        }
        let mirrors = self.mirrors(route, index, rule, faults);
        let (request_headers, response_headers) = edits(&rule.filters);
        // A filter that cannot be found is not skipped by what the rule answers itself either.
        let answers = &rule.filters[..if named.is_some() { rule.filters.len() } else { 0 }];
        let redirect = answers.iter().find_map(|filter| filter.request_redirect.as_ref());
        let cors = answers.iter().find_map(|filter| filter.cors.as_ref());
        let ready = Rule {
            id: format!("{}/{}/{label}", key.namespace, key.name).into(),
            route: key.clone(),
            filters: self.attached.of_rule(key, named.unwrap_or_default()),
            request_headers,
            response_headers,
            rewrite: rule.filters.iter().find_map(|filter| {
                filter.url_rewrite.as_ref().map(|rewrite| rewriting(rewrite, rule))
            }),
            cors: cors.map(|cors| Arc::new(cross_origin(cors))),
            mirrors,
            redirect: redirect.map(|redirect| Arc::new(redirection(redirect, rule))),
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
            if self.resources.refused.get(&key).is_some_and(|refused| refused.denies) {
                self.denied_routes.entry(key).or_default().insert(route.key().clone());
                continue;
            }
            let place = route.at(&format!("spec/rules/{index}/filters/{number}/extensionRef/name"));
            let near = nearest(name, self.resources.names::<filter::Filter>(namespace));
            let problem = Problem::error("unknown-reference", &place, message).nearest(near);
            self.unknown("Filter", namespace, name, problem.of(route.key()));
        }
        found
    }

    /// Who gets copies; one that cannot be resolved is left out, as the Gateway API says.
    fn mirrors(
        &mut self,
        route: Held<'a, HttpRoute>,
        index: usize,
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for (number, filter) in rule.filters.iter().enumerate() {
            let Some(mirror) = &filter.request_mirror else { continue };
            const LOST: &str = "it gets no copies";
            let at = format!("spec/rules/{index}/filters/{number}/requestMirror/backendRef");
            let backend = mirror.backend_ref.backend();
            let Ok(target) = self.backend(route, &at, &backend, LOST, faults).target else {
                continue;
            };
            let fraction = mirror.fraction.as_ref();
            let fraction = fraction.map(|fraction| (fraction.numerator, fraction.denominator));
            let share = fraction.unwrap_or((mirror.percent.unwrap_or(100), 100));
            mirrors.push(Mirror { target, share });
        }
        mirrors
    }

    fn backend(
        &mut self,
        route: Held<'a, HttpRoute>,
        at: &str,
        backend: &BackendRef,
        lost: &str,
        faults: &mut Vec<Refusal>,
    ) -> Backend {
        let target = self.backend_target(route, at, backend, lost);
        let target = target.map_err(|(fault, problem)| {
            let reason = match fault {
                BackendFault::BackendNotFound => "BackendNotFound",
                BackendFault::RefNotPermitted => "RefNotPermitted",
                BackendFault::InvalidKind => "InvalidKind",
            };
            faults.push((reason, problem.message.clone()));
            let namespace =
                backend.namespace.as_ref().map_or(route.namespace(), |name| name.0.as_str());
            // A Service without a port was reported when the route was read.
            if backend.kind != "Service" || backend.port.is_some() {
                self.unknown(&backend.kind, namespace, &backend.name.0, problem.of(route.key()));
            }
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
        lost: &str,
    ) -> Result<ServicePortKey, (BackendFault, Box<Problem>)> {
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
        if self.services.contains_key(&key) {
            return Ok(key);
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
    let pairs = |edits: &[HeaderEdit]| {
        edits.iter().map(|edit| (edit.name.0.clone(), edit.value.0.clone())).collect()
    };
    HeaderEdits {
        set: pairs(&written.set),
        add: pairs(&written.add),
        remove: written.remove.iter().map(|name| name.0.clone()).collect(),
    }
}

fn redirection(written: &RequestRedirect, rule: &RouteRule) -> Redirect {
    let scheme = |scheme| match scheme {
        RedirectScheme::Http => http::uri::Scheme::HTTP,
        RedirectScheme::Https => http::uri::Scheme::HTTPS,
    };
    Redirect {
        scheme: written.scheme.map(scheme),
        hostname: written.hostname.as_ref().map(|name| name.0.clone()),
        path: written.path.as_ref().map(|path| path_edit(path, rule)),
        port: written.port,
        status: written.status_code,
    }
}

fn rewriting(written: &UrlRewrite, rule: &RouteRule) -> Rewrite {
    Rewrite {
        hostname: written.hostname.as_ref().map(|name| name.0.clone()),
        path: written.path.as_ref().map(|path| path_edit(path, rule)),
    }
}

fn cross_origin(written: &CorsFilter) -> Cors {
    let headers = |names: &[Parsed<HeaderNameText>]| {
        allowed(&names.iter().map(|name| name.0.as_str()).collect::<Vec<_>>())
    };
    Cors {
        origins: written.allow_origins.iter().map(|origin| origin.0.clone()).collect(),
        credentials: written.allow_credentials,
        methods: allowed(&written.allow_methods.iter().map(|m| m.name()).collect::<Vec<_>>()),
        headers: headers(&written.allow_headers),
        exposed: headers(&written.expose_headers),
        max_age: written.max_age,
    }
}

fn allowed(names: &[&str]) -> Allowed {
    match names {
        [] => Allowed::None,
        ["*"] => Allowed::All,
        names => HeaderValue::from_str(&names.join(", ")).map_or(Allowed::None, Allowed::Names),
    }
}

/// That a prefix is replaced only where the rule has one was checked when it was read.
fn path_edit(written: &PathModifier, rule: &RouteRule) -> PathEdit {
    match written.kind {
        PathModifierType::ReplaceFullPath => {
            PathEdit::Full(written.replace_full_path.clone().unwrap_or_default())
        }
        PathModifierType::ReplacePrefixMatch => {
            let every = RouteMatch::default();
            let matched = rule.matches.first().unwrap_or(&every).path.value.clone();
            let replacement = written.replace_prefix_match.clone().unwrap_or_default();
            PathEdit::Prefix { matched, replacement }
        }
    }
}
