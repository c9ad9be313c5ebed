//! Stage 4: which rule a request follows, and to which service.
//!
//! Takes a request's head and the snapshot; gives a [`Destination`]. It refuses with 404 where no
//! route matches and 500 where the route cannot be resolved, as the Gateway API says. It is pure,
//! so dropping a request here loses nothing.

use std::ops::Deref;
use std::sync::Arc;

use http::Request;
use http::header::HeaderName;
use waypoint_policies::{
    Actions, Backend, Cors, EntranceKind, Facts, FilterKey, Redirect, Rewrite, Rule, Selection,
    ServicePortKey, rank,
};

use crate::codec::body::Body;
use crate::codec::hygiene;
use crate::error::RequestError;
use crate::snapshot::{FilterSlot, ServedEntrance, ServedService, Snapshot};

/// Where a request goes.
#[derive(Clone)]
pub struct Destination {
    /// What sent it there.
    pub route: RouteId,
    /// Which backend of the rule was chosen; `None` where the rule answers itself, or is none.
    pub backend: Option<usize>,
    /// What answers.
    pub onward: Onward,
}

/// What sends a request on. As text it is the rule's id, or else the entrance's name: a rule's id is
/// read only where somebody asks for it, for among thousands it is in no cache.
#[derive(Clone)]
pub enum RouteId {
    /// The rule that matched.
    Rule(Arc<Rule>),
    /// A service's own entrance without routes, or any where we answer for ourselves.
    Entrance(Arc<str>),
}

impl Deref for RouteId {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Rule(rule) => &rule.id,
            Self::Entrance(name) => name,
        }
    }
}

/// What answers a request that has run its filters.
#[derive(Clone)]
pub enum Onward {
    /// An endpoint of a service.
    Service(Arc<ServedService>),
    /// We do: the rule or its backend redirects.
    Redirect(Arc<Redirect>),
    /// We do: a script asks what the rule or its backend would allow.
    Preflight,
    /// We do: it is us whom the client asks, and not what is behind us.
    Waypoint,
}

/// Chooses the rule and its backend. A request that its client lets go no further is for us, and so
/// is one for the server as a whole: `*` names nothing that a rule could be for. `pick` decides between weighted backends: the same number
/// gives the same backend, so that a repeated selection does not wander.
///
/// # Errors
///
/// [`RequestError::NoHost`], [`RequestError::NoRoute`], [`RequestError::NoBackend`],
/// [`RequestError::BackendUnusable`], [`RequestError::PolicyRefused`].
///
/// # Source
///
/// RFC 9110, 7.6.2 and 9.3.7.
pub fn select(
    snapshot: &Snapshot,
    entrance: &ServedEntrance,
    request: &Request<Body>,
    sni: Option<&str>,
    pick: u32,
) -> Result<Destination, RequestError> {
    let host = request.uri().host().unwrap_or_default();
    let facts = Facts {
        host,
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        sni,
    };
    let ends_here = hygiene::ends_here(request.method(), request.headers());
    match entrance.model.routes.select(&facts) {
        Selection::NoHost => Err(RequestError::NoHost),
        Selection::Misdirected => Err(RequestError::Misdirected),
        _ if ends_here => Ok(ourselves(entrance)),
        Selection::Direct => direct(snapshot, entrance),
        _ if facts.path == "*" => Ok(ourselves(entrance)),
        Selection::Rule(rule) => follow(snapshot, rule, request, pick),
        Selection::NoRule => Err(RequestError::NoRoute),
    }
}

fn follow(
    snapshot: &Snapshot,
    rule: &Arc<Rule>,
    request: &Request<Body>,
    pick: u32,
) -> Result<Destination, RequestError> {
    if let Some(resource) = snapshot.denied_routes.get(&*rule.route) {
        return Err(RequestError::PolicyRefused { resource: resource.clone() });
    }
    let to = |backend, onward| {
        Ok(Destination { route: RouteId::Rule(Arc::clone(rule)), backend, onward })
    };
    if let Some(onward) = answer(&rule.actions, request) {
        return to(None, onward);
    }
    let name = || rule.id.to_string();
    let backend = rule.pick(pick).ok_or_else(|| RequestError::NoBackend { rule: name() })?;
    let chosen = &rule.backends[backend];
    let key = chosen
        .target
        .as_ref()
        .map_err(|fault| RequestError::BackendUnusable { rule: name(), fault: *fault })?;
    let service =
        service(snapshot, key)?.ok_or_else(|| RequestError::NoBackend { rule: name() })?;
    let onward = answer(&chosen.actions, request).unwrap_or(Onward::Service(service));
    to(Some(backend), onward)
}

/// What a rule or a backend answers itself, in the place of an upstream.
fn answer(actions: &Actions, request: &Request<Body>) -> Option<Onward> {
    if actions.cors.is_some() && Cors::is_preflight(request.method(), request.headers()) {
        return Some(Onward::Preflight);
    }
    actions.redirect.as_ref().map(|redirect| Onward::Redirect(Arc::clone(redirect)))
}

/// A service's own entrance without routes leads to the service itself.
fn direct(snapshot: &Snapshot, entrance: &ServedEntrance) -> Result<Destination, RequestError> {
    let EntranceKind::Service(key) = &entrance.model.kind else {
        return Err(RequestError::NoRoute);
    };
    let service = service(snapshot, key)?.ok_or(RequestError::EntranceGone)?;
    let route = RouteId::Entrance(Arc::clone(&entrance.model.name));
    Ok(Destination { route, backend: None, onward: Onward::Service(service) })
}

fn ourselves(entrance: &ServedEntrance) -> Destination {
    let route = RouteId::Entrance(Arc::clone(&entrance.model.name));
    Destination { route, backend: None, onward: Onward::Waypoint }
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
    /// The rule that matched.
    pub fn rule(&self) -> Option<&Rule> {
        match &self.route {
            RouteId::Rule(rule) => Some(rule),
            RouteId::Entrance(_) => None,
        }
    }

    /// The chosen backend of the rule.
    pub fn backend(&self) -> Option<&Backend> {
        self.rule()?.backends.get(self.backend?)
    }

    /// What the rule does, then what its chosen backend does.
    pub fn actions(&self) -> impl DoubleEndedIterator<Item = &Actions> {
        let rule = self.rule().map(|rule| &*rule.actions);
        rule.into_iter().chain(self.backend().map(|backend| &*backend.actions))
    }

    /// `urlRewrite` of the backend, which has that of its rule in it, or else of the rule.
    pub fn rewrite(&self) -> Option<&Rewrite> {
        self.actions().next_back()?.rewrite.as_ref()
    }

    /// The service that answers.
    pub fn service(&self) -> Option<&Arc<ServedService>> {
        match &self.onward {
            Onward::Service(service) => Some(service),
            Onward::Redirect(_) | Onward::Preflight | Onward::Waypoint => None,
        }
    }

    /// `cors` of the rule, or else of the backend.
    pub fn cors(&self) -> Option<&Arc<Cors>> {
        self.actions().find_map(|actions| actions.cors.as_ref())
    }

    /// The filters that this destination demands beyond the entrance's: the route's, the backend's
    /// and the service's own, together in the order of their phases and priorities.
    pub fn demanded(&self, snapshot: &Snapshot) -> Vec<FilterSlot> {
        let rule: &[FilterKey] = self.rule().map_or(&[], |rule| &rule.filters);
        let backend: &[FilterKey] = self.backend().map_or(&[], |backend| &backend.filters);
        let service: &[FilterKey] = self.service().map_or(&[], |service| &service.model.filters);
        let backend_only = backend.iter().filter(|key| !rule.contains(key));
        let service_only =
            service.iter().filter(|key| !rule.contains(key) && !backend.contains(key));
        let keys = rule.iter().chain(backend_only).chain(service_only);
        let mut slots: Vec<FilterSlot> =
            keys.filter_map(|key| snapshot.filters.get(key).cloned()).collect();
        let lists = [rule, backend, service];
        if 1 < lists.iter().filter(|list| !list.is_empty()).count() {
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
    pub fn of(entrance: &ServedEntrance, request: &Request<Body>) -> Self {
        let names: &[HeaderName] = entrance.model.routes.header_names();
        let headers = names
            .iter()
            .flat_map(|name| {
                let mut values = request.headers().get_all(name).iter().cloned().map(Some);
                let first = values.next().unwrap_or(None);
                std::iter::once(first).chain(values).collect::<Vec<_>>()
            })
            .collect();
        Self { method: request.method().clone(), uri: request.uri().clone(), headers }
    }
}
