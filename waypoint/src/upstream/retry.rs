//! Tries a request until it is answered or must not be tried again.
//!
//! Takes a request and a cluster, gives a response head. A request is sent again when nothing of it
//! was sent or the endpoint vouches that it was not processed (then with its body, if what was sent
//! of it could be kept); and once when it is safe, has no
//! body, and its connection, used before, died before an answer began. Each try prefers an endpoint
//! that has not been tried. A service's retries have a budget; past it the failure is the answer.

mod budget;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::{Extensions, Method, Request, Response};
use http_body::Body as _;

use super::balance::{Connections, Endpoint, Outstanding, has_untried, pick};
use super::deadline::{Turn, within_head_time};
use super::health::{self, Verdict};
use super::{Cluster, Deadlines, UpstreamError, UpstreamPeer, head, http1, http2};
use crate::codec::body::Body;
use crate::codec::{Ahead, Interim};
pub use budget::RetryBudget;
use budget::Retrying;

/// What an attempt must know besides the request.
pub(super) struct Plan {
    pub(super) deadlines: Deadlines,
    /// The request asks for a WebSocket.
    pub(super) upgrade: bool,
    /// The request may be sent once more although it was sent: it is safe and has no body.
    pub(super) repeatable: bool,
    /// Only a new connection will do: others of the same age have just shown to be dead.
    pub(super) fresh: bool,
    /// How much the endpoint may send before the client takes any of it.
    pub(super) ahead: Option<Ahead>,
    /// Where heads of 1xx go; without it they are dropped.
    pub(super) interim: Option<Interim>,
}

impl Plan {
    /// Passes a head of 1xx on, without what concerned the hop to the endpoint only.
    pub(super) fn give_interim(&self, mut head: Response<()>) {
        if let Some(interim) = &self.interim {
            head::clean_response(head.headers_mut());
            interim.give(head);
        }
    }
}

/// The request of all attempts: an attempt takes it when it sends it, and puts it back when it may
/// be sent again. It stays in one place, for moving a request from future to future costs.
pub(super) type Outgoing = Option<Box<Request<Body>>>;

/// An attempt without a response head.
pub(super) struct Failure {
    pub(super) error: UpstreamError,
    pub(super) again: Again,
}

/// Whether the request may be tried again; if so it is back in [`Outgoing`].
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Again {
    No,
    /// The endpoint has processed nothing of it.
    Unsent,
    /// Nor has this one, whose connection was ending in good order: what it costs to send the
    /// request once more is no storm, and is not taken from the budget the first time.
    Retired,
    /// It was sent, its connection died, and `Plan::repeatable` allowed for that.
    Died,
}

/// See [`Cluster::send`].
pub(super) async fn send(
    cluster: &Cluster,
    mut request: Box<Request<Body>>,
    interim: Option<Interim>,
    deadlines: Deadlines,
) -> Result<(Response<Body>, UpstreamPeer), UpstreamError> {
    let upgrade = head::prepare(&mut request, cluster.protocol, cluster.is_secure())?;
    let repeatable = is_safe(request.method()) && request.body().is_end_stream();
    let ahead = request.extensions_mut().remove();
    // Nothing reads them from here on.
    *request.extensions_mut() = Extensions::new();
    let mut plan = Plan { deadlines, upgrade, repeatable, fresh: false, ahead, interim };
    let turn = Turn::watch(&mut request);
    let mut outgoing = Some(request);
    let mut tried = Vec::new();
    let (mut _retrying, mut excused) = (None, false);
    loop {
        let endpoint = pick(cluster, &tried).ok_or(UpstreamError::NoEndpoints)?;
        let answer = {
            let attempt = pin!(attempt(endpoint, &mut outgoing, &plan));
            within_head_time(&plan.deadlines, turn.as_ref(), attempt).await
        };
        let verdict = match &answer {
            None if plan.deadlines.caller_has_left() => Verdict::Nothing,
            // Or clients that stall their uploads could have endpoints ejected.
            None if turn.as_ref().is_some_and(Turn::is_clients) => Verdict::Nothing,
            answer => Verdict::of(answer.as_ref(), cluster.protocol),
        };
        health::note(cluster, endpoint, verdict);
        let failure = match answer {
            None => return Err(UpstreamError::ResponseTimeout),
            Some(Err(failure)) => failure,
            Some(Ok(response)) => {
                let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX).saturating_add(1);
                let address = endpoint.address;
                return Ok((response, UpstreamPeer { address, attempts }));
            }
        };
        tried.push(endpoint.address);
        let left = tried.len() < endpoint.shared.limits.attempts_max as usize;
        match failure.again {
            Again::Unsent if left && worth_while(&failure.error, cluster, &tried) => {}
            Again::Retired if left => {}
            Again::Died if left => plan.repeatable = false, // Once.
            _ => return Err(failure.error),
        }
        _retrying = None; // Its place is free for the next one.
        if failure.again == Again::Retired && !excused {
            excused = true;
            endpoint.shared.counters.retried(cluster.service());
        } else {
            _retrying = match Retrying::begin(cluster) {
                None => return Err(failure.error),
                retrying => retrying,
            };
        }
        plan.fresh = true;
    }
}

async fn attempt(
    endpoint: &Arc<Endpoint>,
    outgoing: &mut Outgoing,
    plan: &Plan,
) -> Result<Response<Body>, Failure> {
    let outstanding = Outstanding::begin(endpoint);
    match endpoint.connections {
        Connections::Http1(_) => http1::attempt(outstanding, outgoing, plan).await,
        // In a box: what it takes is not carried by requests to HTTP/1 endpoints.
        Connections::Http2(_) => Box::pin(http2::attempt(outstanding, outgoing, plan)).await,
    }
}

/// Takes the request to send it.
pub(super) fn take(outgoing: &mut Outgoing) -> Box<Request<Body>> {
    outgoing.take().expect("a request is put back before it is tried again")
}

/// Methods that change nothing (RFC 9110, 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether a request that was not sent could fare better at the next try.
fn worth_while(error: &UpstreamError, cluster: &Cluster, tried: &[SocketAddr]) -> bool {
    match error {
        UpstreamError::ConnectTimeout { .. }
        | UpstreamError::ConnectRefused { .. }
        | UpstreamError::ConnectFailed { .. }
        | UpstreamError::Tls { .. }
        | UpstreamError::QueueFull { .. } => has_untried(&cluster.endpoints, tried),
        // Its caller has waited long enough.
        UpstreamError::QueueTimeout { .. } => false,
        _ => true,
    }
}
