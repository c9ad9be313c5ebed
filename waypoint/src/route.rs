//! Stage 4: which rule a request follows, and to which service.
//!
//! Takes a request's head and the snapshot; gives a [`Destination`]. It refuses with 404 where no
//! route matches and 500 where the route cannot be resolved, as the Gateway API says. It is pure,
//! so dropping a request here loses nothing.

use std::sync::Arc;

use http::header::HeaderName;
use http::request;
use waypoint_policies::{
    Backend, Cors, EntranceKind, Facts, FilterKey, Redirect, Rule, Selection, ServicePortKey, rank,
};

use crate::error::RequestError;
use crate::snapshot::{FilterSlot, ServedEntrance, ServedService, Snapshot};

/// Where a request goes.
#[derive(Clone)]
pub struct Destination {
    /// The rule that matched; `None` when a service's own entrance has no routes.
    pub rule: Option<Arc<Rule>>,
    /// What answers.
    pub onward: Onward,
    /// The rule's id, or the service's name: for records.
    pub id: Arc<str>,
}

/// What answers a request that has run its filters.
#[derive(Clone)]
pub enum Onward {
    /// An endpoint of a service.
    Service {
        /// Which backend of the rule was chosen.
        backend: usize,
        /// The service.
        service: Arc<ServedService>,
    },
    /// We do: the rule redirects.
    Redirect(Arc<Redirect>),
    /// We do: a script asks what the rule would allow.
    Preflight,
}

/// Chooses the rule and its backend. `pick` decides between weighted backends: the same number
/// gives the same backend, so that a repeated selection does not wander.
///
/// # Errors
///
/// [`RequestError::NoHost`], [`RequestError::NoRoute`], [`RequestError::NoBackend`],
/// [`RequestError::BackendUnusable`], [`RequestError::PolicyRefused`].
pub fn select(
    snapshot: &Snapshot,
    entrance: &ServedEntrance,
    parts: &request::Parts,
    sni: Option<&str>,
    pick: u32,
) -> Result<Destination, RequestError> {
    let host = parts.uri.host().unwrap_or_default();
    let facts = Facts {
        host,
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        sni,
    };
    match entrance.model.routes.select(&facts) {
        Selection::Rule(rule) => follow(snapshot, rule, parts, pick),
        Selection::Direct => direct(snapshot, entrance),
        Selection::NoHost => Err(RequestError::NoHost),
        Selection::Misdirected => Err(RequestError::Misdirected),
        Selection::NoRule => Err(RequestError::NoRoute),
    }
}

fn follow(
    snapshot: &Snapshot,
    rule: &Arc<Rule>,
    parts: &request::Parts,
    pick: u32,
) -> Result<Destination, RequestError> {
    if let Some(resource) = snapshot.denied_routes.get(&rule.route) {
        return Err(RequestError::PolicyRefused { resource: resource.clone() });
    }
    let to = |onward| {
        let (rule, id) = (Some(Arc::clone(rule)), Arc::clone(&rule.id));
        Ok(Destination { rule, onward, id })
    };
    if rule.cors.is_some() && Cors::is_preflight(&parts.method, &parts.headers) {
        return to(Onward::Preflight);
    }
    if let Some(redirect) = &rule.redirect {
        return to(Onward::Redirect(Arc::clone(redirect)));
    }
    let name = || rule.id.to_string();
    let backend = rule.pick(pick).ok_or_else(|| RequestError::NoBackend { rule: name() })?;
    let key = rule.backends[backend]
        .target
        .as_ref()
        .map_err(|fault| RequestError::BackendUnusable { rule: name(), fault: *fault })?;
    let service =
        service(snapshot, key)?.ok_or_else(|| RequestError::NoBackend { rule: name() })?;
    to(Onward::Service { backend, service })
}

/// A service's own entrance without routes leads to the service itself.
fn direct(snapshot: &Snapshot, entrance: &ServedEntrance) -> Result<Destination, RequestError> {
    let EntranceKind::Service(key) = &entrance.model.kind else {
        return Err(RequestError::NoRoute);
    };
    let service = service(snapshot, key)?.ok_or(RequestError::EntranceGone)?;
    let id = Arc::clone(&entrance.model.name);
    Ok(Destination { rule: None, onward: Onward::Service { backend: 0, service }, id })
}

fn service(
    snapshot: &Snapshot,
    key: &ServicePortKey,
) -> Result<Option<Arc<ServedService>>, RequestError> {
    match snapshot.denied_services.get(key) {
        Some(resource) => Err(RequestError::PolicyRefused { resource: resource.clone() }),
        None => Ok(snapshot.services.get(key).cloned()),
    }
}

impl Destination {
    /// The chosen backend of the rule.
    pub fn backend(&self) -> Option<&Backend> {
        match self.onward {
            Onward::Service { backend, .. } => self.rule.as_ref()?.backends.get(backend),
            Onward::Redirect(_) | Onward::Preflight => None,
        }
    }

    /// The service that answers.
    pub fn service(&self) -> Option<&Arc<ServedService>> {
        match &self.onward {
            Onward::Service { service, .. } => Some(service),
            Onward::Redirect(_) | Onward::Preflight => None,
        }
    }

    /// `cors` of the rule.
    pub fn cors(&self) -> Option<&Arc<Cors>> {
        self.rule.as_ref()?.cors.as_ref()
    }

    /// The filters that this destination demands beyond the entrance's: the route's and the
    /// service's own, together in the order of their phases and priorities.
    pub fn demanded(&self, snapshot: &Snapshot) -> Vec<FilterSlot> {
        let rule: &[FilterKey] = self.rule.as_ref().map_or(&[], |rule| &rule.filters);
        let service: &[FilterKey] = self.service().map_or(&[], |service| &service.model.filters);
        let keys = rule.iter().chain(service.iter().filter(|key| !rule.contains(key)));
        let mut slots: Vec<FilterSlot> =
            keys.filter_map(|key| snapshot.filters.get(key).cloned()).collect();
        if !rule.is_empty() && !service.is_empty() {
            // A filter that cannot run has no rank: it refuses first.
            slots.sort_by_cached_key(|slot| slot.active().map(|filter| rank(&filter.config)));
        }
        slots
    }
}

/// What a route was chosen by. When a later filter changes any of it, the route is chosen again.
#[derive(PartialEq, Eq)]
pub struct Basis {
    method: http::Method,
    uri: http::Uri,
    headers: Vec<Option<http::HeaderValue>>,
}

impl Basis {
    /// What routes and rules of this entrance read of a head. Of a header that is repeated, the
    /// count and the first value.
    pub fn of(entrance: &ServedEntrance, parts: &request::Parts) -> Self {
        let names: &[HeaderName] = entrance.model.routes.header_names();
        let headers = names
            .iter()
            .flat_map(|name| {
                let mut values = parts.headers.get_all(name).iter().cloned().map(Some);
                let first = values.next().unwrap_or(None);
                std::iter::once(first).chain(values).collect::<Vec<_>>()
            })
            .collect();
        Self { method: parts.method.clone(), uri: parts.uri.clone(), headers }
    }
}
