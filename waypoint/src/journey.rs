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

use http::{Request, Response, request};
use tokio::time::Instant;

use crate::access_log::{Record, Records};
use crate::authorize::{self, Permitted};
use crate::codec::body::Body;
use crate::codec::{self, ConnectionInfo, Interim, Refusal};
use crate::drain::unless;
use crate::error::RequestError;
use crate::filter_chain::{Chain, Interruption, StreamFacts, is_grpc};
use crate::identity::{self, TrustedHops};
use crate::memory::MemoryBudget;
use crate::route::{self, Basis, Destination};
use crate::snapshot::{Current, ServedEntrance, Snapshot};
use crate::upstream::{Deadlines, UpstreamError, UpstreamPeer};
use crate::{grpc, response, trace};

/// How long an endpoint may take to begin its answer where the route sets nothing; gRPC streams
/// have no such bound.
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
}

impl Journey {
    /// Requests see `current`'s snapshot of their moment, are recorded in `records`, and are shed
    /// when `memory` is short.
    pub fn new(
        current: Arc<Current>,
        records: Arc<Records>,
        trusted: Arc<TrustedHops>,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        Self { current, records, trusted, memory }
    }
}

impl codec::Journey for Journey {
    async fn call(
        &self,
        request: Request<Body>,
        connection: &Arc<ConnectionInfo>,
        interim: &Interim,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        identity::bind(&mut parts.headers, connection, &self.trusted);
        let ids = trace::bind(&mut parts.headers);
        let mut record = Record::open(&self.records, connection, &parts, &ids);
        let grpc = record.grpc;
        let body = record.count(body);

        let snapshot = self.current.load();
        let entrance = snapshot.entrances.get(&connection.entrance);
        let port = entrance.map_or(0, |entrance| entrance.model.port);
        let facts = StreamFacts::new(Arc::clone(connection), parts.version, ids, port);
        let chain = Chain::new(Arc::new(facts));
        if self.memory.is_short() {
            return refuse(&RequestError::MemoryShort, grpc, record, chain);
        }
        let Some(entrance) = entrance else {
            return refuse(&RequestError::EntranceGone, grpc, record, chain);
        };
        let mut walk =
            Walk { snapshot: &snapshot, entrance, chain, record: &mut record, connection, interim };
        let answer = walk.up(parts, body).await;
        let chain = walk.chain;
        match answer {
            Ok((destination, answer)) => {
                record.details = "via_upstream";
                let answer = chain.response(edited(answer, &destination), &mut record).await;
                finish(answer, record, chain, response::Answerer::Upstream)
            }
            Err(interruption) => {
                record.interrupted(&interruption);
                let answer = response::of_interruption(interruption, grpc);
                let answer = chain.response(answer, &mut record).await;
                finish(answer, record, chain, response::Answerer::Waypoint)
            }
        }
    }

    fn refused(&self, refusal: &Refusal, connection: &ConnectionInfo) {
        self.records.refused(refusal, connection);
    }
}

/// One request on its way up.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    entrance: &'a ServedEntrance,
    chain: Chain,
    record: &'a mut Record,
    connection: &'a ConnectionInfo,
    interim: &'a Interim,
}

impl Walk<'_> {
    /// The stages up to the upstream's answer.
    async fn up(
        &mut self,
        mut parts: request::Parts,
        body: Body,
    ) -> Result<(Destination, Response<Body>), Interruption> {
        if let Some(resource) = &self.entrance.denied_by {
            return Err(RequestError::PolicyRefused { resource: resource.clone() }.into());
        }
        let body = self.chain.request(&self.entrance.filters, &mut parts, body).await?;
        let (destination, body) = self.settle(&mut parts, body).await?;
        self.record.show(&parts);
        let deadlines = self.deadlines(&destination, &mut parts)?;
        edit(&mut parts, &destination);
        let permitted = authorize::permit(
            self.snapshot,
            self.entrance,
            &destination,
            &self.chain,
            parts,
            body,
        )?;
        // They pass no filter: where one may have to clean the answer, they are dropped.
        let interim = self.chain.is_empty().then(|| self.interim.clone());
        let permitted = permitted.with_interim(interim);
        let answer = self.send(&destination, permitted, deadlines).await?;
        Ok((destination, answer))
    }

    /// Chooses the route and runs its filters; when they change what it was chosen by, it is chosen
    /// again. The filters of a route run once: what the new one demands beyond them is refused by
    /// [`authorize::permit`].
    async fn settle(
        &mut self,
        parts: &mut request::Parts,
        body: Body,
    ) -> Result<(Destination, Body), Interruption> {
        let pick = trace::random() as u32;
        let destination = self.select(parts, pick)?;
        let filters = destination.demanded(self.snapshot);
        if filters.is_empty() {
            return Ok((destination, body));
        }
        let basis = Basis::of(self.entrance, parts);
        let body = self.chain.request(&filters, parts, body).await?;
        if basis == Basis::of(self.entrance, parts) {
            return Ok((destination, body));
        }
        Ok((self.select(parts, pick)?, body))
    }

    fn select(&mut self, parts: &request::Parts, pick: u32) -> Result<Destination, RequestError> {
        let sni = self.connection.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        let destination = route::select(self.snapshot, self.entrance, parts, sni, pick)?;
        self.record.route = Some(Arc::clone(&destination.id));
        self.record.service = Some(Arc::clone(&destination.service.key));
        self.chain.facts().set_route(&destination.id);
        Ok(destination)
    }

    /// A gRPC call ends with the caller's time or the route's, whichever is over first; the endpoint
    /// is told what is left of it.
    fn deadlines(
        &self,
        destination: &Destination,
        parts: &mut request::Parts,
    ) -> Result<Deadlines, RequestError> {
        let rule = destination.rule.as_ref();
        let mut request = rule.and_then(|rule| rule.request_timeout);
        let backend = rule.and_then(|rule| rule.backend_timeout);
        let grpc = is_grpc(&parts.headers);
        if grpc {
            let called = grpc::timeout(&parts.headers);
            let called = called.map_err(|grpc::Malformed| RequestError::GrpcTimeoutMalformed)?;
            request = called.into_iter().chain(request).min();
        }
        let request = request.and_then(|timeout| self.record.started().checked_add(timeout));
        if let Some(deadline) = request.filter(|_| grpc) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RequestError::Upstream(UpstreamError::ResponseTimeout));
            }
            grpc::set_timeout(&mut parts.headers, left);
        }
        let unbounded = grpc || request.is_some();
        Ok(Deadlines {
            request,
            per_try: backend.or((!unbounded).then_some(RESPONSE_TIMEOUT_DEFAULT)),
            body_idle: if grpc { GRPC_IDLE_DEFAULT } else { BODY_IDLE_DEFAULT },
        })
    }

    async fn send(
        &mut self,
        destination: &Destination,
        permitted: Permitted,
        deadlines: Deadlines,
    ) -> Result<Response<Body>, Interruption> {
        let sent = Instant::now();
        // Pinned here: it is large, and moving it costs.
        let sending = pin!(destination.service.cluster.send(permitted, deadlines));
        let sent_or_retired = unless(self.chain.retired(), sending).await;
        let answer = match sent_or_retired.ok_or(RequestError::Retired)? {
            Ok(answer) => answer,
            Err(UpstreamError::RequestBody(error)) => {
                // A filter that ended the body has left its reason.
                let reason = self.chain.take_interruption();
                return Err(reason.unwrap_or(RequestError::RequestBody(error).into()));
            }
            Err(error) => return Err(RequestError::Upstream(error).into()),
        };
        self.record.upstream_time = Some(sent.elapsed());
        if let Some(peer) = answer.extensions().get::<UpstreamPeer>() {
            self.record.upstream = Some(peer.address);
            self.record.attempts = peer.attempts;
            self.chain.facts().set_upstream(peer.address);
        }
        Ok(answer)
    }
}

/// `requestHeaderModifier` of the rule, then of its backend.
fn edit(parts: &mut request::Parts, destination: &Destination) {
    if let Some(rule) = &destination.rule {
        rule.request_headers.apply(&mut parts.headers);
    }
    if let Some(backend) = destination.backend() {
        backend.request_headers.apply(&mut parts.headers);
    }
}

/// `responseHeaderModifier` of the backend, then of its rule.
fn edited(mut answer: Response<Body>, destination: &Destination) -> Response<Body> {
    if let Some(backend) = destination.backend() {
        backend.response_headers.apply(answer.headers_mut());
    }
    if let Some(rule) = &destination.rule {
        rule.response_headers.apply(answer.headers_mut());
    }
    answer
}

fn refuse(error: &RequestError, grpc: bool, mut record: Record, chain: Chain) -> Response<Body> {
    let outcome = error.outcome();
    record.failed(&outcome);
    finish(response::of_error(error, grpc), record, chain, response::Answerer::Waypoint)
}

fn finish(
    answer: Response<Body>,
    mut record: Record,
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
