//! What rules and their backends do by themselves.

use std::sync::Arc;

use http::HeaderValue;

use super::super::Checker;
use crate::model::{Actions, FilterKey, HeaderEdits, Mirror, ResourceKey};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::route::filter::{
    CorsFilter, HeaderEdit, HeaderModifier, PathModifier, PathModifierType, RedirectScheme,
    RequestRedirect, RouteFilter, UrlRewrite,
};
use crate::resource::route::{HttpRoute, RouteMatch, RouteRule};
use crate::resource::{Held, filter};
use crate::route::{Allowed, Cors, PathEdit, Redirect, Rewrite};
use crate::status::Refusal;
use crate::text::{HeaderNameText, Parsed};

impl<'a> Checker<'a> {
    /// What the filters of a rule, or of one of its backends, do.
    pub(super) fn actions(
        &mut self,
        route: Held<'a, HttpRoute>,
        at: &str,
        filters: &[RouteFilter],
        rule: &RouteRule,
        faults: &mut Vec<Refusal>,
    ) -> Actions {
        let edits = |pick: fn(&RouteFilter) -> Option<&HeaderModifier>| {
            filters.iter().find_map(pick).map(header_edits).unwrap_or_default()
        };
        let redirect = filters.iter().find_map(|filter| filter.request_redirect.as_ref());
        let rewrite = filters.iter().find_map(|filter| filter.url_rewrite.as_ref());
        let cors = filters.iter().find_map(|filter| filter.cors.as_ref());
        Actions {
            request_headers: edits(|filter| filter.request_header_modifier.as_ref()),
            response_headers: edits(|filter| filter.response_header_modifier.as_ref()),
            redirect: redirect.map(|redirect| Arc::new(redirection(redirect, rule))),
            rewrite: rewrite.map(|rewrite| rewriting(rewrite, rule)),
            cors: cors.map(|cors| Arc::new(cross_origin(cors))),
            mirrors: self.mirrors(route, at, filters, faults),
        }
    }

    /// Filters that a rule or a backend names; `None` when one of them is not there.
    pub(super) fn named_filters(
        &mut self,
        route: Held<'a, HttpRoute>,
        at: &str,
        filters: &[RouteFilter],
        faults: &mut Vec<Refusal>,
    ) -> Option<Vec<FilterKey>> {
        let mut found = Some(Vec::new());
        for (number, written) in filters.iter().enumerate() {
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
            let place = route.at(&format!("{at}/filters/{number}/extensionRef/name"));
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
        at: &str,
        filters: &[RouteFilter],
        faults: &mut Vec<Refusal>,
    ) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for (number, filter) in filters.iter().enumerate() {
            let Some(mirror) = &filter.request_mirror else { continue };
            const LOST: &str = "it gets no copies";
            let at = format!("{at}/filters/{number}/requestMirror/backendRef");
            let backend = mirror.backend_ref.backend();
            let Ok(target) = self.target(route, &at, &backend, LOST, faults) else { continue };
            let fraction = mirror.fraction.as_ref();
            let fraction = fraction.map(|fraction| (fraction.numerator, fraction.denominator));
            let share = fraction.unwrap_or((mirror.percent.unwrap_or(100), 100));
            mirrors.push(Mirror { target, share });
        }
        mirrors
    }
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
