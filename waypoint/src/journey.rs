//! The journey of a request: the stages, in order, in one place.
//!
//! ```text
//! codec ─► identity ─► filters of the entrance ─► route ─► filters of the route ─► authorize
//!                                                  ▲                │                  │
//!                                                  └── changed? ────┘                  ▼
//! codec ◄──────────────── filters in reverse ◄──────────────────── response ◄────── upstream
//! ```

use std::pin::pin;
use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;
use waypoint_policies::{Asked, Cors, CrossOrigin, EntranceKind, Redirect};

use crate::access_log::{Record, Records};
use crate::authorize::{self, Permitted};
use crate::codec::body::Body;
use crate::codec::{self, ConnectionInfo, Interim, Refusal, Upgrade, hygiene};
use crate::drain::unless;
use crate::error::RequestError;
use crate::filter_chain::{Chain, Interruption, StreamFacts, is_grpc};
use crate::identity::{self, TrustedHops};
use crate::memory::MemoryBudget;
use crate::mirror::{self, Mirrors, Target};
use crate::route::{self, Basis, Destination, Onward};
use crate::snapshot::{Current, ServedEntrance, Snapshot};
use crate::upstream::{Cluster, Deadlines, UpstreamError};
use crate::{grpc, response, trace};

/// How long an endpoint may take to begin its answer where the route sets nothing, from the moment at
/// which the request is there whole; gRPC streams have no such bound.
pub const RESPONSE_TIMEOUT_DEFAULT: std::time::Duration = std::time::Duration::from_secs(15);

/// How long a response's body may bring nothing before it is cut (Envoy's stream idle timeout).
pub const BODY_IDLE_DEFAULT: std::time::Duration = std::time::Duration::from_secs(300);
/// The same for gRPC, whose streams may wait long for an event.
pub const GRPC_IDLE_DEFAULT: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What every request of the process shares.
#[derive(Clone)]
pub struct Journey {
    current: Arc<Current>,
    records: Arc<Records>,
    trusted: Arc<TrustedHops>,
    memory: Arc<MemoryBudget>,
    mirrors: Mirrors,
}

impl Journey {
    /// Requests see `current`'s snapshot of their moment, are recorded in `records`, and are shed
    /// when `memory` is short; `mirrors` sends their copies.
    pub fn new(
        current: Arc<Current>,
        records: Arc<Records>,
        trusted: Arc<TrustedHops>,
        memory: Arc<MemoryBudget>,
        mirrors: Mirrors,
    ) -> Self {
        Self { current, records, trusted, memory, mirrors }
    }
}

impl codec::Journey for Journey {
    async fn call(
        &self,
        mut request: Box<Request<Body>>,
        connection: &Arc<ConnectionInfo>,
        interim: &Interim,
    ) -> Response<Body> {
        let snapshot = self.current.load();
        let mut walk = match self.begin(&mut request, &snapshot, connection, interim) {
            Ok(walk) => walk,
            Err(answer) => return *answer,
        };
        let answer = walk.up(request).await;
        walk.back(answer).await
    }

    fn refused(&self, refusal: &Refusal, connection: &ConnectionInfo) {
        self.records.refused(refusal, connection);
    }
}

impl Journey {
    /// Binds the request to its client and its trace, opens its record, and lets it in; or the answer
    /// that refuses it.
    fn begin<'a>(
        &'a self,
        request: &mut Request<Body>,
        snapshot: &'a Snapshot,
        connection: &'a Arc<ConnectionInfo>,
        interim: &'a Interim,
    ) -> Result<Walk<'a>, Box<Response<Body>>> {
        identity::bind(request.headers_mut(), connection, &self.trusted);
        let ids = trace::bind(request.headers_mut());
        // In a box: it is large, and goes from here to the end of the answer.
        let mut record = Box::new(Record::open(&self.records, connection, request, &ids));
        record.count(request);
        let entrance = snapshot.entrances.get(&connection.entrance);
        let port = entrance.map_or(0, |entrance| entrance.model.port);
        let facts = StreamFacts::new(Arc::clone(connection), request.version(), ids, port);
        let chain = Chain::new(Arc::new(facts));
        if self.memory.is_short() {
            return Err(refuse(&RequestError::MemoryShort, record, chain));
        }
        match connection.client.as_ref().map(|client| client.begin()).transpose() {
            Ok(running) => record.hold(running),
            Err(error) => return Err(refuse(&error, record, chain)),
        }
        let Some(entrance) = entrance else {
            return Err(refuse(&RequestError::EntranceGone, record, chain));
        };
        let (mirrors, cross) = (&self.mirrors, None);
        Ok(Walk { snapshot, entrance, chain, record, connection, cross, mirrors, interim })
    }
}

/// One request on its way up, and its answer on the way back.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    entrance: &'a ServedEntrance,
    chain: Chain,
    record: Box<Record>,
    connection: &'a ConnectionInfo,
    /// What the route allows to scripts of other origins, and what this request's answer depends
    /// on: known once there is a route.
    cross: Option<(Arc<Cors>, CrossOrigin)>,
    mirrors: &'a Mirrors,
    interim: &'a Interim,
}

impl Walk<'_> {
    /// The stages up to the answer of the upstream, or of the rule itself.
    async fn up(
        &mut self,
        mut request: Box<Request<Body>>,
    ) -> Result<(Destination, Response<Body>), Interruption> {
        if let Some(resource) = &self.entrance.denied_by {
            return Err(RequestError::PolicyRefused { resource: resource.clone() }.into());
        }
        self.chain.request(&self.entrance.filters, &mut request).await?;
        let destination = self.settle(&mut request).await?;
        self.record.show(&request);
        let (snapshot, entrance) = (self.snapshot, self.entrance);
        let checked = authorize::check(snapshot, entrance, &destination, &self.chain, &request)?;
        let answer = match &destination.onward {
            Onward::Service(service) => {
                let deadlines = self.deadlines(&destination, &mut request)?;
                let targets = self.mirrored(&destination, &request);
                edit(&mut request, &destination).map_err(RequestError::Upstream)?;
                self.mirrors.send(&mut request, targets);
                // They pass no filter: where one may have to clean the answer, they are dropped.
                let interim = self.chain.is_empty().then(|| self.interim.clone());
                let permitted = checked.permit(request).with_interim(interim);
                self.send(&service.cluster, permitted, deadlines).await?
            }
            Onward::Preflight => response::of_preflight(),
            Onward::Redirect(redirect) => self.redirect(redirect, &request),
            Onward::Waypoint => response::of_ourselves(request.method()),
        };
        Ok((destination, answer))
    }

    /// Chooses the route and runs its filters; when they change what it was chosen by, it is chosen
    /// again. The filters of a route run once: what the new one demands beyond them is refused by
    /// [`authorize::check`].
    async fn settle(&mut self, request: &mut Request<Body>) -> Result<Destination, Interruption> {
        let pick = trace::random() as u32;
        let destination = self.select(request, pick)?;
        let filters = destination.demanded(self.snapshot);
        if filters.is_empty() {
            return Ok(destination);
        }
        let basis = Basis::of(self.entrance, request);
        self.chain.request(&filters, request).await?;
        if basis == Basis::of(self.entrance, request) {
            return Ok(destination);
        }
        Ok(self.select(request, pick)?)
    }

    fn select(&mut self, request: &Request<Body>, pick: u32) -> Result<Destination, RequestError> {
        let sni = self.connection.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        let destination = route::select(self.snapshot, self.entrance, request, sni, pick)?;
        self.record.route = Some(destination.route.clone());
        self.record.service = destination.service().map(|service| Arc::clone(&service.key));
        self.chain.facts().set_route(&destination.route);
        let cross = |cors: &Arc<Cors>| (Arc::clone(cors), cors.of(request.headers()));
        self.cross = destination.cors().map(cross);
        Ok(destination)
    }

    /// A gRPC call ends with the caller's time or the route's, whichever is over first; the endpoint
    /// is told what is left of it.
    fn deadlines(
        &self,
        destination: &Destination,
        request: &mut Request<Body>,
    ) -> Result<Deadlines, RequestError> {
        let rule = destination.rule();
        let (mut whole, mut callers) = (rule.and_then(|rule| rule.request_timeout), false);
        let backend = rule.and_then(|rule| rule.backend_timeout);
        let grpc = is_grpc(request.headers());
        if grpc {
            let called = grpc::timeout(request.headers());
            let called = called.map_err(|grpc::Malformed| RequestError::GrpcTimeoutMalformed)?;
            callers = called.is_some_and(|called| whole.is_none_or(|routes| called < routes));
            whole = if callers { called } else { whole };
        }
        let whole = whole.and_then(|timeout| self.record.started().checked_add(timeout));
        if let Some(deadline) = whole.filter(|_| grpc) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RequestError::Upstream(UpstreamError::ResponseTimeout));
            }
            grpc::set_timeout(request.headers_mut(), left);
        }
        let unbounded = grpc || whole.is_some();
        Ok(Deadlines {
            request: whole,
            callers,
            per_try: backend,
            silence: (backend.is_none() && !unbounded).then_some(RESPONSE_TIMEOUT_DEFAULT),
            body_idle: if grpc { GRPC_IDLE_DEFAULT } else { BODY_IDLE_DEFAULT },
        })
    }

    /// Who gets a copy of this request. An upgraded connection is not copied, and a service whose
    /// filters have not run gets nothing.
    fn mirrored(&self, destination: &Destination, request: &Request<Body>) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut mirrors = destination.actions().flat_map(|actions| &actions.mirrors).peekable();
        if mirrors.peek().is_none() || request.extensions().get::<Upgrade>().is_some() {
            return targets;
        }
        for mirror in mirrors.filter(|mirror| mirror::is_chosen(mirror.share)) {
            let Some(service) = self.snapshot.services.get(&mirror.target) else { continue };
            let denied = self.snapshot.denied_services.contains_key(&mirror.target);
            match authorize::check_copy(self.snapshot, self.entrance, service, &self.chain, request)
            {
                Ok(checked) if !denied => {
                    targets.push(Target { cluster: service.cluster.clone(), checked });
                }
                _ => self.mirrors.refused(),
            }
        }
        targets
    }

    /// The listener's port is the one that clients name: of a Service's entrance its own.
    fn redirect(&self, redirect: &Redirect, request: &Request<Body>) -> Response<Body> {
        let asked = Asked {
            tls: self.connection.tls.is_some(),
            host: request.uri().host().unwrap_or_default(),
            port: match &self.entrance.model.kind {
                EntranceKind::Gateway => self.entrance.model.port,
                EntranceKind::Service(key) => key.port,
            },
            path: request.uri().path(),
            query: request.uri().query(),
        };
        response::of_redirect(redirect.status, &redirect.location(&asked))
    }

    async fn send(
        &mut self,
        cluster: &Cluster,
        permitted: Permitted,
        deadlines: Deadlines,
    ) -> Result<Response<Body>, Interruption> {
        let sent = Instant::now();
        // Pinned here: it is large, and moving it costs.
        let sending = pin!(cluster.send(permitted, deadlines));
        let sent_or_retired = unless(self.chain.retired(), sending).await;
        let (answer, peer) = match sent_or_retired.ok_or(RequestError::Retired)? {
            Ok(answered) => answered,
            Err(UpstreamError::RequestBody(error)) => {
                // A filter that ended the body has left its reason.
                let reason = self.chain.take_interruption();
                return Err(reason.unwrap_or(RequestError::RequestBody(error).into()));
            }
            Err(error) => return Err(RequestError::Upstream(error).into()),
        };
        self.record.upstream_time = Some(sent.elapsed());
        self.record.upstream = Some(peer.address);
        self.record.attempts = peer.attempts;
        self.chain.facts().set_upstream(peer.address);
        Ok(answer)
    }

    /// The answer's way back through the filters, and what records it to its end.
    async fn back(
        mut self,
        answer: Result<(Destination, Response<Body>), Interruption>,
    ) -> Response<Body> {
        let (answer, answerer) = self.answer(answer);
        let answer = self.chain.response(answer, &mut self.record).await;
        finish(answer, self.record, self.chain, answerer)
    }

    /// What goes back: the answer as the rule edits it, or that of an interruption; and who gave it.
    fn answer(
        &mut self,
        answer: Result<(Destination, Response<Body>), Interruption>,
    ) -> (Response<Body>, response::Answerer) {
        let cross = self.cross.take();
        match answer {
            Ok((destination, answer)) => {
                let (details, answerer) = answered_by(&destination);
                self.record.details = details;
                (edited(answer, &destination, cross), answerer)
            }
            Err(interruption) => {
                self.record.interrupted(&interruption);
                let mut answer = response::of_interruption(interruption, self.record.grpc);
                if let Some((cors, cross)) = cross {
                    cors.answer(&cross, answer.headers_mut());
                }
                (answer, response::Answerer::Waypoint)
            }
        }
    }
}

/// Who answered, for the record: the name of what did, and what kind of answer it is.
fn answered_by(destination: &Destination) -> (&'static str, response::Answerer) {
    match destination.onward {
        Onward::Service(_) => ("via_upstream", response::Answerer::Upstream),
        Onward::Preflight => ("cors_preflight", response::Answerer::Waypoint),
        Onward::Redirect(_) => ("route_redirect", response::Answerer::Waypoint),
        Onward::Waypoint => ("final_recipient", response::Answerer::Waypoint),
    }
}

/// What the upstream gets: one hop less, `urlRewrite`, then `requestHeaderModifier` of the rule, then that of its
/// backend. Filters, policies and records have seen the request as it came.
fn edit(request: &mut Request<Body>, destination: &Destination) -> Result<(), UpstreamError> {
    if let Some(rewrite) = destination.rewrite() {
        *request.uri_mut() = rewrite
            .apply(request.uri())
            .map_err(|_| UpstreamError::InvalidRequest { reason: "rewritten_uri" })?;
    }
    for actions in destination.actions() {
        actions.request_headers.apply(request.headers_mut());
    }
    let method = request.method().clone();
    hygiene::count_hop(&method, request.headers_mut());
    Ok(())
}

/// `responseHeaderModifier` of the backend, then of its rule, then `cors`.
fn edited(
    mut answer: Response<Body>,
    destination: &Destination,
    cross: Option<(Arc<Cors>, CrossOrigin)>,
) -> Response<Body> {
    for actions in destination.actions().rev() {
        actions.response_headers.apply(answer.headers_mut());
    }
    if let Some((cors, cross)) = cross {
        match destination.onward {
            Onward::Preflight => cors.preflight(&cross, answer.headers_mut()),
            _ => cors.answer(&cross, answer.headers_mut()),
        }
    }
    answer
}

fn refuse(error: &RequestError, mut record: Box<Record>, chain: Chain) -> Box<Response<Body>> {
    let outcome = error.outcome();
    record.failed(&outcome);
    let answer = response::of_error(error, record.grpc);
    Box::new(finish(answer, record, chain, response::Answerer::Waypoint))
}

fn finish(
    answer: Response<Body>,
    mut record: Box<Record>,
    chain: Chain,
    answerer: response::Answerer,
) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    record.head(&parts);
    if http_body::Body::is_end_stream(&body) || !record.expects_body() {
        record.complete();
    }
    response::recorded(Response::from_parts(parts, body), record, chain, answerer)
}
